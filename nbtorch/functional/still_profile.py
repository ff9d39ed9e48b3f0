"""Where the spot of a still falls when its reflection is one Gaussian in reciprocal space: docs/closed_form.md.

The Ewald sphere cuts the Gaussian of covariance S about r. What it cuts out is again a Gaussian, on the plane that
touches the sphere at the spot's ray d: its mean is the spot's centroid, its covariance the spot's, its integral the
light. With S = s²·I the centroid is the nearest point of the sphere; mosaic spread and bandwidth move it along the
excitation error. Compare Parkhurst et al., J. Appl. Cryst. 54, 1669 (2021).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nbtorch.functional.profile import outer, times
from nbtorch.functional.rotation import unit

NEWTON_STEPS = 4  # each gains a factor of about λ·|excitation error|, under 0.01 even for broad spots


class StillSpot(NamedTuple):
    """What a still shows of n reflections."""

    ray: Tensor  # [n, 3] unit, of the centroid
    covariance: Tensor  # [n, 3, 3] Å⁻², of the spot on the plane across the ray
    excitation: Tensor  # [n] Å⁻¹, |k₀ + r| − |k₀|
    variance: Tensor  # [n] Å⁻², dᵀSd: of the excitation errors that show the reflection
    log_light: Tensor  # [n] ln of the share of the reflection that is seen, 0 at its peak with unit variance


def isotropic_covariance(reflection: Tensor, size: Tensor, mosaic: Tensor, bandwidth: Tensor) -> Tensor:
    """S [n, 3, 3] (Å⁻²) = size·I + mosaic·(|r|²I − rrᵀ) + bandwidth·rrᵀ of ``reflection`` r [n, 3] (Å⁻¹).

    size (Å⁻², more than 0), mosaic (rad²) and bandwidth (relative, squared) are variances: S is linear in each, so that
    derivatives are finite where a spread is zero.
    """
    along = outer(reflection)
    eye = torch.eye(3, dtype=reflection.dtype, device=reflection.device)
    across = (reflection**2).sum(-1)[..., None, None] * eye - along
    return size * eye + mosaic * across + bandwidth * along


def still_spots(reflection: Tensor, covariance: Tensor, wave: Tensor) -> StillSpot:
    """:class:`StillSpot` of ``reflection`` r [n, 3] (Å⁻¹) with ``covariance`` S [n, 3, 3] before ``wave`` k₀ [3] (Å⁻¹).

    On the plane that touches the sphere at d the mean of the Gaussian is k₀ + r + S·d·(d·p)/(dᵀSd), p being any point
    of that plane less k₀ + r; the plane is moved to where that ray goes, and so on. No inverse of S is taken.
    """
    middle, length = wave + reflection, wave.norm()
    ray = unit(middle)
    for _ in range(NEWTON_STEPS):
        smeared, variance, above = _cut(ray, middle, covariance, length)
        ray = unit(middle + smeared * (above / variance)[..., None])
    smeared, variance, above = _cut(ray, middle, covariance, length)
    seen = covariance - outer(smeared) / variance[..., None, None]
    light = -(above**2) / (2 * variance) - torch.log(variance) / 2
    return StillSpot(ray, seen, middle.norm(dim=-1) - length, variance, light)


def _cut(ray: Tensor, middle: Tensor, covariance: Tensor, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """S·d [n, 3], dᵀSd [n], and how far the plane at ``ray`` d lies from the Gaussian's middle [n]."""
    smeared = times(covariance, ray)
    return smeared, (ray * smeared).sum(-1), length - (ray * middle).sum(-1)
