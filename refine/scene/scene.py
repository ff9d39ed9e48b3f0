"""From an experiment list to the models of a joint fit: one detector, and a crystal for every still or scan."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from nbtorch.config import BeamConfig, CrystalConfig, DetectorConfig, Exposure, MosaicConfig
from nbtorch.errors import DataError
from nbtorch.io import ExperimentList
from nbtorch.io.expt import ExperimentEntry, differences
from nbtorch.io.frames import Image
from nbtorch.models import Beam, Crystal, Detector, Experiment, StructureFactors
from nbtorch.models.detector import root_group
from nbtorch.units import CLASSICAL_ELECTRON_RADIUS_SQUARED
from refine.records.journal import Journal
from refine.scene.entries import is_still
from refine.scene.knots import scan_knots
from refine.scene.read_factors import read_factors
from refine.scene.rigid_groups import chosen_groups
from refine.settings.fit_settings import FitSettings

MOSAIC_DOMAINS = 14  # enough for a smooth spot, and even about all axes
DEFAULT_N_CELLS = 20.0  # of a crystal as large along all axes, until the width of the spots says better


@dataclass(frozen=True)
class FitExperiment:
    """One block of the fit: a crystal and the frames it was exposed in. ``still``: nothing turns in its one frame.

    ``index`` is the number of its entry in the experiment list, whichever others are fitted.
    """

    index: int
    model: Experiment
    entry: ExperimentEntry
    images: tuple[Image, ...]
    still: bool

    def exposures(self, steps: int) -> tuple[Exposure, ...]:
        """The spindle range of every frame, in ``steps`` midpoint steps."""
        scan = self.entry.scan
        if scan is None:
            return (Exposure(),)
        return tuple(scan.exposure(frame, 1 if self.still else steps) for frame in range(len(self.images)))


@dataclass(frozen=True)
class Scene:
    """All experiments and what they share."""

    experiments: tuple[FitExperiment, ...]
    detector: Detector
    structure_factors: StructureFactors
    document: ExperimentList
    has_amplitudes: bool


def beam_for_fit(beam: BeamConfig, settings: FitSettings) -> BeamConfig:
    """``beam`` with the spectrum asked for, and a fluence that makes r_e²·fluence 1: scales carry the rest."""
    fluence = 1 / CLASSICAL_ELECTRON_RADIUS_SQUARED
    return replace(beam, spectrum=settings.beam.spectrum, fluence=fluence)


def detector_for_fit(detector: DetectorConfig, settings: FitSettings) -> DetectorConfig:
    """``detector`` with its sensor in as many layers as asked for, where it has one."""
    thick = any(panel.thickness > 0 and math.isfinite(panel.attenuation_length) for panel in detector.panels)
    return replace(detector, layers=settings.detector.layers if thick else 1)


def build_scene(
    document: ExperimentList,
    frames: dict[int, tuple[Image, ...]],
    settings: FitSettings,
    journal: Journal,
    factors: StructureFactors | None = None,
) -> Scene:
    """The models of ``document`` for the entries that ``frames`` (entry → files) names; ``factors``: where known.

    Raises DataError where an entry has no crystal, or where entries have different detectors.
    """
    entries = [(index, document.entries[index]) for index in sorted(frames)]
    first = entries[0][1]
    for index, entry in entries[1:]:
        refuse_other_detector(document.path, first.detector, entry.detector, index)
    if any(entry.crystal is None for _, entry in entries):
        raise DataError(str(document.path), "an experiment has no crystal", "Index it first (dials.index)")
    factors = factors or read_factors(dict(entries), settings, journal)
    config = detector_for_fit(first.detector, settings)
    detector = Detector(config, chosen_groups(root_group(config), len(config.panels), settings.detector.levels))
    beams = {e.beam_index: Beam(beam_for_fit(e.beam, settings)) for _, e in entries}
    expts = []
    for index, entry in entries:
        still = is_still(entry, settings.data)
        crystal = Crystal(crystal_for_fit(entry, settings, 0 if still else len(frames[index])))
        experiment = Experiment(crystal, beams[entry.beam_index], detector, factors)
        expts.append(FitExperiment(index, experiment, entry, frames[index], still))
    return Scene(tuple(expts), detector, factors, document, settings.data.amplitudes != "none")


def shared_crystals(scene: Scene) -> list[list[int]]:
    """Numbers of the experiments that share a crystal of the experiment list; nothing for a crystal of one."""
    groups: dict[int | None, list[int]] = {}
    for expt in scene.experiments:
        groups.setdefault(expt.entry.crystal_index, []).append(expt.index)
    return [group for group in groups.values() if len(group) > 1]


def refuse_other_detector(path: Path, first: DetectorConfig, other: DetectorConfig, number: int) -> None:
    """Raises DataError where the detector of experiment ``number`` is not the ``first``, naming what differs.

    They are compared by value: stills processing writes one and the same detector for every still.
    """
    different = differences(first, other, limit=1)
    if different:
        why = f"the detectors of its experiments differ: in experiment {number} {different[0]}"
        raise DataError(str(path), why, "Fit one detector at a time")


def crystal_for_fit(entry: ExperimentEntry, settings: FitSettings, frames: int) -> CrystalConfig:
    """The crystal of ``entry`` with the shape, size and mosaic spread that an .expt does not carry, and with knots over
    the ``frames`` of a scan where it may drift."""
    assert entry.crystal is not None
    spread = settings.crystal.mosaic_spread or 0.0
    if settings.crystal.mosaic == "anisotropic" and not isinstance(spread, tuple):
        spread = (spread, spread, spread)
    smooth = max(spread) if isinstance(spread, tuple) else spread
    # a spread that is free is there to be found, whatever it starts from
    none = smooth == 0 and not settings.parameters.mosaic_spread
    domains = settings.crystal.mosaic_domains or (1 if none else MOSAIC_DOMAINS)
    knots = scan_knots(entry.scan, frames, settings.parameters) if entry.scan is not None and frames else ()
    return replace(
        entry.crystal,
        shape=settings.render.shape,
        n_cells=settings.crystal.n_cells or default_n_cells(entry.crystal),
        mosaic=MosaicConfig(spread, domains),
        knots=knots,
    )


def default_n_cells(crystal: CrystalConfig) -> tuple[float, float, float]:
    """Cells along each axis of a crystal of one size: then another size does not move where a still's spots lie."""
    a, b, c = crystal.cell[:3]
    size = DEFAULT_N_CELLS * (a * b * c) ** (1 / 3)
    return size / a, size / b, size / c
