"""Which files belong to which experiment, and their pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nbtorch.config import DetectorConfig
from nbtorch.errors import DataError, FileError, NbtorchError
from nbtorch.io import ExperimentList, read_frame, read_mask, valid_pixels
from nbtorch.io.expt import ExperimentEntry
from nbtorch.io.paths import COMPRESSIONS, existing
from refine.locate import find_frames
from refine.settings import DataSettings

Say = Callable[[str], None]
Missing = dict[int, FileError]  # entry number → which of its frames is not there


@dataclass(frozen=True)
class FrameStack:
    """The frames of one shot: counts and valid, frame → panel → [slow, fast]. ``lost`` names frames without data."""

    counts: tuple[tuple[np.ndarray, ...], ...]
    valid: tuple[tuple[np.ndarray, ...], ...]
    lost: tuple[str, ...]


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


def load(images: tuple[Path, ...], entry: ExperimentEntry, mask: str | None, say: Say) -> FrameStack:
    """The pixels of ``images``. A frame that cannot be read costs that frame alone; raises its error if all fail."""
    detector = entry.detector
    user = read_mask(Path(mask), detector) if mask else None
    counts, valid, lost = [], [], []
    failure: NbtorchError | None = None
    for path in images:
        try:
            panels = read_frame(path).panel_arrays(detector)
        except NbtorchError as error:
            failure = error
            lost.append(str(error))
            say(f"left out: {error}")
            panels = _nothing(detector)
        counts.append(panels)
        valid.append(_valid(detector, panels, user))
    if failure is not None and len(lost) == len(images):
        raise failure
    return FrameStack(tuple(counts), tuple(valid), tuple(lost))


def _nothing(detector: DetectorConfig) -> tuple[np.ndarray, ...]:
    """A frame on which nothing was measured."""
    return tuple(np.full((panel.size[1], panel.size[0]), np.nan) for panel in detector.panels)


def _valid(
    detector: DetectorConfig, panels: tuple[np.ndarray, ...], user: tuple[np.ndarray, ...] | None
) -> tuple[np.ndarray, ...]:
    """The pixels of one frame that were measured, [slow, fast] a panel."""
    masks = user if user is not None else (None,) * len(panels)
    pairs = zip(detector.panels, panels, masks, strict=True)
    return tuple(valid_pixels(panel, counts, mask) for panel, counts, mask in pairs)
