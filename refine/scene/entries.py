"""Which frames of which experiments are fitted, and as what: the scan is cut with its frames, and stills are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from nbtorch.errors import DataError, FileError
from nbtorch.io import ExperimentList
from nbtorch.io.expt import HARMLESS, ExperimentEntry, Part, subset
from nbtorch.io.frames import Image
from refine.records.journal import JournalEntry, merged
from refine.settings.fit_settings import DataSettings

Frames = Mapping[int, tuple[Image, ...]]


@dataclass(frozen=True)
class Chosen:
    """The experiments to fit. ``frames``: number in ``experiments`` → files; ``missing``: number → what is not there.

    ``notes``: what was decided.
    """

    experiments: ExperimentList
    frames: dict[int, tuple[Image, ...]]
    missing: dict[int, FileError]
    notes: tuple[JournalEntry, ...] = ()


def entries_to_fit(
    experiments: ExperimentList, frames: Frames, missing: Mapping[int, FileError], settings: DataSettings
) -> Chosen:
    """``experiments`` with the frames of ``data.frame_range`` alone, and with each still an experiment of its own.

    A scan keeps its rotation, however few its frames. Stills are: experiments without a goniometer or without a scan,
    scans of no width (all frames at one angle), and with ``data.still`` every frame of a scan, at its middle angle.
    Raises DataError where the range leaves no frame.
    """
    parts: list[Part] = []
    given: list[tuple[Image, ...] | None] = []
    gone: list[FileError | None] = []
    for number, entry in enumerate(experiments.entries):
        images = frames.get(number, ())
        count = _count(entry)
        first, last = (0, count - 1) if settings.frame_range is None or not images else settings.frame_range
        last = min(last, count - 1)
        if first > last:
            continue
        split = is_still(entry, settings) and entry.scan is not None and last > first
        for low, high in [(k, k) for k in range(first, last + 1)] if split else [(first, last)]:
            parts.append(Part(number, low, high))
            given.append(images[low : high + 1] or None)
            gone.append(missing.get(number))
    if not any(given):
        raise DataError(f"data.frame_range={settings.frame_range}", "it leaves no frame", "Count frames from 0")
    whole = [Part(number, 0, _count(entry) - 1) for number, entry in enumerate(experiments.entries)]
    cut = experiments if parts == whole else subset(experiments, parts)
    entries = tuple(_without_scan(entry) if entry.goniometer_index is None else entry for entry in cut.entries)
    return Chosen(
        replace(cut, entries=entries),
        {place: images for place, images in enumerate(given) if images},
        {place: error for place, error in enumerate(gone) if error is not None},
        merged(_unused(experiments), *(_notes(experiments.entries[part.number], settings) for part in parts)),
    )


def is_still(entry: ExperimentEntry, settings: DataSettings) -> bool:
    """Whether the crystal is taken to stand still in each frame of ``entry``."""
    return entry.is_still or settings.still


def _count(entry: ExperimentEntry) -> int:
    """Frames that an experiment names."""
    return max(1, entry.scan.n_frames if entry.scan is not None else len(entry.images))


def _without_scan(entry: ExperimentEntry) -> ExperimentEntry:
    """Without a goniometer nothing turns: the angle of a scan says nothing (dxtbx calls such an entry a still)."""
    return replace(entry, scan=None)


def _unused(experiments: ExperimentList) -> list[JournalEntry]:
    """Keys of the experiment list that would matter and of which no fit makes anything."""
    matter = [said for said in experiments.not_used if not said.startswith(HARMLESS)]
    return [JournalEntry("key_not_used", said) for said in matter]


def _notes(entry: ExperimentEntry, settings: DataSettings) -> list[JournalEntry]:
    if entry.scan is None:
        return []
    if entry.goniometer_index is None:
        said = "an experiment with a scan but without a goniometer is a still: nothing turns"
    elif entry.scan.oscillation == 0:
        said = f"all frames of a scan are at {entry.scan.phi_start:g}°: each is a still at that angle"
    elif settings.still:
        said = "data.still=true: every frame of a scan is a still at its middle angle; they share the crystal"
    else:
        return []
    return [JournalEntry("scan_as_stills", said, "choice")]
