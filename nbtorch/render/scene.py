"""Everything about an experiment that its pixels share, derived from the parameters as they are now."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nbtorch import kernels
from nbtorch.config import Exposure, LatticeSettings, RenderSettings
from nbtorch.errors import ConfigError
from nbtorch.functional import background
from nbtorch.functional.structure_factor import StructureFactorTable
from nbtorch.kernels.profile_reference import ProfileSettings, ProfileTensors
from nbtorch.kernels.reference import BeamFrame, LatticeTensors, PanelFrames, RaySettings, SampleGrid
from nbtorch.models.experiment import Experiment
from nbtorch.render.closed import closed
from nbtorch.render.pixels import PixelSelection
from nbtorch.render.samples import layer_step


class Scene(NamedTuple):
    """Everything about the experiment that is the same for every pixel, derived once a forward."""

    panels: PanelFrames
    layer_step: Tensor  # [N] mm, the thickness of one sensor layer of each panel
    beam: BeamFrame
    wavelength: Tensor  # [S] Å
    source_weight: Tensor  # [S] mean 1
    basis: Tensor  # [K, 3, 3]
    n_cells: Tensor  # [3]
    metric: Tensor  # [3, 3]
    table: StructureFactorTable | None
    orientation_weight: Tensor  # [K]
    background: Tensor | None  # [] I_bg; None without water
    fluence: Tensor  # []
    steps: int
    rays: RaySettings
    lattice: LatticeSettings
    layers: int
    oversample: int
    profile: ProfileTensors | None = None  # of the closed form, in the place of basis and metric
    closed: ProfileSettings | None = None

    @property
    def per_pixel(self) -> int:
        """Samples of one pixel."""
        return self.layers * self.oversample**2

    def samples_of(self, pixels: PixelSelection) -> SampleGrid:
        """The samples of ``pixels``."""
        return SampleGrid(pixels.panel, pixels.slow, pixels.fast, self.layer_step, self.layers, self.oversample)

    @property
    def of_lattice(self) -> LatticeTensors:
        """What a lattice sum takes beside the rays."""
        return LatticeTensors(
            self.wavelength, self.basis, self.n_cells, self.metric, self.table, self.orientation_weight
        )

    @property
    def tensors(self) -> list[Tensor]:
        """Every tensor that a kernel is given."""
        numbers = [self.wavelength, self.basis, self.n_cells, self.metric, self.orientation_weight, self.source_weight]
        table = [] if self.table is None else [self.table.values]
        return [*self.panels, self.layer_step, *self.beam, *numbers, *table]

    @property
    def fused(self) -> bool:
        """Whether the samples of a pixel are summed as they are made, and none is stored."""
        if self.closed is not None:
            return kernels.profile_in_c(self.tensors, self.rays, self.closed)
        return kernels.fuses(self.tensors, self.rays, self.lattice)

    def sources_of(self, diffracted: Tensor) -> Tensor:
        """Lattice sums [P, S] of ``diffracted`` [P, 3]."""
        return kernels.lattice_sum(diffracted, self.beam.incident, *self.of_lattice, self.lattice)

    def pixel_sum(self, samples: SampleGrid) -> Tensor:
        """I(p) [pixels] of ``samples`` without a background."""
        if self.profile is not None and self.closed is not None:
            return kernels.profile_sum(
                self.panels, self.beam, samples, self.source_weight, self.profile, self.rays, self.closed
            )
        return kernels.pixel_sum(
            self.panels, self.beam, samples, self.source_weight, self.of_lattice, self.rays, self.lattice
        )


def scenes(experiment: Experiment, settings: RenderSettings, exposures: Sequence[Exposure]) -> list[Scene]:
    """One scene an exposure. They differ in their basis alone; the rest is derived once.

    Raises ConfigError where ``settings`` ask for a closed form that there is not, or sample ``experiment.spreads``.
    """
    if settings.averaging == "closed":
        return [_closed_scene(experiment, settings, exposure) for exposure in exposures]
    if experiment.spreads is not None:
        raise ConfigError(
            "spreads with averaging='sampled'", "only the closed form averages over them", 'Use averaging="closed"'
        )
    oversample = settings.oversample or auto_oversample(experiment)
    shared = _shared(experiment, settings, oversample)
    direct = experiment.crystal.vectors()[0]
    found = []
    for basis in experiment.crystal.bases(exposures, direct):
        steps = len(shared.wavelength) * len(basis) * oversample**2
        found.append(shared._replace(basis=basis, orientation_weight=torch.ones_like(basis[:, 0, 0]), steps=steps))
    return found


def _closed_scene(experiment: Experiment, settings: RenderSettings, exposure: Exposure) -> Scene:
    """The scene of ``exposure`` in closed form; its basis has one entry a piece of the spindle range."""
    found = closed(experiment, settings, exposure)
    basis = found.tensors.basis
    return _shared(experiment, settings, found.oversample)._replace(
        basis=basis,
        orientation_weight=torch.ones_like(basis[:, 0, 0]),
        steps=len(found.tensors.wavelength) * len(basis) * found.oversample**2,
        profile=found.tensors,
        closed=found.settings,
    )


def _shared(experiment: Experiment, settings: RenderSettings, oversample: int) -> Scene:
    """What all exposures have in common; no basis and no steps yet."""
    crystal, beam, detector = experiment.crystal, experiment.beam, experiment.detector
    incident, wavelength, weight = beam.sources()
    direct, reciprocal = crystal.vectors()
    return Scene(
        panels=detector.panel_frames(),
        layer_step=layer_step(detector.config, detector.thickness),
        beam=beam.frame(incident),
        wavelength=wavelength,
        source_weight=weight,
        basis=direct[None],
        n_cells=crystal.n_cells,
        metric=crystal.metric(reciprocal),
        table=experiment.structure_factors.table(),
        orientation_weight=torch.ones_like(direct[0, :1]),
        background=background.water_intensity(beam.fluence, settings.water) if settings.water else None,
        fluence=beam.fluence,
        steps=0,
        rays=detector.ray_settings(polarized=beam.polarized),
        lattice=lattice_settings(experiment, settings),
        layers=detector.config.layers,
        oversample=oversample,
    )


@torch.no_grad()
def auto_oversample(experiment: Experiment) -> int:
    """ceil(3·(largest crystal width)/(λ·distance/d)), at least 1: nanoBragg's own choice."""
    widths = experiment.crystal.n_cells * experiment.crystal.cell[:3] * 1e-7  # Å → mm
    frame, pixel = experiment.detector.frames()[0], experiment.detector.pixel_size[0, 0]
    distance = (frame[3] * frame[2]).sum()
    wavelength = experiment.beam.sources()[1][0] * 1e-7
    return max(1, math.ceil(float(3 * widths.max() / (wavelength * distance / pixel))))


def lattice_settings(experiment: Experiment, settings: RenderSettings) -> LatticeSettings:
    """What the lattice sum needs to know, beside its tensors."""
    return LatticeSettings(
        shape=experiment.crystal.config.shape,
        interpolation=settings.interpolation,
        default_F=experiment.structure_factors.default_F,
        dmin=settings.dmin,
        precision=settings.precision,
        culling=settings.culling,
        backend=settings.backend,
    )
