"""A reflection as one Gaussian: its derivatives, its covariance and its averages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nbtorch.functional import profile
from nbtorch.functional.lattice import gaussian
from nbtorch.functional.profile import Covariances, Place, Shift
from nbtorch.functional.rotation import rotation_matrix, unit


def place(generator: torch.Generator) -> Place:
    """A place in no special position."""

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, dtype=torch.float64, generator=generator)

    return Place(
        50 * normal(3), unit(normal(3)), torch.tensor(1.1, dtype=torch.float64), 30 * normal(3, 3), unit(normal(3))
    )


def shift(size: float, generator: torch.Generator) -> Shift:
    values = size * torch.randn(11, dtype=torch.float64, generator=generator)
    return Shift(values[:3], values[3], values[4:7], 10 * values[7:10], values[10])


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_index_at_a_shift_is_that_of_the_turned_crystal_the_moved_beam_and_place(generator: torch.Generator) -> None:
    where, moved = place(generator), shift(0.02, generator)
    turn = rotation_matrix(moved.spindle * where.spindle) @ rotation_matrix(moved.mosaic)
    rays = unit(where.position + moved.position) - unit(where.incident + moved.incident)
    expected = (where.basis @ turn.T) @ rays / (where.wavelength * (1 + moved.wavelength))
    assert (profile.linear_at(where, moved).hkl - expected).abs().max() < 1e-12  # worst seen 7e-15


@pytest.mark.parametrize("size", [0.0, 0.02])
def test_slopes_are_the_derivatives_of_the_index(size: float, generator: torch.Generator) -> None:
    where, moved = place(generator), shift(size, generator)
    found = profile.linear_at(where, moved)
    expected = torch.func.jacrev(lambda *values: profile.linear_at(where, Shift(*values)).hkl, argnums=(0, 1, 2, 3, 4))(
        *moved
    )
    for one, other in zip(found[1:], expected, strict=True):
        assert (one - other).abs().max() < 1e-12  # worst seen 2.8e-14, of 40
    if size == 0:
        for one, other in zip(profile.linear(where), found, strict=True):
            assert (one - other).abs().max() < 1e-13  # worst seen 7e-15


def test_reflection_covariance_is_that_of_the_lattice_factor_squared(generator: torch.Generator) -> None:
    n_cells = torch.tensor([5.0, 4.0, 6.0], dtype=torch.float64)
    metric, offset = 1.1 * torch.diag(n_cells**2), torch.tensor([0.05, -0.08, 0.03], dtype=torch.float64)
    inverse = profile.inverse_and_determinant(profile.reflection_covariance(metric))[0]
    expected = (gaussian(offset, n_cells, metric) / n_cells.prod()) ** 2
    assert float(torch.exp(-0.5 * offset @ inverse @ offset)) == pytest.approx(float(expected), rel=1e-14)


def test_covariance_is_that_of_drawn_spreads(generator: torch.Generator) -> None:
    """The table of docs/closed_form.md, by 200 000 draws; each spread alone, so that none hides another."""
    where = place(generator)
    eye, none = torch.eye(3, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)
    draws = 1e-4 * torch.randn(200_000, 3, dtype=torch.float64, generator=generator)
    zero, still = torch.zeros_like(draws), torch.zeros_like(draws[:, 0])
    at = profile.linear(where)
    cases = {
        "mosaic": (Covariances(1e-8 * eye, still[0], none, none, still[:3]), Shift(draws, still, zero, zero, still)),
        "wavelength": (
            Covariances(none, still[0] + 1e-8, none, none, still[:3]),
            Shift(zero, draws[:, 0], zero, zero, still),
        ),
        "incident": (Covariances(none, still[0], 1e-8 * eye, none, still[:3]), Shift(zero, still, draws, zero, still)),
        "position": (
            Covariances(none, still[0], none, 1e-4 * eye, still[:3]),
            Shift(zero, still, zero, 100 * draws, still),
        ),
    }
    for name, (spreads, drawn) in cases.items():
        expected = torch.cov(profile.linear_at(where, drawn).hkl.T)
        error = (profile.covariance(none, at, spreads) - expected).abs().max() / expected.diagonal().max()
        assert float(error) < 0.01, name  # four standard errors of the draws are 0.013; worst seen 0.004


def test_uniform_average_is_the_integral_and_regular_at_zero() -> None:
    nodes, weights = np.polynomial.legendre.leggauss(400)
    for curvature in (0.0, 1e-12, 0.1, 0.4999, 0.5001, 3.0, 40.0, 4000.0):
        for constant in (0.0, 1.0, 20.0):
            for share in (-0.99, -0.3, 0.0, 0.5, 0.99):
                slope = 2 * share * (curvature * constant) ** 0.5
                expected = float((weights * np.exp(-constant - slope * nodes - curvature * nodes**2)).sum() / 2)
                numbers = [torch.tensor(x, dtype=torch.float64) for x in (constant, slope, curvature)]
                found = float(profile.uniform_average(*numbers))
                assert found == pytest.approx(expected, rel=1e-12, abs=1e-16)
                leaves = [number.requires_grad_() for number in numbers]
                profile.uniform_average(*leaves).backward()
                assert all(bool(torch.isfinite(leaf.grad)) for leaf in leaves)  # type: ignore[arg-type]


@pytest.mark.parametrize("curvature", [0.0, 0.2, 0.7, 30.0])
def test_uniform_average_has_the_right_gradient(curvature: float) -> None:
    numbers = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (1.0, 0.3 * curvature, curvature)]
    assert torch.autograd.gradcheck(profile.uniform_average, numbers)


def test_a_shift_without_spread_is_none_and_a_far_one_is_none(generator: torch.Generator) -> None:
    where = place(generator)
    none, at = torch.zeros(3, 3, dtype=torch.float64), profile.linear(where)
    zero, intrinsic = none[0], 1e-4 * torch.eye(3, dtype=torch.float64)
    still = profile.likely_shift(zero + 0.01, intrinsic, at, Covariances(none, zero[0], none, none, zero), 0.0)
    assert all(not bool(value.any()) for value in still)
    wide = Covariances(none, zero[0] + 1e-4, none, none, zero)
    far = profile.likely_shift(at.hkl.sign() * 100, intrinsic, at, wide, 0.0)
    assert not bool(far.wavelength.any())
