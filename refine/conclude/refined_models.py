"""The models where the fit left them, as an experiment list takes them."""

from __future__ import annotations

from dataclasses import replace

import torch

from nbtorch.config import BeamConfig, CrystalConfig, DetectorConfig, Mat3
from nbtorch.models import Crystal, Detector, Experiment
from refine.fit.problem import Problem
from refine.scene.scene import FitExperiment


def refined_detector(detector: Detector) -> DetectorConfig:
    """The configuration of ``detector`` with its panels where the fit left them."""
    frames = detector.frames().detach().numpy()
    panels = tuple(
        replace(panel, fast_axis=tuple(frame[0]), slow_axis=tuple(frame[1]), origin=tuple(frame[3]), normal=None)
        for panel, frame in zip(detector.config.panels, frames.tolist(), strict=True)
    )
    return replace(detector.config, panels=panels)


def refined_beams(problem: Problem, experiments: list[Experiment]) -> dict[int, BeamConfig]:
    """Beams by their index in the document."""
    pairs = [(item.expt.entry, experiment) for item, experiment in zip(problem.evidence, experiments, strict=True)]
    return {entry.beam_index: refined_beam(entry.beam, experiment) for entry, experiment in pairs}


def refined_beam(config: BeamConfig, experiment: Experiment) -> BeamConfig:
    """``config`` with the beam where the fit left it."""
    beam = experiment.beam
    direction = (beam.direction / beam.direction.norm()).tolist()
    changed = replace(config, direction=tuple(direction), wavelength=float(beam.wavelength.detach()))
    if beam.polarized:
        changed = replace(changed, kahn_factor=float(beam.kahn_factor.detach().clamp(-1, 1)))
    return changed


def refined_crystals(problem: Problem, experiments: list[Experiment]) -> dict[int, CrystalConfig]:
    """Crystals by their index in the document."""
    crystals = {}
    for item, experiment in zip(problem.evidence, experiments, strict=True):
        crystal, entry = experiment.crystal, item.expt.entry
        assert entry.crystal is not None
        assert entry.crystal_index is not None
        with torch.no_grad():
            turn, cell = crystal.lab_rotation().tolist(), crystal.mean_cell().tolist()
        crystals[entry.crystal_index] = replace(
            entry.crystal,
            cell=tuple(cell),
            orientation=(tuple(turn[0]), tuple(turn[1]), tuple(turn[2])),
            n_cells=tuple(crystal.n_cells.tolist()),
            scan_points=scan_points(crystal, item.expt),
        )
    return crystals


@torch.no_grad()
def scan_points(crystal: Crystal, expt: FitExperiment) -> tuple[Mat3, ...]:
    """Rows a, b, c of a crystal that drifts, at the start of every frame and the last's end: dxtbx's scan points."""
    scan = expt.entry.scan
    if not crystal.drifts or scan is None:
        return ()
    phi = scan.phi_start + scan.oscillation * torch.arange(len(expt.images) + 1, dtype=torch.float64)
    rows = crystal.vectors_at(phi)[0].tolist()
    return tuple((tuple(a), tuple(b), tuple(c)) for a, b, c in rows)
