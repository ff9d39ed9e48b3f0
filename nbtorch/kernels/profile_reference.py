"""The closed form of an image in plain PyTorch: the definition that the C kernel copies. docs/closed_form.md."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from nbtorch.config import Backend
from nbtorch.functional import profile, structure_factor
from nbtorch.functional.profile import Covariances, Place
from nbtorch.functional.structure_factor import StructureFactorTable
from nbtorch.kernels import reference
from nbtorch.kernels.reference import BeamFrame, PanelFrames, RaySettings, SampleGrid


class ProfileTensors(NamedTuple):
    """What the closed form takes beside the rays. S sources, K pieces of the spindle range."""

    wavelength: Tensor  # [S] Å
    bandwidth: Tensor  # [S] relative variance of each
    divergence: Tensor  # [S, 3, 3] rad², covariance of each incident direction
    basis: Tensor  # [K, 3, 3] rows a, b, c (Å, lab frame), in the middle of each piece
    mosaic: Tensor  # [K, 3, 3] rad², covariance of the mosaic rotation, lab frame
    spindle: Tensor  # [3] unit, lab frame
    intrinsic: Tensor  # [3, 3] covariance of δ of the crystal itself
    cell: Tensor  # [3] relative variance of a, b, c
    pixel: Tensor  # [] pixels², variance of the place in fast and slow: box and point spread
    scale: Tensor  # [] what multiplies |F|²·average: peak of F_latt² times √|Σ₀|
    table: StructureFactorTable | None


@dataclass(frozen=True)
class ProfileSettings:
    """Choices of the closed form. All but ``backend``, ``culling`` and ``cut`` change the answer.

    span: radians, of one piece of the spindle range. reach: how many reflections beyond the nearest are summed on each
    side, along h, k, l. iterated: linearized once more at the most likely values of what spreads. extent: how far |δ|
    is along h, k, l where a reflection still has ``culling`` of its peak, and radial: the same of |q| − |r| (Å⁻¹).
    cut: what of a reflection's peak the C kernel leaves out; 0: nothing.
    """

    span: float = 0.0
    reach: tuple[int, int, int] = (0, 0, 0)
    iterated: bool = False
    default_F: float = 0.0
    dmin: float = 0.0
    culling: float = 1e-10
    cut: float = 0.0
    extent: tuple[float, float, float] = (math.inf, math.inf, math.inf)
    radial: float = math.inf
    backend: Backend = "auto"


class ProfileTerms(NamedTuple):
    """Every intermediate of P samples, S sources, K pieces and R reflections in reach of each."""

    hkl: Tensor  # [P, S, K, 1, 3] fractional index, of no shift
    reflection: Tensor  # [P, S, K, R, 3] integers as floats
    offset: Tensor  # [P, S, K, R, 3] δ, or δ̃ where it was linearized once more
    covariance: Tensor  # [P, S, K, R or 1, 3, 3] Σ, without the spindle
    average: Tensor  # [P, S, K, R] of exp(−½δᵀΣ⁻¹δ)/√|Σ| over the spindle
    cell_factor: Tensor  # [P, S, K, R] F_cell
    kept: Tensor  # [P, S] bool: false where dmin culls the sample


def neighbours(reach: tuple[int, int, int], like: Tensor) -> Tensor:
    """Offsets [R, 3] of the reflections within ``reach`` of the nearest."""
    axes = [torch.arange(-n, n + 1, dtype=like.dtype, device=like.device) for n in reach]
    return torch.cartesian_prod(*axes).reshape(-1, 3)


def profile_terms(
    position: Tensor, spread: Tensor, incident: Tensor, tensors: ProfileTensors, settings: ProfileSettings
) -> ProfileTerms:
    """Intermediates at places ``position`` [P, 3] (mm) of covariance ``spread`` [P, 3, 3] (mm²); incident: [S, 3]."""
    place = Place(
        position[:, None, None, None, :],
        incident[:, None, None, :],
        tensors.wavelength[:, None, None],
        tensors.basis[:, None],
        tensors.spindle,
    )
    spreads = Covariances(
        tensors.mosaic[:, None],
        tensors.bandwidth[:, None, None],
        tensors.divergence[:, None, None],
        spread[:, None, None, None],
        tensors.cell,
    )
    hkl = profile.linear(place).hkl
    reflection = structure_factor.nearest_index(hkl) + neighbours(settings.reach, hkl)
    offset, total, average = averages(place, spreads, reflection, tensors.intrinsic, settings)
    scattering = reference.scattering_vector(
        position / position.norm(dim=-1, keepdim=True), incident, tensors.wavelength
    )
    return ProfileTerms(
        hkl=hkl,
        reflection=reflection,
        offset=offset,
        covariance=total,
        average=average,
        cell_factor=structure_factor.structure_factor(reflection, tensors.table, settings.default_F, "nearest"),
        kept=reference.within_resolution(scattering, settings.dmin),
    )


def averages(
    place: Place, spreads: Covariances, reflection: Tensor, intrinsic: Tensor, settings: ProfileSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """δ [..., 3], Σ [..., 3, 3] and the average [...] of reflections ``reflection`` [..., 3] seen from ``place``."""
    at = profile.linear(place)
    offset = at.hkl - reflection
    if settings.iterated:
        shift = profile.likely_shift(offset, intrinsic, at, spreads, settings.span)
        at = profile.linear_at(place, shift)
        offset = profile.offset_from(reflection, at, shift)
    total = profile.covariance(intrinsic, at, spreads)
    return offset, total, profile.average(offset, total, at.spindle, settings.span)


def profile_intensities(terms: ProfileTerms, scale: Tensor) -> Tensor:
    """Σ over pieces and reflections of |F_cell|²·average [P, S], zero where dmin culls."""
    summed = scale * (terms.cell_factor**2 * terms.average).sum((-2, -1))
    return torch.where(terms.kept, summed, 0)


def place_covariance(panels: PanelFrames, panel: Tensor, pixel: Tensor) -> Tensor:
    """[P, 3, 3] mm² of a variance ``pixel`` [] (pixels²) along fast and slow of each sample's panel ``panel`` [P]."""
    steps = panels.frame[:, :2] * panels.pixel_size[:, :, None]
    return (pixel * steps.transpose(-1, -2) @ steps)[panel]


def profile_rays(
    panels: PanelFrames,
    beam: BeamFrame,
    samples: SampleGrid,
    rays: RaySettings,
    tensors: ProfileTensors,
    settings: ProfileSettings,
) -> tuple[Tensor, Tensor]:
    """(weight [P, S] = capture·polarization·solid angle, sums [P, S] = Σ|F_cell|²·average) of ``samples``."""
    listed = samples.listed()
    terms = reference.ray_terms(panels, beam, listed, rays)
    spread = place_covariance(panels, listed.panel, tensors.pixel)
    sums = profile_intensities(profile_terms(terms.position, spread, beam.incident, tensors, settings), tensors.scale)
    return (terms.capture * terms.solid_angle)[:, None] * terms.polarization, sums
