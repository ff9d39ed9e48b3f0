"""Which files belong to which experiment."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nbtorch.errors import DataError, FileError
from nbtorch.io import ExperimentList
from nbtorch.io.paths import COMPRESSIONS, existing
from refine.settings.fit_settings import DataSettings
from refine.settings.locate import find_frames

Missing = dict[int, FileError]  # entry number → which of its frames is not there


def assign_frames(document: ExperimentList, settings: DataSettings) -> tuple[dict[int, tuple[Path, ...]], Missing]:
    """The files of every experiment that has any: entry number → frames; and the experiments whose frames are missing.

    Given frames are matched by name, else, where as many are given as the experiments need, by order. Where the
    experiments name them, one that is not there costs its frame of a scan, or its still. Raises DataError where neither
    way works, FileError where none of the experiments' own frames is there.
    """
    missing: Missing = {}
    if settings.frames is None:
        chosen, missing = _own(document)
    else:
        files = find_frames(settings.frames)
        if not files:
            raise FileError(f"data.frames={settings.frames}", "no file matches", "Check the folder and the pattern")
        chosen = _by_name(document, files) or _by_order(document, files, settings.frames)
    if settings.frame_range is not None:
        first, last = settings.frame_range
        chosen = {i: images[first : last + 1] for i, images in chosen.items()}
    chosen = {i: images for i, images in chosen.items() if images}
    if not chosen:
        raise DataError(f"data.frame_range={settings.frame_range}", "it leaves no frame", "Count frames from 0")
    return chosen, missing


def _own(document: ExperimentList) -> tuple[dict[int, tuple[Path, ...]], Missing]:
    """The frames that the experiments name, but for experiments of which no frame is there."""
    named = {number: entry.images for number, entry in enumerate(document.entries) if entry.images}
    there = {number: images for number, images in named.items() if any(existing(path) is not None for path in images)}
    absent = [path for images in named.values() for path in images if existing(path) is None]
    if named and not there:
        shown = ", ".join(str(path) for path in absent[:3])
        raise FileError(
            f"{len(absent)} frames of {document.path}", f"they are not there ({shown})", "Give data.frames=GLOB"
        )
    missing = {
        number: FileError(str(images[0]), "the frame is not there", "Put it back, or give data.frames=GLOB")
        for number, images in named.items()
        if number not in there
    }
    return there, missing


def _bare(path: Path) -> str:
    """The file's name without a compression's suffix."""
    name = path.name
    for suffix in COMPRESSIONS:
        name = name.removesuffix(suffix)
    return name


def _by_name(document: ExperimentList, files: tuple[Path, ...]) -> dict[int, tuple[Path, ...]]:
    """The files that the experiments name; a scan only where all of its frames are among them. Empty: not by name."""
    known = {_bare(path): path for path in files}
    chosen = {}
    for number, entry in enumerate(document.entries):
        names = [_bare(path) for path in entry.images]
        if names and all(name in known for name in names):
            chosen[number] = tuple(known[name] for name in names)
    used = {path for images in chosen.values() for path in images}
    return chosen if len(used) == len(files) else {}


def _by_order(document: ExperimentList, files: tuple[Path, ...], given: str) -> dict[int, tuple[Path, ...]]:
    """The files dealt out in order, one to a still and a scan's worth to a scan."""
    needed = [entry.scan.n_frames if entry.scan is not None else 1 for entry in document.entries]
    if len(files) != sum(needed):
        raise DataError(
            f"data.frames={given}",
            f"it matches {len(files)} files, and the {len(needed)} experiments of {document.path} need {sum(needed)}",
            "Give as many frames, or frames with the names that the experiments hold",
        )
    ends = np.cumsum(needed)
    return {i: files[end - count : end] for i, (end, count) in enumerate(zip(ends, needed, strict=True))}
