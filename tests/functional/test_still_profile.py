"""Where spots of stills fall, from a profile in reciprocal space."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nbtorch.functional.still_profile import isotropic_covariance, still_spots

WAVE = torch.tensor([0.02, -0.01, 0.8], dtype=torch.float64)


def near_the_sphere(off: tuple[float, ...] = (2e-3, -3e-3, 1e-3)) -> Tensor:
    """Reflections [3, 3] whose excitation errors are ``off`` (Å⁻¹)."""
    rays = torch.tensor([[0.3, 0.1, 1.0], [-0.2, 0.4, 1.0], [0.5, -0.3, 0.9]], dtype=torch.float64)
    lengths = WAVE.norm() + torch.tensor(off, dtype=torch.float64)
    return rays / rays.norm(dim=1, keepdim=True) * lengths[:, None] - WAVE


def variances(*values: float) -> tuple[Tensor, ...]:
    """Size, mosaic and bandwidth as tensors."""
    return tuple(torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in values)


def test_round_profile_falls_on_the_nearest_point_of_the_sphere() -> None:
    r = near_the_sphere()
    spot = still_spots(r, isotropic_covariance(r, *variances(1e-6, 0.0, 0.0)), WAVE)
    nearest = (WAVE + r) / (WAVE + r).norm(dim=1, keepdim=True)
    torch.testing.assert_close(spot.ray, nearest, rtol=0, atol=1e-14)
    torch.testing.assert_close(spot.variance, torch.full((3,), 1e-6, dtype=torch.float64))


@pytest.mark.parametrize("spreads", [(1e-6, 0.0, 4e-6), (1e-6, 9e-6, 0.0), (4e-7, 1e-6, 2e-6)])
def test_centroid_is_the_most_likely_point_of_the_sphere(spreads: tuple[float, float, float]) -> None:
    r = near_the_sphere()
    covariance = isotropic_covariance(r, *variances(*spreads)).detach()
    spot = still_spots(r, covariance, WAVE)
    inverse = torch.linalg.inv(covariance)

    def distance(ray: Tensor) -> Tensor:
        p = ray / ray.norm(dim=1, keepdim=True) * WAVE.norm() - WAVE - r
        return torch.einsum("ni,nij,nj->n", p, inverse, p)

    best = distance(spot.ray)
    for axis in torch.eye(3, dtype=torch.float64):
        for step in (2e-4, -2e-4):  # radians; the minimum is that of the touching plane, 1e-5 off the sphere's own
            assert bool((distance(spot.ray + step * axis) > best - 1e-9).all())


def test_bandwidth_moves_a_spot_along_its_excitation_error() -> None:
    r = near_the_sphere((2e-3, 2e-3, 2e-3))
    plain = still_spots(r, isotropic_covariance(r, *variances(1e-6, 0.0, 0.0)), WAVE)
    wide = still_spots(r, isotropic_covariance(r, *variances(1e-9, 0.0, 1e-4)), WAVE)
    # another wavelength puts the reflection on the sphere: k moves along k₀ until |k₀(1 + ε) + r| = |k₀|(1 + ε)
    stretch = -(r**2).sum(1) / (2 * (r @ WAVE))
    exact = r + stretch[:, None] * WAVE
    exact = exact / exact.norm(dim=1, keepdim=True)
    missed = (wide.ray - exact).norm(dim=1) / (plain.ray - exact).norm(dim=1)
    assert float(missed.detach().max()) < 0.05


def test_light_falls_off_by_the_variance_of_the_excitation_error() -> None:
    r, on = near_the_sphere(), near_the_sphere((0.0, 0.0, 0.0))
    of = variances(1e-6, 0.0, 0.0)
    off = still_spots(r, isotropic_covariance(r, *of), WAVE)
    full = still_spots(on, isotropic_covariance(on, *of), WAVE)
    torch.testing.assert_close(off.log_light - full.log_light, -(off.excitation**2) / 2e-6, rtol=1e-9, atol=0)


def test_covariance_of_a_spot_lies_across_its_ray() -> None:
    r = near_the_sphere()
    spot = still_spots(r, isotropic_covariance(r, *variances(1e-6, 4e-6, 2e-6)), WAVE)
    along = torch.einsum("nij,nj->ni", spot.covariance, spot.ray)
    assert float(along.detach().abs().max()) < 1e-20


@pytest.mark.parametrize("spreads", [(1.0, 0.0, 0.0), (1.0, 2.0, 3.0)])  # zero spreads too
def test_derivatives_are_those_of_the_values(spreads: tuple[float, float, float]) -> None:
    def found(r: Tensor, wave: Tensor, size: Tensor, mosaic: Tensor, bandwidth: Tensor) -> tuple[Tensor, ...]:
        covariance = isotropic_covariance(r, 1e-4 * size, 1e-4 * mosaic, 1e-4 * bandwidth)
        spot = still_spots(r, covariance, wave)
        return spot.ray, spot.covariance * 1e4, spot.excitation, spot.variance * 1e4, spot.log_light

    given = near_the_sphere().requires_grad_(), WAVE.clone().requires_grad_(), *variances(*spreads)
    assert torch.autograd.gradcheck(found, given, eps=1e-6, atol=1e-7)


def test_a_full_covariance_of_the_crystal_is_differentiable() -> None:
    r, base = near_the_sphere(), torch.tensor([[2.0, 0.3, 0.1], [0.3, 1.0, -0.2], [0.1, -0.2, 3.0]]).double()

    def ray(covariance: Tensor) -> Tensor:
        return still_spots(r, (covariance + covariance.T).expand(3, 3, 3), WAVE).ray

    assert torch.autograd.gradcheck(ray, base.requires_grad_(), eps=1e-6, atol=1e-8)
