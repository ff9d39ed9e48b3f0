"""The usual mistakes of headers, each with what undoes it: an experiment's models as they would be without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from nbtorch.config import DetectorConfig, PanelConfig
from nbtorch.io.expt import ExperimentEntry
from refine.indexing.lattice_view import Floats

Change = Callable[[ExperimentEntry], ExperimentEntry | None]
_WAVELENGTHS = (0.01, -0.01, 0.02, -0.02, 0.03, -0.03, 0.04, -0.04, 0.05, -0.05)
_UNITS = (10.0, 0.1, 1000.0, 0.001)


@dataclass(frozen=True)
class Mistake:
    """``words`` say what is done to the models; ``undo`` does it, None where it does not apply."""

    words: str
    undo: Change


def mistakes() -> tuple[Mistake, ...]:
    """All that are tried, the commonest first."""
    found = [
        Mistake("the beam centre's fast and slow exchanged", _exchanged),
        Mistake("the detector upside down (turned by 180° about the beam)", lambda e: _mirrored(e, (True, True))),
        Mistake("the fast axis reversed about the beam", lambda e: _mirrored(e, (True, False))),
        Mistake("the slow axis reversed about the beam", lambda e: _mirrored(e, (False, True))),
        Mistake("the spindle turning the other way", _spindle),
    ]
    found += [Mistake(f"the wavelength {change:+.0%}", _wavelength(1 + change)) for change in _WAVELENGTHS]
    return (*found, *(Mistake(f"{factor:g} times the distance", _distance(factor)) for factor in _UNITS))


def beam_centre(entry: ExperimentEntry) -> tuple[PanelConfig, Floats, Floats] | None:
    """The panel that the beam meets nearest to its middle, where [3] (mm), and the pixel [2]; None: it meets none."""
    beam = -np.array(entry.beam.direction) / np.linalg.norm(entry.beam.direction)
    if _towards_source(entry):
        beam = -beam
    found = []
    for panel in entry.detector.panels:
        rows = np.array([panel.fast_axis, panel.slow_axis, panel.origin])
        axes = np.column_stack([rows[0], rows[1], -beam])
        if abs(np.linalg.det(axes)) > 1e-6:
            fast, slow, depth = np.linalg.solve(axes, -rows[2])
            pixel = np.array([fast, slow]) / panel.pixel_size
            if depth > 0:
                off = np.abs(pixel / panel.size - 0.5).max()
                found.append((off, panel, depth * beam, pixel))
    return min(found, key=lambda row: row[0])[1:] if found else None


def _towards_source(entry: ExperimentEntry) -> bool:
    """Whether the beam's direction is that of its travel: then the detector lies along it."""
    middle = np.mean([panel.origin for panel in entry.detector.panels], axis=0)
    return bool(middle @ np.array(entry.beam.direction) > 0)


def _moved(entry: ExperimentEntry, by: Floats) -> ExperimentEntry:
    panels = tuple(replace(p, origin=_vec(np.array(p.origin) + by)) for p in entry.detector.panels)
    return replace(entry, detector=replace(entry.detector, panels=panels))


def _exchanged(entry: ExperimentEntry) -> ExperimentEntry | None:
    found = beam_centre(entry)
    if found is None:
        return None
    panel, _, (fast, slow) = found
    step = np.array(panel.fast_axis) * panel.pixel_size[0] - np.array(panel.slow_axis) * panel.pixel_size[1]
    return _moved(entry, (fast - slow) * step)


def _distance(factor: float) -> Change:
    def change(entry: ExperimentEntry) -> ExperimentEntry | None:
        found = beam_centre(entry)
        return None if found is None else _moved(entry, (factor - 1) * found[1])

    return change


def _wavelength(factor: float) -> Change:
    def change(entry: ExperimentEntry) -> ExperimentEntry:
        return replace(entry, beam=replace(entry.beam, wavelength=factor * entry.beam.wavelength))

    return change


def _spindle(entry: ExperimentEntry) -> ExperimentEntry | None:
    if entry.crystal is None or entry.scan is None or entry.scan.oscillation == 0 or entry.goniometer_index is None:
        return None
    goniometer = entry.crystal.goniometer
    turned = replace(goniometer, axis=_vec(-np.array(goniometer.axis)))
    return replace(entry, crystal=replace(entry.crystal, goniometer=turned))


def _mirrored(entry: ExperimentEntry, which: tuple[bool, bool]) -> ExperimentEntry | None:
    """The detector mirrored about the beam along its fast and its slow axis: the beam centre stays."""
    found = beam_centre(entry)
    if found is None:
        return None
    beam = found[1] / np.linalg.norm(found[1])
    fast = np.array(found[0].fast_axis) - (np.array(found[0].fast_axis) @ beam) * beam
    fast /= np.linalg.norm(fast)
    mirror = np.eye(3)
    for axis, wanted in zip((fast, np.cross(beam, fast)), which, strict=True):
        if wanted:
            mirror = mirror @ (np.eye(3) - 2 * np.outer(axis, axis))
    return replace(entry, detector=_reflected(entry.detector, mirror))


def _reflected(detector: DetectorConfig, mirror: Floats) -> DetectorConfig:
    def panel(one: PanelConfig) -> PanelConfig:
        fast, slow, origin = (_vec(mirror @ np.array(row)) for row in (one.fast_axis, one.slow_axis, one.origin))
        return replace(one, fast_axis=fast, slow_axis=slow, origin=origin, normal=None)

    return replace(detector, panels=tuple(panel(one) for one in detector.panels))


def _vec(values: Floats) -> tuple[float, float, float]:
    x, y, z = values.tolist()
    return x, y, z
