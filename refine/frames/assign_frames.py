"""Which files belong to which experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nbtorch.errors import DataError, FileError
from nbtorch.io import ExperimentList
from nbtorch.io.expt import ExperimentEntry
from nbtorch.io.frames import FrameRef, Image, file_of, list_frames
from nbtorch.io.paths import COMPRESSIONS, existing
from refine.records.journal import JournalEntry
from refine.settings.fit_settings import DataSettings
from refine.settings.locate import find_frames

Missing = dict[int, FileError]  # entry number → which of its frames is not there


class Assigned(NamedTuple):
    """``frames``: entry number → files, of every experiment that has any; ``missing``: those whose frames are not
    there; ``unused``: given files that belong to no experiment."""

    frames: dict[int, tuple[Image, ...]]
    missing: Missing
    unused: tuple[Path, ...] = ()


def assign_frames(document: ExperimentList, settings: DataSettings) -> Assigned:
    """Which files belong to which experiment.

    Given frames are matched by name, with as much of the path as tells them apart; else, of one experiment, or of
    experiments that name no frames, by order, where as many are given as are needed. Where the experiments name them,
    one that is not there costs its frame of a scan, or its still. Raises DataError where neither way works, FileError
    where none of the experiments' own frames is there.
    """
    if settings.frames is None:
        chosen, missing = _own(document)
        return Assigned({i: images for i, images in chosen.items() if images}, missing)
    files = find_frames(settings.frames)
    if not files:
        raise FileError(f"data.frames={settings.frames}", "no file matches", "Check the folder and the pattern")
    chosen = _by_name(document, files) or _by_order(document, files, settings.frames)
    used = {file_of(image) for images in chosen.values() for image in images}
    return Assigned(chosen, {}, tuple(path for path in files if path not in used))


def images_of(entry: ExperimentEntry) -> tuple[Image, ...]:
    """The frames that an experiment names: files, or images of files that hold several.

    Of a scan that names one file, image n of the scan is number n - 1 of the file where nothing else is said, as dxtbx
    has it.
    """
    files = entry.images
    if entry.image_indices:
        paths = files if len(files) == len(entry.image_indices) else files[:1] * len(entry.image_indices)
        return tuple(FrameRef(path, index) for path, index in zip(paths, entry.image_indices, strict=True))
    if entry.scan is not None and len(files) == 1 < entry.scan.n_frames:
        first = entry.scan.first_image - 1
        return tuple(FrameRef(files[0], first + n) for n in range(entry.scan.n_frames))
    return files


def _own(document: ExperimentList) -> tuple[dict[int, tuple[Image, ...]], Missing]:
    """The frames that the experiments name, but for experiments of which no frame is there."""
    named = {number: images_of(entry) for number, entry in enumerate(document.entries) if entry.images}
    files = {number: tuple(dict.fromkeys(map(file_of, images))) for number, images in named.items()}
    there = {number: named[number] for number, paths in files.items() if any(existing(path) for path in paths)}
    absent = [path for paths in files.values() for path in paths if existing(path) is None]
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


def _by_name(document: ExperimentList, files: tuple[Path, ...]) -> dict[int, tuple[Image, ...]]:
    """The files that the experiments name; a scan only where all of its frames are among them.

    Several experiments may name one file: it is each one's.
    """
    known: dict[str, list[Path]] = {}
    for path in files:
        known.setdefault(_bare(path), []).append(path)
    chosen: dict[int, tuple[Image, ...]] = {}
    for number, entry in enumerate(document.entries):
        if entry.images and all(_bare(path) in known for path in entry.images):
            found = {path: _most_alike(path, known[_bare(path)]) for path in entry.images}
            chosen[number] = tuple(
                replace(image, path=found[image.path]) if isinstance(image, FrameRef) else found[image]
                for image in images_of(entry)
            )
    return chosen


def _most_alike(stated: Path, files: Sequence[Path]) -> Path:
    """The one of ``files`` of one name that has most folders in common with ``stated``, counted from the name.

    Raises DataError where two have as many.
    """
    alike = [_common_end(stated.parent.parts, path.parent.parts) for path in files]
    best = [path for path, count in zip(files, alike, strict=True) if count == max(alike)]
    if len(best) > 1:
        shown = ", ".join(str(path) for path in best[:3])
        raise DataError(
            f"data.frames: {shown}",
            f"they have one name, and the experiment's {stated} does not tell which is meant",
            "Give the frames of one folder",
        )
    return best[0]


def _common_end(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    """How many parts two paths have in common, counted from their ends."""
    pairs = zip(reversed(first), reversed(second), strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def _by_order(document: ExperimentList, files: tuple[Path, ...], given: str) -> dict[int, tuple[Image, ...]]:
    """The files dealt out in order, one to a still and a scan's worth to a scan."""
    named = [number for number, entry in enumerate(document.entries) if entry.images]
    if len(document.entries) > 1 and named:
        raise DataError(
            f"data.frames={given}",
            f"none of the {len(files)} files has the name of a frame of {document.path}, such as"
            f" {document.entries[named[0]].images[0].name}: which file belongs to which experiment is not known",
            "Give frames with the names that the experiments hold",
        )
    needed = [entry.scan.n_frames if entry.scan is not None else 1 for entry in document.entries]
    images: tuple[Image, ...] = files
    if len(files) != sum(needed):
        listed = (ref for path in files for ref in list_frames(path))
        images = tuple(ref.path if ref.index is None else ref for ref in listed)
    if len(images) != sum(needed):
        held = f"{len(files)} files" + (f" with {len(images)} images" if len(images) > len(files) else "")
        raise DataError(
            f"data.frames={given}",
            f"it matches {held}, and the {len(needed)} experiments of {document.path} need {sum(needed)}",
            "Give as many frames, or frames with the names that the experiments hold",
        )
    ends = np.cumsum(needed)
    return {i: images[end - count : end] for i, (end, count) in enumerate(zip(ends, needed, strict=True))}


def unused_files(files: Sequence[Path]) -> JournalEntry:
    """What to say of given files that belong to no experiment."""
    shown = ", ".join(path.name for path in files[:3]) + (", …" if len(files) > 3 else "")
    said = f"{len(files)} files of data.frames belong to no experiment and are not used ({shown})"
    return JournalEntry("files_not_used", said, "warning", {"files": len(files)})
