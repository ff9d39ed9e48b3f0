"""The two fused operators in plain PyTorch: any device, differentiable. They are the definition that backends copy."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nbtorch.config import LatticeSettings
from nbtorch.functional import absorption, detector, lattice, polarization, structure_factor
from nbtorch.functional.structure_factor import StructureFactorTable


class LatticeTerms(NamedTuple):
    """Every intermediate of the lattice sum for P samples, S sources, K orientations."""

    scattering: Tensor  # [P, S, 3] q = (diffracted − incident)/λ, Å⁻¹
    hkl: Tensor  # [P, S, K, 3] fractional Miller indices
    nearest: Tensor  # [P, S, K, 3] nearest reflection, integers as floats
    lattice_factor: Tensor  # [P, S, K] F_latt
    cell_factor: Tensor  # [P, S, K] F_cell, electrons
    kept: Tensor  # [P, S] bool: false where dmin culls the sample


def scattering_vector(diffracted: Tensor, incident: Tensor, wavelength: Tensor) -> Tensor:
    """q [P, S, 3] (Å⁻¹) of unit vectors ``diffracted`` [P, 3] and ``incident`` [S, 3] at ``wavelength`` [S] (Å)."""
    return (diffracted[:, None, :] - incident) / wavelength[:, None]


def within_resolution(scattering: Tensor, dmin: float) -> Tensor:
    """Whether a sample with q = ``scattering`` [P, S, 3] counts [P, S]. nanoBragg: out when dmin > 0.5/stol = 1/|q|."""
    return dmin * scattering.detach().norm(dim=-1) <= 1


def lattice_terms(
    diffracted: Tensor,
    incident: Tensor,
    wavelength: Tensor,
    basis: Tensor,
    n_cells: Tensor,
    metric: Tensor,
    table: StructureFactorTable | None,
    settings: LatticeSettings,
) -> LatticeTerms:
    """Intermediates of the sum over orientations; arguments as in :func:`lattice_sum`. Memory O(P·S·K)."""
    scattering = scattering_vector(diffracted, incident, wavelength)
    hkl = torch.einsum("kij,psj->pski", basis, scattering)
    nearest = structure_factor.nearest_index(hkl)
    return LatticeTerms(
        scattering=scattering,
        hkl=hkl,
        nearest=nearest,
        lattice_factor=lattice.lattice_factor(settings.shape, hkl - nearest, n_cells, metric),
        cell_factor=structure_factor.structure_factor(hkl, table, settings.default_F, settings.interpolation),
        kept=within_resolution(scattering, settings.dmin),
    )


def lattice_intensities(terms: LatticeTerms) -> Tensor:
    """|F_cell|²·|F_latt|² [P, S, K], zero where dmin culls."""
    intensity = (terms.cell_factor * terms.lattice_factor) ** 2
    return torch.where(terms.kept[..., None], intensity, 0)


def lattice_sum(
    diffracted: Tensor,
    incident: Tensor,
    wavelength: Tensor,
    basis: Tensor,
    n_cells: Tensor,
    metric: Tensor,
    table: StructureFactorTable | None,
    weight: Tensor,
    settings: LatticeSettings,
) -> Tensor:
    """Σ_k weight_k·|F_cell|²·|F_latt|² [P, S] over K orientations.

    diffracted: [P, 3] unit vectors, lab frame. incident: [S, 3] unit vectors of travel. wavelength: [S] Å.
    basis: [K, 3, 3] rows a, b, c (Å, lab frame). n_cells: [3]. metric: [3, 3] of ρ² = δᵀ·metric·δ, see
    :func:`nbtorch.functional.lattice.shape_metric`. table: amplitudes or None. weight: [K].
    Source: docs/physics.md §1, §3.4, §3.5.
    """
    terms = lattice_terms(diffracted, incident, wavelength, basis, n_cells, metric, table, settings)
    return lattice_intensities(terms) @ weight


class Samples(NamedTuple):
    """Where P samples lie: panel index [P] (long), fast and slow [P] in pixels from the corner of pixel (0, 0).

    ``depth`` [P] is the front of the sensor layer and ``layer`` [P] its thickness, both mm (0 without a sensor).
    """

    panel: Tensor
    fast: Tensor
    slow: Tensor
    depth: Tensor
    layer: Tensor

    def listed(self) -> Samples:
        """Themselves; a :class:`SampleGrid` is written out."""
        return self


class SampleGrid(NamedTuple):
    """The same samples in every pixel: ``layers`` layers of ``oversample``² sub-pixels.

    panel, slow, fast: [pixels] (long). layer_step: [N] mm, the thickness of one sensor layer of each panel.
    Samples run over layer, slow sub-pixel, fast sub-pixel, the last innermost. Sub-pixel (i, j) lies at (S + (i + ½)/n,
    F + (j + ½)/n). docs/physics.md §2.1.
    """

    panel: Tensor
    slow: Tensor
    fast: Tensor
    layer_step: Tensor
    layers: int
    oversample: int

    def listed(self) -> Samples:
        """Every sample written out, [pixels·layers·oversample²]."""
        like = self.layer_step
        sub = (torch.arange(self.oversample, dtype=like.dtype, device=like.device) + 0.5) / self.oversample
        index = torch.arange(self.layers, dtype=like.dtype, device=like.device)
        shape = (len(self.panel), self.layers, self.oversample, self.oversample)
        step = like[self.panel]

        def spread(value: Tensor) -> Tensor:
            return value.expand(shape).reshape(-1)

        return Samples(
            panel=spread(self.panel[:, None, None, None]),
            fast=spread((self.fast[:, None] + sub)[:, None, None, :]),
            slow=spread((self.slow[:, None] + sub)[:, None, :, None]),
            depth=spread((step[:, None] * index)[:, :, None, None]),
            layer=spread(step[:, None, None, None]),
        )


class RayTerms(NamedTuple):
    """Every geometric intermediate of P samples and S sources."""

    position: Tensor  # [P, 3] mm
    airpath: Tensor  # [P] mm
    diffracted: Tensor  # [P, 3] unit
    close_distance: Tensor  # [P] mm, of the sample's panel
    solid_angle: Tensor  # [P] sr (1/m² for a point pixel)
    capture: Tensor  # [P] fraction absorbed in the layer
    polarization: Tensor  # [P, S]


class PanelFrames(NamedTuple):
    """N panels. frame: [N, 4, 3] rows fast, slow, normal (unit), origin (mm). pixel_size: [N, 2] mm, (fast, slow).

    absorption: [N] µ in mm⁻¹ (0: no sensor, capture is then 1).
    """

    frame: Tensor
    pixel_size: Tensor
    absorption: Tensor


class BeamFrame(NamedTuple):
    """incident: [S, 3] unit vectors of travel. axis: [3] beam direction. polarization_axis: [3]. kahn_factor: [].

    ``axis`` is the central direction of travel, which a curved detector is bent around.
    """

    incident: Tensor
    axis: Tensor
    polarization_axis: Tensor
    kahn_factor: Tensor


class RaySettings(NamedTuple):
    """Choices that change the answer of :func:`pixel_rays`."""

    curved: bool = False
    point_pixel: bool = False
    polarized: bool = True  # False: polarization factor 1 (-nopolar)
    curved_distance: float | None = None  # mm; None: where the beam meets the panel


def ray_terms(panels: PanelFrames, beam: BeamFrame, samples: Samples | SampleGrid, settings: RaySettings) -> RayTerms:
    """Geometric intermediates of ``samples``; see :class:`RayTerms`. Source: docs/physics.md §2.1, §2.2, §4."""
    samples = samples.listed()
    frame = panels.frame[samples.panel]
    pixel_size = panels.pixel_size[samples.panel]
    position = detector.sample_position(frame, pixel_size, samples.fast, samples.slow, samples.depth)
    close_distance = (frame[:, 3] * frame[:, 2]).sum(-1)
    if settings.curved:
        position = detector.curve(position, frame, beam.axis, settings.curved_distance)
    airpath = position.norm(dim=-1)
    diffracted = position / airpath[:, None]
    area = pixel_size.prod(-1)
    return RayTerms(
        position=position,
        airpath=airpath,
        diffracted=diffracted,
        close_distance=close_distance,
        solid_angle=detector.solid_angle(airpath, close_distance, area, point_pixel=settings.point_pixel),
        capture=absorption.capture(
            diffracted, frame[:, 2], samples.depth, samples.layer, panels.absorption[samples.panel]
        ),
        polarization=polarization.polarization(diffracted, beam.incident, beam.polarization_axis, beam.kahn_factor)
        if settings.polarized
        else torch.ones_like(diffracted[:, :1]).expand(-1, len(beam.incident)),
    )


def pixel_rays(
    panels: PanelFrames, beam: BeamFrame, samples: Samples | SampleGrid, settings: RaySettings
) -> tuple[Tensor, Tensor]:
    """(diffracted [P, 3] unit, weight [P, S] = capture·polarization·solid angle) of ``samples``.

    Fuses position, solid angle, absorption and polarization; arguments as in :func:`ray_terms`.
    """
    terms = ray_terms(panels, beam, samples, settings)
    return terms.diffracted, (terms.capture * terms.solid_angle)[:, None] * terms.polarization


class LatticeTensors(NamedTuple):
    """What a lattice sum is made of beside the rays: arguments of :func:`lattice_sum` of these names."""

    wavelength: Tensor  # [S] Å
    basis: Tensor  # [K, 3, 3]
    n_cells: Tensor  # [3]
    metric: Tensor  # [3, 3]
    table: StructureFactorTable | None
    weight: Tensor  # [K]


def sum_in_pixels(weight: Tensor, sums: Tensor, per_pixel: int) -> Tensor:
    """Σ of ``weight``·``sums`` [..., P, S] over sources and the ``per_pixel`` samples of each pixel: [..., pixels]."""
    each = per_pixel * sums.shape[-1]
    terms = (weight * sums).flatten(-2)
    return terms.unflatten(-1, (-1, each)).sum(-1) if each > 1 else terms
