"""Where a reflection falls: spindle angle and ray of its Ewald crossing, its ray in a still, and the pixel a ray meets.

Angles in radians, lengths in mm and Å⁻¹. Everything is a pure tensor function, regular wherever it is valid and finite
where it is not, so that derivatives of a batch survive its invalid members; ``valid`` masks say which count.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from nbtorch.errors import ConfigError
from nbtorch.functional import absorption
from nbtorch.functional.cell import dual
from nbtorch.functional.lattice import GAUSS_WIDTH
from nbtorch.functional.rotation import rotate_about_axis, unit

NEWTON_STEPS = 4  # each gains a factor of about λ·|excitation error|, under 0.01 even for broad spots


class Spindle(NamedTuple):
    """R(phi) = setting · rotation(axis, phi) · fixed for column vectors; axis [3] unit, setting and fixed [3, 3]."""

    axis: Tensor
    fixed: Tensor
    setting: Tensor


class SensorStack(NamedTuple):
    """The sensor that n rays meet: thickness [n] (mm), absorption µ [n] (mm⁻¹), step [n] (mm) of one of ``layers``."""

    thickness: Tensor
    absorption: Tensor
    step: Tensor
    layers: int


def turn(reciprocal: Tensor, spindle: Spindle, angle: Tensor) -> Tensor:
    """R(angle)·r [n, 3] of ``reciprocal`` [n, 3] at goniometer zero; angle: [n] radians."""
    fixed = reciprocal @ spindle.fixed.transpose(-1, -2)
    return rotate_about_axis(fixed, spindle.axis, angle) @ spindle.setting.transpose(-1, -2)


def crossing_angles(reciprocal: Tensor, wave: Tensor, spindle: Spindle) -> tuple[Tensor, Tensor]:
    """The two spindle angles [n, 2] (radians) at which |k₀ + R(phi)·r| = |k₀|, and whether there are any [n].

    reciprocal: [n, 3] Å⁻¹, at goniometer zero. wave: [3] k₀ = incident/λ. With k = settingᵀ·k₀ and r after the fixed
    rotation the condition is A·cos phi + B·sin phi = C, solved by atan2(B, A) ± acos(C/√(A² + B²)).
    """
    r = reciprocal @ spindle.fixed.transpose(-1, -2)
    k = wave @ spindle.setting
    along = (k @ spindle.axis) * (r @ spindle.axis)
    a = r @ k - along
    b = torch.linalg.cross(spindle.axis.expand_as(r), r) @ k
    c = -0.5 * (r * r).sum(-1) - along
    squared = a * a + b * b
    valid = c * c < squared
    a, squared = torch.where(valid, a, 1), torch.where(valid, squared, 1)
    b, c = torch.where(valid, b, 0), torch.where(valid, c, 0)
    middle, half = torch.atan2(b, a), torch.acos(c / torch.sqrt(squared))
    return torch.stack([middle - half, middle + half], dim=-1), valid


def nearest_angle(angles: Tensor, observed: Tensor) -> Tensor:
    """Of the ``angles`` [n, m] the one nearest to ``observed`` [n], on its turn; radians, [n]."""
    turns = torch.round((angles - observed[:, None]).detach() / (2 * math.pi))
    angles = angles - 2 * math.pi * turns
    choice = (angles - observed[:, None]).detach().abs().argmin(-1, keepdim=True)
    return torch.gather(angles, -1, choice)[:, 0]


def crossing_prediction(
    reciprocal: Tensor, wave: Tensor, spindle: Spindle, observed: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(ray [n, 3] unit, spindle angle [n] radians, valid [n]) of the Ewald crossing nearest to ``observed`` [n].

    reciprocal: [n, 3] Å⁻¹ at goniometer zero. wave: [3] k₀ = incident/λ.
    """
    angles, valid = crossing_angles(reciprocal, wave, spindle)
    angle = nearest_angle(angles, observed)
    return unit(torch.where(valid[:, None], wave + turn(reciprocal, spindle, angle), wave)), angle, valid


def peak_rays(
    hkl: Tensor, basis: Tensor, metric: Tensor, incident: Tensor, wavelength: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Where n reflections are brightest on the Ewald spheres of S sources, for K orientations.

    hkl: [n, 3]. basis: [K, 3, 3] rows a, b, c. metric: [3, 3] of ρ² = δᵀ·metric·δ. incident: [S, 3]; wavelength: [S].
    Returns ray [n, K, S, 3] unit, its ρ² [n, K, S] and its width d·C·d [n, K, S] across the sphere (Å⁻²).

    In reciprocal space ρ² = pᵀ·C⁻¹·p with p = q − r. On the plane that touches the sphere at d its minimum is at
    p = C·d·(d·p₀)/(d·C·d), p₀ any point of that plane; the plane is moved to where that ray goes, and so on.
    """
    stars = dual(basis)
    spread = stars.transpose(-1, -2) @ torch.linalg.inv(metric) @ stars  # C [K, 3, 3]
    reflection = torch.einsum("ni,kij->nkj", hkl, stars)[:, :, None]
    wave = incident / wavelength[:, None]
    ray = unit(wave + reflection)
    across = above = torch.zeros_like(ray[..., 0])
    for step in range(NEWTON_STEPS + 1):
        smeared = torch.einsum("kij,nksj->nksi", spread, ray)
        across = (ray * smeared).sum(-1)
        above = (ray * (ray / wavelength[:, None] - wave - reflection)).sum(-1)
        if step < NEWTON_STEPS:
            ray = unit(wave + reflection + smeared * (above / across)[..., None])
    return ray, above**2 / across, across


def excitation(
    radius_squared: Tensor, width: Tensor, wavelength: Tensor, source_weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Shares [n, K, S] of orientations and sources in a spot, summing to 1, and the mean excitation [n] in 0 … 1.

    radius_squared, width: [n, K, S] of :func:`peak_rays`. A Gaussian spot, exp(−2ρ²/0.63), cut by the sphere holds
    λ²·exp(−2ρ²/0.63)/√(d·C·d) of light; other shapes have the same centroid to first order. Far reflections keep
    their shares (they are taken relative to the brightest) while their excitation goes to zero.
    """
    exponent = -2 / GAUSS_WIDTH * radius_squared
    brightest = exponent.detach().amax(dim=(-2, -1), keepdim=True)
    light = torch.exp(exponent - brightest) * source_weight
    mean = light.sum((-2, -1)) * torch.exp(brightest[:, 0, 0]) / (source_weight.sum() * light.shape[-2])
    light = light * wavelength**2 / torch.sqrt(width)
    return light / light.sum((-2, -1), keepdim=True), mean


def no_path(parallax: Tensor, sensor: SensorStack) -> Tensor:
    """Path [...] (mm): the ray is detected where it enters."""
    return torch.zeros_like(parallax)


def mean_path(parallax: Tensor, sensor: SensorStack) -> Tensor:
    """Path [...] (mm) along the ray at which an absorbed photon is absorbed, on average; parallax: [...] d·normal."""
    return absorption.mean_depth(parallax, sensor.thickness, sensor.absorption)


def dxtbx_path(parallax: Tensor, sensor: SensorStack) -> Tensor:
    """Path [...] (mm) of dxtbx's parallax correction, which moves the spot along the ray by it."""
    return absorption.dxtbx_depth(parallax, sensor.thickness, sensor.absorption)


def layers_path(parallax: Tensor, sensor: SensorStack) -> Tensor:
    """Path [...] (mm) to the layers as they are rendered: layer t, at depth t·step, absorbs exp(−tµ·step/parallax) of
    what the first one does."""
    exponent = sensor.absorption * sensor.step / parallax
    total = weighted = torch.zeros_like(parallax)
    for layer in range(sensor.layers):
        light = torch.exp(-layer * exponent)
        total, weighted = total + light, weighted + layer * light
    return weighted / total * sensor.step / parallax


PARALLAX: dict[str, Callable[[Tensor, SensorStack], Tensor]] = {
    "none": no_path,
    "mean": mean_path,
    "layers": layers_path,
    "dxtbx": dxtbx_path,
}


def sensor_path(kind: str, parallax: Tensor, sensor: SensorStack) -> Tensor:
    """How far [...] (mm) along a ray the light is detected. Raises ConfigError for an unknown ``kind``."""
    if kind not in PARALLAX:
        raise ConfigError(f"parallax={kind!r}", "it is not a known kind", f"Use one of: {', '.join(PARALLAX)}")
    return PARALLAX[kind](parallax, sensor)


def ray_to_panel(
    ray: Tensor, frame: Tensor, pixel_size: Tensor, sensor: SensorStack, parallax: str = "none"
) -> tuple[Tensor, Tensor, Tensor]:
    """(fast, slow, valid) [n]: where ``ray`` [n, 3] (unit, from the sample) meets a panel, in pixels.

    frame: [n, 4, 3] rows fast, slow, normal, origin (mm). pixel_size: [n, 2] mm. The pixel (0, 0) covers 0 … 1;
    positions beyond the panel's edge are valid, rays that run along the panel or away from it are not.
    """
    fast, slow, normal, origin = frame.unbind(-2)
    cosine = (ray * normal).sum(-1)
    distance = (origin * normal).sum(-1)
    valid = cosine * distance > 1e-6 * distance.abs()
    cosine = torch.where(valid, cosine, torch.where(distance < 0, -1, 1))
    path = distance / cosine + sensor_path(parallax, cosine.abs(), sensor)
    point = ray * path[:, None] - origin
    # Pixel positions along axes that need not be at right angles: the dual of the two within the panel.
    skewness = (fast * slow).sum(-1)
    u, v = (point * fast).sum(-1), (point * slow).sum(-1)
    square = 1 - skewness**2
    along = torch.stack([(u - skewness * v) / square, (v - skewness * u) / square], dim=-1) / pixel_size
    return along[:, 0], along[:, 1], valid
