"""A reflection as one Gaussian in δ = h − n: its covariance Σ under every spread, and its average. docs/closed_form.md.

The spreads of an experiment move the fractional index h = B·R·q of a place on the detector; q = (d − i)/λ, the rows of
B are a, b, c in the lab at mid-spindle. To first order in them δ stays normally distributed, so that the average over
all is again a Gaussian, and over a uniform range of the spindle a difference of two error functions.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nbtorch.functional.lattice import GAUSS_WIDTH
from nbtorch.functional.rotation import skew

BOX_VARIANCE = 1 / 12  # of a uniform distribution of width 1
_QUADRATURE_BELOW = 0.5  # α of uniform_average: above it the error functions lose no digit
_FAR = 100.0  # δᵀΣ⁻¹δ: beyond it a reflection has less than 1e-21 of its peak
_NODES = 12  # of Gauss and Legendre; relative error below 1e-13 where α < 0.5 and the result matters


class Covariances(NamedTuple):
    """Covariances of what spreads, all of them linear at zero. Leading axes broadcast."""

    mosaic: Tensor  # [..., 3, 3] rad², rotation vectors of the crystal, lab frame at mid-spindle
    wavelength: Tensor  # [...] relative
    incident: Tensor  # [..., 3, 3] rad², of the unit vector i, across it
    position: Tensor  # [..., 3, 3] mm², on the detector: pixel box and point spread
    cell: Tensor  # [3] relative, of the lengths a, b, c


class Place(NamedTuple):
    """Where the spreads are looked at from. Leading axes broadcast."""

    position: Tensor  # [..., 3] mm
    incident: Tensor  # [..., 3] unit
    wavelength: Tensor  # [...] Å
    basis: Tensor  # [..., 3, 3] rows a, b, c, Å, at mid-spindle
    spindle: Tensor  # [3] unit, lab frame


class Shift(NamedTuple):
    """Values of what spreads. Leading axes broadcast."""

    mosaic: Tensor  # [..., 3] rad
    wavelength: Tensor  # [...] relative
    incident: Tensor  # [..., 3]
    position: Tensor  # [..., 3] mm
    spindle: Tensor  # [...] rad


class Linear(NamedTuple):
    """The fractional index, and how it moves with what spreads."""

    hkl: Tensor  # [..., 3]
    mosaic: Tensor  # [..., 3, 3] ∂h/∂ω
    wavelength: Tensor  # [..., 3]
    incident: Tensor  # [..., 3, 3]
    position: Tensor  # [..., 3, 3]
    spindle: Tensor  # [..., 3]


def reflection_covariance(metric: Tensor) -> Tensor:
    """Σ₀ [..., 3, 3] of F_latt²: exp(−2ρ²/0.63) = exp(−½ δᵀΣ₀⁻¹δ) for ρ² = δᵀ·metric·δ."""
    return GAUSS_WIDTH / 4 * inverse_and_determinant(metric)[0]


def inverse_and_determinant(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """(inverse [..., 3, 3], determinant [...]) of symmetric or other matrices [..., 3, 3], by cofactors."""
    first, second, third = matrix.unbind(-2)
    columns = [torch.linalg.cross(second, third), torch.linalg.cross(third, first), torch.linalg.cross(first, second)]
    determinant = (first * columns[0]).sum(-1)
    return torch.stack(columns, dim=-1) / determinant[..., None, None], determinant


def linear(place: Place) -> Linear:
    """:class:`Linear` at zero shift: ∂h/∂ω = B[q]×, ∂h/∂ε = −h, ∂h/∂φ = B(q × u)."""
    distance = place.position.norm(dim=-1)
    direction, wave = place.position / distance[..., None], place.wavelength[..., None]
    scattering = (direction - place.incident) / wave
    hkl = times(place.basis, scattering)
    return Linear(
        hkl=hkl,
        mosaic=place.basis @ skew(scattering),
        wavelength=-hkl,
        incident=-(place.basis @ _across(place.incident)) / wave[..., None],
        position=place.basis @ _across(direction) / (distance[..., None] * wave)[..., None],
        spindle=times(place.basis, torch.linalg.cross(scattering, place.spindle.expand_as(scattering))),
    )


def linear_at(place: Place, shift: Shift) -> Linear:
    """:class:`Linear` at ``shift``, exactly: turned crystal, other wavelength, turned beam, moved place."""
    position, incident = place.position + shift.position, place.incident + shift.incident
    distance, length = position.norm(dim=-1), incident.norm(dim=-1)
    direction, incident = position / distance[..., None], incident / length[..., None]
    stretch = 1 + shift.wavelength
    wave = place.wavelength * stretch
    scattering = (direction - incident) / wave[..., None]
    turn = _turned_back(shift.spindle[..., None] * place.spindle)[0]
    seen = times(turn, scattering)
    mosaic_turn, slope = _turned_back(shift.mosaic, seen)
    assert slope is not None
    basis = place.basis @ mosaic_turn
    both = basis @ turn
    hkl = times(basis, seen)
    return Linear(
        hkl=hkl,
        mosaic=place.basis @ slope,
        wavelength=-hkl / stretch[..., None],
        incident=-(both @ _across(incident)) / (length * wave)[..., None, None],
        position=both @ _across(direction) / (distance * wave)[..., None, None],
        spindle=times(basis, torch.linalg.cross(seen, place.spindle.expand_as(seen))),
    )


def covariance(intrinsic: Tensor, at: Linear, spreads: Covariances) -> Tensor:
    """Σ [..., 3, 3]: ``intrinsic`` [3, 3], the crystal's own, and what each of ``spreads`` adds; not the spindle."""
    total = intrinsic + torch.diag_embed(spreads.cell * at.hkl**2)
    total = total + spreads.wavelength[..., None, None] * outer(at.wavelength)
    for columns, spread in (
        (at.mosaic, spreads.mosaic),
        (at.incident, spreads.incident),
        (at.position, spreads.position),
    ):
        total = total + columns @ spread @ columns.transpose(-1, -2)
    return total


def likely_shift(offset: Tensor, intrinsic: Tensor, at: Linear, spreads: Covariances, span: float) -> Shift:
    """The most likely values of what spreads where δ = ``offset`` [..., 3] is seen, the spindle within ±``span``/2.

    −C·Jᵀ·Σ⁻¹·δ for each spread of covariance C: no square root, so that it is regular at zero spread. Beyond ten
    widths, where nothing is left of the reflection and a shift could turn the wavelength negative, there is none.
    """
    swept = span**2 * BOX_VARIANCE
    total = covariance(intrinsic, at, spreads) + swept * outer(at.spindle)
    pull = -times(inverse_and_determinant(total)[0], offset)
    near = -(offset * pull).sum(-1) < _FAR
    pull = torch.where(near[..., None], pull, 0)

    def of(columns: Tensor, spread: Tensor) -> Tensor:
        return times(spread, times(columns.transpose(-1, -2), pull))

    return Shift(
        mosaic=of(at.mosaic, spreads.mosaic),
        wavelength=spreads.wavelength * (at.wavelength * pull).sum(-1),
        incident=of(at.incident, spreads.incident),
        position=of(at.position, spreads.position),
        spindle=(swept * (at.spindle * pull).sum(-1)).clamp(-abs(span) / 2, abs(span) / 2),
    )


def offset_from(nearest: Tensor, at: Linear, shift: Shift) -> Tensor:
    """δ̃ [..., 3]: where the tangent at ``shift`` says that δ is at zero shift."""
    moved = times(at.mosaic, shift.mosaic) + times(at.incident, shift.incident) + times(at.position, shift.position)
    moved = moved + at.wavelength * shift.wavelength[..., None] + at.spindle * shift.spindle[..., None]
    return at.hkl - nearest - moved


def average(offset: Tensor, total: Tensor, sweep: Tensor, span: float) -> Tensor:
    """Mean over φ in ±span/2 of exp(−½(δ + gφ)ᵀΣ⁻¹(δ + gφ))/√|Σ| [...], g = ``sweep`` [..., 3], Σ = ``total``."""
    inverse, determinant = inverse_and_determinant(total)
    pull = times(inverse, offset)
    square = (offset * pull).sum(-1)
    if span == 0:
        return torch.exp(-square / 2) / torch.sqrt(determinant)
    along, curvature = (sweep * pull).sum(-1), (sweep * times(inverse, sweep)).sum(-1)
    return uniform_average(square / 2, along * (span / 2), curvature * (span**2 / 8)) / torch.sqrt(determinant)


def uniform_average(constant: Tensor, slope: Tensor, curvature: Tensor) -> Tensor:
    """Mean over t in −1 … 1 of exp(−constant − slope·t − curvature·t²) [...], for an exponent that is never positive.

    Error functions where the curvature is large, Gauss–Legendre quadrature where it is not: regular at zero.
    """
    flat = curvature < _QUADRATURE_BELOW
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    low_slope, low_curvature = torch.where(flat, slope, 0), torch.where(flat, curvature, 0)
    summed = torch.zeros_like(constant)
    for t, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
        summed = summed + weight / 2 * torch.exp(-constant - low_slope * t - low_curvature * t**2)
    root = torch.sqrt(torch.where(flat, 1, curvature))
    middle = torch.where(flat, 0, slope) / (2 * root)
    middle = torch.where(middle < 0, -middle, middle)  # even in it; erfc of what is positive keeps its digits
    difference = torch.erfc(middle - root) - torch.erfc(middle + root)
    peak = torch.exp(torch.where(flat, -constant, middle**2 - constant).clamp(max=0))
    return torch.where(flat, summed, math.sqrt(math.pi) / 4 / root * peak * difference)


def times(matrix: Tensor, vector: Tensor) -> Tensor:
    """``matrix`` [..., 3, 3] applied to column vectors ``vector`` [..., 3]."""
    return (matrix * vector[..., None, :]).sum(-1)


def outer(vector: Tensor) -> Tensor:
    """v·vᵀ [..., 3, 3] of ``vector`` [..., 3]."""
    return vector[..., :, None] * vector[..., None, :]


def _across(direction: Tensor) -> Tensor:
    """I − ddᵀ [..., 3, 3] of unit vectors [..., 3]: what of a step across turns them."""
    return torch.eye(3, dtype=direction.dtype, device=direction.device) - outer(direction)


def _turned_back(rotation: Tensor, vector: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """exp(−ω) [..., 3, 3] of rotation vectors [..., 3], and ∂(exp(−ω)·v)/∂ω where v [..., 3] is given.

    Series in ω², which is below 0.1: the error is below 1e-7 there, and below 1e-15 at half a degree.
    """
    u = (rotation**2).sum(-1)[..., None, None]
    first, second = 1 + u * (-1 / 6 + u * (1 / 120 - u / 5040)), 0.5 + u * (-1 / 24 + u * (1 / 720 - u / 40320))
    cross = skew(rotation)
    eye = torch.eye(3, dtype=rotation.dtype, device=rotation.device)
    turn = eye - first * cross + second * cross @ cross
    if vector is None:
        return turn, None
    once = times(cross, vector)
    twice = times(cross, once)
    first_slope, second_slope = -1 / 6 + u * (1 / 60 - u / 1680), -1 / 24 + u * (1 / 360 - u / 13440)
    slope = first * skew(vector) - second * (skew(once) + cross @ skew(vector))
    along = 2 * (second_slope * twice[..., :, None] - first_slope * once[..., :, None])
    return turn, slope + along * rotation[..., None, :]
