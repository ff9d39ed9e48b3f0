"""The five shapes: their peaks, their symmetry, and the smooth functions they are made of."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.special import spherical_jn

from nbtorch.errors import ConfigError
from nbtorch.functional.lattice import (
    GAUSS_WIDTH,
    ROUND_SCALE,
    SHAPES,
    TOPHAT_EDGE,
    interference,
    lattice_factor,
    shape_metric,
    sinc,
    sinc3,
)

pytestmark = pytest.mark.usefixtures("float64")
N = torch.tensor([5.0, 7.0, 9.0], dtype=torch.float64)
STARS = torch.tensor([[0.05, 0.0, 0.0], [0.01, 0.04, 0.0], [0.002, -0.004, 0.03]], dtype=torch.float64)
FUDGE = 1.3


@pytest.mark.parametrize("shape", SHAPES)
def test_peak_is_the_number_of_cells(shape: str) -> None:
    """Round: times nanoBragg's 0.7236."""
    peak = lattice_factor(shape, torch.zeros(3), N, shape_metric(shape, N, STARS, FUDGE))
    expected = float(N.prod()) * (ROUND_SCALE if shape == "round" else 1.0)
    assert float(peak) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("shape", SHAPES)
def test_shape_is_even_and_never_above_its_peak(shape: str) -> None:
    offset = torch.rand(500, 3) - 0.5
    metric = shape_metric(shape, N, STARS, FUDGE)
    value = lattice_factor(shape, offset, N, metric)
    assert torch.equal(value, lattice_factor(shape, -offset, N, metric))
    assert bool((value.abs() <= lattice_factor(shape, torch.zeros(3), N, metric)).all())


def test_square_is_the_interference_function_at_any_index() -> None:
    """[sin πNx/sin πx]² for x itself, not reduced to the nearest integer."""
    x = torch.rand(200) * 8 - 4
    reduced = interference((x - torch.round(x))[:, None], torch.tensor([7.0]))[:, 0]
    plain = torch.sin(7 * math.pi * x) / torch.sin(math.pi * x)
    torch.testing.assert_close(reduced**2, plain**2, rtol=2e-12, atol=0)  # worst seen 2.8e-13: 7π·4 in sin


def test_an_axis_of_one_cell_is_left_out() -> None:
    value = interference(torch.tensor([[0.2, 0.2, 0.2]]), torch.tensor([1.0, 0.5, 3.0]))
    assert value[0, :2].tolist() == [1.0, 1.0]
    assert float(value[0, 2]) == pytest.approx(math.sin(0.6 * math.pi) / math.sin(0.2 * math.pi))


def test_gauss_and_tophat_see_lengths_in_reciprocal_space_times_the_number_of_cells() -> None:
    offset = torch.tensor([0.01, -0.02, 0.015])
    length = float((offset @ STARS).norm()) * float(N.prod())
    gauss = lattice_factor("gauss", offset, N, shape_metric("gauss", N, STARS, FUDGE))
    assert float(gauss) == pytest.approx(float(N.prod()) * math.exp(-(length**2) * FUDGE / GAUSS_WIDTH), rel=1e-14)
    metric = shape_metric("tophat", N, STARS, FUDGE)
    edge = math.sqrt(TOPHAT_EDGE / FUDGE) / length
    inside, outside = (float(lattice_factor("tophat", offset * edge * k, N, metric)) for k in (0.999999, 1.000001))
    assert (inside, outside) == (float(N.prod()), 0.0)


@pytest.mark.parametrize("shape", ["round", "gauss_hkl"])
def test_round_and_gauss_hkl_see_index_offsets_times_cells(shape: str) -> None:
    offset = torch.tensor([0.03, -0.05, 0.02])
    rho = math.sqrt(FUDGE) * float((offset * N).norm())
    y = math.pi * rho
    ball = ROUND_SCALE * 3 * (math.sin(y) / y - math.cos(y)) / y**2
    expected = float(N.prod()) * (ball if shape == "round" else math.exp(-(rho**2) / GAUSS_WIDTH))
    value = lattice_factor(shape, offset, N, shape_metric(shape, N, STARS, FUDGE))
    assert float(value) == pytest.approx(expected, rel=1e-14)


def test_sinc_is_smooth_through_zero_and_where_the_series_ends() -> None:
    y = torch.tensor([0.0, 1e-9, 1e-4, 0.05, 0.0999999, 0.1000001, 0.3, 2.0, math.pi], requires_grad=True)
    value = sinc(y)
    (slope,) = torch.autograd.grad(value.sum(), y)
    torch.testing.assert_close(value.detach(), torch.special.sinc(y.detach() / math.pi), rtol=0, atol=3e-16)
    # −j₁(y); worst seen 1.5e-15, where the closed form has lost a digit
    torch.testing.assert_close(slope, -torch.from_numpy(spherical_jn(1, y.detach().numpy())), rtol=0, atol=3e-15)


def test_sinc3_is_the_transform_of_a_ball_smooth_through_zero() -> None:
    """3 j₁(y)/y; its derivative in y² is −3 j₂(y)/(2y²)."""
    y = torch.tensor([1e-6, 1e-3, 0.2, 0.4999999, 0.5000001, 1.0, 4.0])
    squared = (y**2).requires_grad_()
    value = sinc3(squared)
    (slope,) = torch.autograd.grad(value.sum(), squared)
    first, second = (torch.from_numpy(spherical_jn(n, y.numpy())) for n in (1, 2))
    torch.testing.assert_close(value.detach(), 3 * first / y, rtol=5e-15, atol=0)  # worst seen 3.7e-15, scipy at 1e-6
    torch.testing.assert_close(slope[1:], (-3 * second / (2 * y**2))[1:], rtol=1e-14, atol=0)  # worst seen 5.2e-15
    assert float(sinc3(torch.tensor(0.0))) == 1.0
    assert float(slope[0]) == pytest.approx(-0.1, rel=1e-10)


def test_unknown_shape_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="square, round, gauss, tophat, gauss_hkl"):
        lattice_factor("cube", torch.zeros(3), N, torch.eye(3))
