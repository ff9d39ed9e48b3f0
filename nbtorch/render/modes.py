"""How capture, polarization and solid angle enter the sum of a pixel: "exact", "cached" and "running".

The physics of a sample is the kernels'; a mode only says how samples are put together (docs/physics.md §1.1).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nbtorch import kernels
from nbtorch.config import RenderSettings
from nbtorch.kernels import reference
from nbtorch.kernels.reference import RayTerms, SampleGrid
from nbtorch.render.scene import Scene


def combine(scene: Scene, weight: Tensor, sums: Tensor, background: Tensor | None) -> Tensor:
    """I(p) [..., pixels]: ``sums`` [..., P, S] weighted sample by sample by ``weight`` [..., P, S], and the background.

    The background is one more term, at the mean weight over sub-pixels and sources of the whole sensor. Linear in
    ``weight``, and in (``sums``, ``background`` [...]) together: its tangents are two calls of itself.
    """
    total = reference.sum_in_pixels(weight, sums, scene.per_pixel)
    if background is None:
        return total
    each = scene.per_pixel * sums.shape[-1]
    mean = weight.flatten(-2).unflatten(-1, (-1, each)).mean(-1)
    return total + background[..., None] * mean * scene.layers


def source_weighted(scene: Scene, weight: Tensor) -> Tensor:
    """``weight`` [..., P, S] times that of each source; a single source's is 1, being normalized to mean 1."""
    return weight * scene.source_weight if weight.shape[-1] > 1 else weight


def exact(scene: Scene, samples: SampleGrid, settings: RenderSettings) -> Tensor:
    """Each term weighted by its own capture·polarization·solid angle [pixels]: the physics."""
    if scene.background is None and (scene.fused or scene.closed is not None):
        return scene.pixel_sum(samples)
    if scene.closed is not None:
        weight = kernels.pixel_rays(scene.panels, scene.beam, samples, scene.rays, scene.lattice.backend)[1]
        of_water = combine(scene, source_weighted(scene, weight), torch.zeros_like(weight), scene.background)
        return scene.pixel_sum(samples) + of_water
    diffracted, weight = kernels.pixel_rays(scene.panels, scene.beam, samples, scene.rays, scene.lattice.backend)
    return combine(scene, source_weighted(scene, weight), scene.sources_of(diffracted), scene.background)


def with_background(scene: Scene, intensity: Tensor) -> Tensor:
    """``intensity`` [...] and that of the water in the beam, if there is any."""
    return intensity if scene.background is None else intensity + scene.background


def cached(scene: Scene, samples: SampleGrid, settings: RenderSettings) -> Tensor:
    """The plain sum times one capture, polarization and solid angle a pixel [pixels]: nanoBragg's default."""
    if scene.per_pixel == 1 and scene.lattice.dmin == 0:
        diffracted, weight = kernels.pixel_rays(scene.panels, scene.beam, samples, scene.rays, scene.lattice.backend)
        intensity = (scene.sources_of(diffracted) * scene.source_weight).sum(-1)
        return with_background(scene, intensity) * weight[:, 0]
    rays = reference.ray_terms(scene.panels, scene.beam, samples, scene.rays)
    terms = (scene.sources_of(rays.diffracted) * scene.source_weight).sum(-1)
    intensity = with_background(scene, terms.reshape(-1, scene.per_pixel).sum(-1))
    return intensity * torch.stack(cached_factors(scene, rays)).prod(0)


def cached_factors(scene: Scene, rays: RayTerms) -> tuple[Tensor, Tensor, Tensor]:
    """capture, polarization and solid angle [pixels] as nanoBragg keeps them.

    The solid angle is the very first sample's; the polarization the first that dmin does not cull, and 0 where it
    culls all; capture is reset at every layer, so the last layer's value at its first sub-pixel survives.
    """
    first = torch.arange(len(rays.airpath) // scene.per_pixel, device=rays.airpath.device) * scene.per_pixel
    last_layer = first + (scene.layers - 1) * scene.oversample**2
    return rays.capture[last_layer], _first_polarization(scene, rays, first), rays.solid_angle[first]


def _first_polarization(scene: Scene, rays: RayTerms, first: Tensor) -> Tensor:
    """Polarization [pixels] of the first sample and source that dmin keeps; ``first`` [pixels]: sample 0 of each."""
    if not scene.rays.polarized or scene.lattice.dmin == 0:
        return rays.polarization[first, 0]
    scattering = reference.scattering_vector(rays.diffracted, scene.beam.incident, scene.wavelength)
    kept = reference.within_resolution(scattering, scene.lattice.dmin)
    sources = kept.shape[1]
    chosen = kept.reshape(len(first), -1).to(torch.uint8).argmax(-1)
    value = rays.polarization[first + chosen // sources, chosen % sources]
    return torch.where(kept.reshape(len(first), -1).any(-1), value, 0)


def running_intensity(scene: Scene, rays: RayTerms, settings: RenderSettings) -> Tensor:
    """I(p) [pixels] where every addition is followed by a product: I ← (I + term)·c, culled samples left out.

    With c fixed over the K orientations of a sample and source, K steps are I·c^K + Σ_k term_k·c^(K−k).
    """
    samples, count = scene.per_pixel, len(rays.airpath) // scene.per_pixel
    terms = reference.lattice_terms(
        rays.diffracted,
        scene.beam.incident,
        scene.wavelength,
        scene.basis,
        scene.n_cells,
        scene.metric,
        scene.table,
        scene.lattice,
    )
    factor = _running_factor(rays, settings)  # [pixels·samples, S]
    orientations = len(scene.basis)
    power = torch.arange(orientations, 0, -1, dtype=factor.dtype, device=factor.device)
    addition = reference.lattice_intensities(terms) * scene.orientation_weight
    summed = (addition * factor[..., None] ** power).sum(-1) * scene.source_weight
    # in the order of the sum: sample, then source
    order = (count, samples * len(scene.wavelength))
    steps = zip(*(x.reshape(order).unbind(1) for x in (summed, factor**orientations, terms.kept)), strict=True)
    intensity = with_background(scene, summed.new_zeros(count))
    for added, product, kept in steps:
        intensity = torch.where(kept, intensity * product + added, intensity)
    return intensity


def _running_factor(rays: RayTerms, settings: RenderSettings) -> Tensor:
    """The factor [samples, S] that multiplies the running sum after an addition."""
    factor = torch.ones_like(rays.polarization)
    if settings.running_thick:
        factor = factor * rays.capture[:, None]
    if settings.running_polar:
        factor = factor * rays.polarization
    return factor * rays.solid_angle[:, None] if settings.running_omega else factor


def running(scene: Scene, samples: SampleGrid, settings: RenderSettings) -> Tensor:
    """The running sum times the factors that were not in it [pixels]: nanoBragg's -oversample_thick, _polar, _omega."""
    rays = reference.ray_terms(scene.panels, scene.beam, samples, scene.rays)
    capture, polarization, solid_angle = final_factors(scene, rays, settings)
    return running_intensity(scene, rays, settings) * capture * polarization * solid_angle


def final_factors(scene: Scene, rays: RayTerms, settings: RenderSettings) -> tuple[Tensor, Tensor, Tensor]:
    """capture, polarization, solid angle [pixels] that multiply the sum at the end; 1 where the sum has them."""
    factors = cached_factors(scene, rays)
    inside = (settings.running_thick, settings.running_polar, settings.running_omega)
    if settings.mode != "running":
        return factors
    capture, polarization, solid_angle = (
        torch.ones_like(factor) if done else factor for factor, done in zip(factors, inside, strict=True)
    )
    return capture, polarization, solid_angle


MODES: dict[str, Callable[[Scene, SampleGrid, RenderSettings], Tensor]] = {
    "exact": exact,
    "cached": cached,
    "running": running,
}

__all__ = [
    "MODES",
    "cached_factors",
    "combine",
    "final_factors",
    "running_intensity",
    "source_weighted",
    "with_background",
]
