"""What a fit starts from: an experiment list of the user's, or what the headers of the frames say."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from nbtorch.errors import FileError
from nbtorch.io import ExperimentList, read_expt
from nbtorch.io.geometry import Imported, beam_hit, geometry_of
from refine.frames.assign_frames import Assigned, assign_frames
from refine.records.journal import JournalEntry
from refine.settings.fit_settings import FitSettings
from refine.settings.locate import find_frames


class Start(NamedTuple):
    """The experiments and their frames; ``notes``: where a geometry that headers say came from."""

    experiments: ExperimentList
    assigned: Assigned
    notes: tuple[JournalEntry, ...] = ()


def start_document(settings: FitSettings) -> Start:
    """The experiments of ``data.experiment``, else those of the headers of ``data.frames``, and their frames.

    Raises FileError for what cannot be read and for numbers that neither header nor user states.
    """
    data = settings.data
    if data.experiment:
        experiments = read_expt(data.experiment)
        return Start(experiments, assign_frames(experiments, data))
    assert data.frames is not None  # FitSettings asks for one of them
    files = find_frames(data.frames)
    if not files:
        raise FileError(f"data.frames={data.frames}", "no file matches", "Check the folder and the pattern")
    found = geometry_of(files, settings.geometry.stated())
    return Start(found.experiments, assign_frames(found.experiments, replace(data, frames=None)), _told(found))


def _told(found: Imported) -> tuple[JournalEntry, ...]:
    """Every number with its origin: assumed ones are assumptions, and what contradicts is a warning."""
    lines = [
        JournalEntry(
            "geometry_assumed" if item.assumed else "geometry_read",
            f"geometry: {item}",
            "assumption" if item.assumed else "info",
            {"name": item.name, "value": item.value, "origin": item.origin},
        )
        for item in found.stated
    ]
    entries = found.experiments.entries
    hit = beam_hit(entries[0].detector, entries[0].beam)
    if hit is not None:
        said = (
            f"geometry: the beam meets panel {hit.panel} at {hit.fast:.2f}, {hit.slow:.2f} px (fast, slow), whose "
            f"plane stands {hit.distance:.4g} mm from the sample"
        )
        lines.append(JournalEntry("geometry_read", said, "info", hit._asdict()))
    scans = [entry.scan for entry in entries if entry.scan is not None]
    said = ", ".join(
        f"{scan.n_frames} frame{'s' * (scan.n_frames > 1)} from {scan.phi_start:g}° in steps of {scan.oscillation:g}°"
        for scan in scans[:4]
    ) + (", …" if len(scans) > 4 else "")
    stills = len(entries) - len(scans)
    words = [
        *([f"{len(scans)} scan{'s' * (len(scans) > 1)} ({said})"] if scans else []),
        *([f"{stills} still{'s' * (stills > 1)}"] * (stills > 0)),
    ]
    numbers = {"scans": len(scans), "stills": stills}
    lines.append(JournalEntry("frames_grouped", f"the frames are {' and '.join(words)}", "choice", numbers))
    return (*lines, *(JournalEntry("header_contradicts", note, "warning") for note in found.notes))
