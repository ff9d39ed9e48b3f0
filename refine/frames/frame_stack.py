"""The frames of an experiment, on disk: each is read when asked for, and only its pixels about shoeboxes are kept.

So what a fit holds grows with its shoeboxes and not with the frames or their size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from nbtorch.config import DetectorConfig
from nbtorch.errors import NbtorchError
from nbtorch.io import open_pixels, read_frame, trusted
from nbtorch.io.frames import Image, file_of
from nbtorch.io.geometry import mask_in_file
from refine.frames.kept_pixels import KeptPixels, Places, places_of
from refine.frames.pixel_maps import PixelMaps
from refine.frames.shoeboxes import BoxPlan
from refine.records.journal import Journal

T = TypeVar("T")
Array = NDArray[np.generic]
Bool = NDArray[np.bool_]
# By how much a box may move before its frame is read again: stages begin where others converged, to a fraction of it.
_MARGIN = 2  # pixels
_MARGIN_FRAMES = 1


class MeasuredFrame(NamedTuple):
    """One frame: counts, and which of them are valid, an array [slow, fast] a panel each."""

    counts: tuple[Array, ...]
    valid: tuple[Bool, ...]


class FrameReader:
    """Reads frames of one detector, and holds the last of them alone. ``maps``: mask, gain and pedestal of its pixels.

    What is masked in all frames is made once. ``detector`` has the gain that its signals are brought to.
    """

    def __init__(self, detector: DetectorConfig, maps: PixelMaps | None = None) -> None:
        self.maps = maps or PixelMaps()
        self.detector = self.maps.panel_gain(detector)
        user = self.maps.mask or [None] * len(detector.panels)
        self._open = tuple(open_pixels(panel, own) for panel, own in zip(detector.panels, user, strict=True))
        self._of_file: dict[Path, tuple[Bool, ...]] = {}
        self._last: tuple[Image, tuple[Array, ...]] | None = None

    def counts(self, path: Image) -> tuple[Array, ...]:
        """The panels of one frame as they are in the file. Raises NbtorchError where it cannot be read or is of another
        detector."""
        if self._last is None or self._last[0] != path:
            self._last = None  # one frame goes before another comes
            self._last = path, read_frame(path).panel_arrays(self.detector)
        return self._last[1]

    def frame(self, path: Image) -> MeasuredFrame:
        """One frame with its valid pixels. Raises NbtorchError like :meth:`counts`."""
        counts = self.counts(path)
        triples = zip(self.detector.panels, counts, self._unmasked(path), strict=True)
        valid = tuple(trusted(panel, image) & open_ for panel, image, open_ in triples)
        return MeasuredFrame(tuple(self._signal(n, image) for n, image in enumerate(counts)), valid)

    def _unmasked(self, image: Image) -> tuple[Bool, ...]:
        """The pixels that neither the user, nor the detector, nor a mask in the frame's own file leaves out."""
        file = file_of(image)
        if file not in self._of_file:
            held = mask_in_file(file, self.detector)
            both = self._open if held is None else tuple(a & b for a, b in zip(self._open, held, strict=True))
            self._of_file = {file: both}
        return self._of_file[file]

    def _signal(self, panel: int, counts: Array, places: Places | None = None) -> Array:
        """``counts`` of ``panel`` less its pedestal. The trusted range is of the file's own values."""
        return self.maps.signal(self.detector, panel, counts, ... if places is None else places)

    def pixels(self, path: Image, panel: int, places: Places) -> KeptPixels:
        """The pixels at ``places`` of one panel of one frame. Raises NbtorchError like :meth:`counts`."""
        counts = self.counts(path)[panel].reshape(-1)[places]
        valid = trusted(self.detector.panels[panel], counts) & self._unmasked(path)[panel].reshape(-1)[places]
        return KeptPixels(places, self._signal(panel, counts, places), valid)


class FrameStack:
    """The frames of one experiment. One that cannot be read, or no longer, costs its own pixels alone, and is said.

    ``journal`` is told of a frame that is lost.
    """

    def __init__(self, images: Sequence[Image], reader: FrameReader, journal: Journal) -> None:
        self.images = tuple(images)
        self.reader = reader
        self.journal = journal
        self._lost: dict[int, NbtorchError] = {}
        self._kept: dict[tuple[int, int], KeptPixels] = {}

    @property
    def lost(self) -> tuple[str, ...]:
        """What is wrong with each frame that cannot be read, and of which nothing was kept when it could."""
        kept = {number for number, _ in self._kept}
        return tuple(self._told(number) for number in sorted(self._lost) if number not in kept)

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(slow, fast) pixels of every panel."""
        return tuple((panel.size[1], panel.size[0]) for panel in self.reader.detector.panels)

    def frame(self, number: int) -> MeasuredFrame | None:
        """One frame, read now; None where it cannot be."""
        return self._unless_lost(number, self.reader.frame)

    def frames(self) -> Iterator[MeasuredFrame | None]:
        """All frames, one after the other. Raises the NbtorchError of the last where none can be read."""
        for number in range(len(self.images)):
            yield self.frame(number)
        if len(self._lost) == len(self.images):
            raise self._lost[len(self.images) - 1]

    def first(self) -> MeasuredFrame:
        """The first frame that can be read. Raises NbtorchError where none can."""
        return next(frame for frame in self.frames() if frame is not None)

    def _unless_lost(self, number: int, read: Callable[[Image], T]) -> T | None:
        """What ``read`` makes of a frame; None where it cannot be read, or could not be before: it is told once."""
        if number in self._lost:
            return None
        try:
            return read(self.images[number])
        except NbtorchError as error:
            self._lost[number] = error
            self.journal.say("frame_left_out", f"left out: {error}", frame=str(self.images[number]))
            return None

    def _told(self, number: int) -> str:
        """What is wrong with a lost frame; it begins with the frame where the error names its file alone."""
        image, error = str(self.images[number]), str(self._lost[number])
        return error if image in error else f"{image}: {error}"

    def fetch(self, plan: BoxPlan) -> None:
        """Keep the pixels of ``plan``. Frames that hold some which are not kept yet are read, each of them once."""
        wanted = places_of(plan, self.shapes)
        missing = {key[0] for key, places in wanted.items() if key not in self._kept or not self._kept[key].has(places)}
        missing -= set(self._lost)
        if not missing:
            return
        wider = places_of(self._grown(plan), self.shapes)
        for number, panel in sorted(wider):
            if number in missing:
                self._read_into(number, panel, wider[number, panel])

    def _read_into(self, number: int, panel: int, places: Places) -> None:
        """Keep the pixels at ``places`` of one panel of one frame, beside those that are kept."""
        before = self._kept.get((number, panel))
        every = places if before is None else np.union1d(before.places, places)
        pixels = self._unless_lost(number, lambda path: self.reader.pixels(path, panel, every))
        if pixels is not None:
            self._kept[number, panel] = pixels

    def keep(self, *plans: BoxPlan) -> None:
        """Let go of all kept pixels but those about the boxes of ``plans``."""
        kept: dict[tuple[int, int], KeptPixels] = {}
        for plan in plans:
            for key, places in places_of(self._grown(plan), self.shapes).items():
                if key in self._kept:
                    kept[key] = self._kept[key].among(places, kept.get(key))
        self._kept = kept

    def _grown(self, plan: BoxPlan) -> BoxPlan:
        """``plan`` with boxes larger by the margins, cut at the edges of panels and the ends of the scan."""
        sizes = np.array(self.shapes)[plan.panel]
        margins = (_MARGIN, _MARGIN, _MARGIN_FRAMES)
        limits = (sizes[:, 1], sizes[:, 0], np.full(len(plan), len(self.images)))
        ranges = (plan.fast, plan.slow, plan.frame)
        fast, slow, frame = (
            np.clip(pair + np.array([-margin, margin]), 0, limit[:, None])
            for pair, margin, limit in zip(ranges, margins, limits, strict=True)
        )
        return replace(plan, fast=fast, slow=slow, frame=frame)

    def at(self, number: int, panel: int, slow: NDArray[np.int64], fast: NDArray[np.int64]) -> tuple[Array, Bool]:
        """Counts and validity of the pixels [m] at ``slow``, ``fast``, which :meth:`fetch` has brought; 0 and false for
        those of a frame that was lost."""
        kept = self._kept.get((number, panel))
        if kept is None:
            return np.zeros(len(slow)), np.zeros(len(slow), dtype=bool)
        return kept.at(slow * self.shapes[panel][1] + fast)
