"""Frames as they come from a detector, as an experiment list without crystals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nbtorch.errors import DataError
from nbtorch.io.expt.read import read_document
from nbtorch.io.expt.types import ExperimentList
from nbtorch.io.frames import FrameRef, list_frames
from nbtorch.io.geometry.document import Document, alike, numbered
from nbtorch.io.geometry.read import header_geometry
from nbtorch.io.geometry.types import HeaderGeometry, Stated

#: Degrees by which a frame may start beside the end of the one before: headers round to 1e-4.
ANGLE = 2e-3


@dataclass(frozen=True)
class Imported:
    """What the headers of frames say. ``stated`` are the numbers of the first file, each with its origin; ``masks``
    hold one array a panel [slow, fast], True where a pixel may be used, or None; ``notes`` are sentences."""

    experiments: ExperimentList
    stated: tuple[Stated, ...]
    notes: tuple[str, ...]
    masks: tuple[np.ndarray, ...] | None = None


@dataclass(frozen=True)
class _Run:
    """Frames of one geometry: a rotation, or a still."""

    geometry: HeaderGeometry
    frames: tuple[FrameRef, ...]
    first_image: int


def geometry_of(frames: Sequence[str | Path | FrameRef], stated: Mapping[str, Any] | None = None) -> Imported:
    """An experiment list, without crystals, of ``frames``: files in the order of the measurement, or images of files.

    Frames whose angles and numbers follow one another become a scan, others scans or stills of their own; detectors,
    beams and goniometers that are equal are shared. ``stated`` (name → value, see QUANTITIES) comes before the headers.
    Raises FileError naming what neither says; DataError where there is no frame.
    """
    if not frames:
        raise DataError("no frames", "there is nothing to read a geometry from", "Name files of frames")
    runs: list[_Run] = []
    for item in frames:
        for run in _runs_of(item, stated or {}):
            run = _at_its_turn(run, runs[0]) if runs and "oscillation" in (stated or {}) else run
            joined = _joined(runs[-1], run) if runs else None
            runs = [*runs[:-1], joined] if joined is not None else [*runs, run]
    document = Document()
    for run in runs:
        document.add(run.geometry, run.frames, run.first_image)
    first = runs[0].geometry
    path = runs[0].frames[0].path
    notes = tuple(dict.fromkeys(note for run in runs for note in run.geometry.notes))
    return Imported(read_document(document.models, path), first.stated, notes, first.masks)


def _at_its_turn(run: _Run, first: _Run) -> _Run:
    """``run`` at the angle that follows from its number, where the user states those of the first frame alone."""
    scan = run.geometry.scan
    if scan is None or not _same_series(first.frames[0].path, run.frames[0].path):
        return run
    later = scan.phi_start + scan.oscillation * (run.first_image - first.first_image)
    return replace(run, geometry=replace(run.geometry, scan=replace(scan, phi_start=later)))


def _runs_of(item: str | Path | FrameRef, stated: Mapping[str, Any]) -> list[_Run]:
    """The run or runs of one file, or of one image of a file."""
    ref = item if isinstance(item, FrameRef) else FrameRef(Path(item))
    geometry = header_geometry(ref.path, stated)
    listed = list_frames(ref.path, ref.dataset) if ref.index is None else (ref,)
    if ref.index is None and len(listed) == 1 and listed[0].index is None:
        return [_Run(geometry, listed, numbered(ref.path).number)]
    if geometry.scan is None:
        return [_Run(_shot(geometry, frame.index or 0), (frame,), (frame.index or 0) + 1) for frame in listed]
    start = listed[0].index or 0
    scan = replace(
        geometry.scan, phi_start=geometry.scan.phi_start + start * geometry.scan.oscillation, n_frames=len(listed)
    )
    return [_Run(replace(geometry, scan=scan, n_frames=len(listed)), tuple(listed), start + 1)]


def _shot(geometry: HeaderGeometry, index: int) -> HeaderGeometry:
    """The geometry of one still of a file, at its own wavelength where the file says one a shot."""
    if not geometry.wavelengths:
        return geometry
    return replace(geometry, beam=replace(geometry.beam, wavelength=geometry.wavelengths[index]))


def _same_series(one: Path, other: Path) -> bool:
    a, b = numbered(one), numbered(other)
    return (one.parent, a.before, a.after) == (other.parent, b.before, b.after)


def _joined(before: _Run, after: _Run) -> _Run | None:
    """Both as one scan, where ``after`` goes on from ``before``; else None."""
    a, b = before.geometry, after.geometry
    if a.scan is None or b.scan is None or before.first_image + a.scan.n_frames != after.first_image:
        return None
    if before.frames[0].index != after.frames[0].index or not _same_series(before.frames[0].path, after.frames[0].path):
        return None
    end = a.scan.phi_start + a.scan.n_frames * a.scan.oscillation
    same = (
        abs(b.scan.oscillation - a.scan.oscillation) < ANGLE and abs((b.scan.phi_start - end + 180) % 360 - 180) < ANGLE
    )
    if not same or not (alike(a.detector, b.detector) and alike(a.beam, b.beam) and alike(a.goniometer, b.goniometer)):
        return None
    count = a.scan.n_frames + b.scan.n_frames
    scan = replace(a.scan, n_frames=count)
    return _Run(replace(a, scan=scan, n_frames=count), before.frames + after.frames, before.first_image)
