"""One number a pixel: the mask, gain and pedestal that a user or the experiment list names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nbtorch.config import DetectorConfig
from nbtorch.errors import DataError, NbtorchError
from nbtorch.io import read_mask, read_pixel_map
from nbtorch.io.expt import PixelFiles
from refine.records.journal import Journal

Array = NDArray[np.float64]
Bool = NDArray[np.bool_]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class PixelMaps:
    """Arrays [slow, fast] a panel, or None. ``mask`` is true where a pixel may be used; ``gain`` in ADU a photon;
    ``pedestal`` in ADU."""

    mask: tuple[Bool, ...] | None = None
    gain: tuple[Array, ...] | None = None
    pedestal: tuple[Array, ...] | None = None

    def panel_gain(self, detector: DetectorConfig) -> DetectorConfig:
        """``detector`` with the median of the gain map as each panel's gain, to which its pixels are brought."""
        if self.gain is None:
            return detector
        panels = (replace(p, gain=float(np.median(g))) for p, g in zip(detector.panels, self.gain, strict=True))
        return replace(detector, panels=tuple(panels))

    def signal(self, detector: DetectorConfig, panel: int, counts: NDArray[Any], places: Any = ...) -> NDArray[Any]:
        """``counts`` of the pixels of a panel at flat ``places`` (all of them by default) less the pedestal, brought to
        the panel's gain. Without map and pedestal they are as in the file."""
        level = detector.panels[panel].pedestal
        found: NDArray[Any] = counts
        if self.pedestal is not None:
            found = counts - self._at(self.pedestal[panel], places, counts)
        elif level != 0:
            found = counts.astype(np.float64) - level
        if self.gain is not None:
            found = found * (detector.panels[panel].gain / self._at(self.gain[panel], places, counts))
        return found

    @staticmethod
    def _at(values: Array, places: Any, like: NDArray[Any]) -> Array:
        return values if values.shape == like.shape else values.reshape(-1)[places]


def pixel_maps(detector: DetectorConfig, files: PixelFiles, mask: str | None, journal: Journal) -> PixelMaps:
    """The maps of ``files``; ``mask``, the user's own, takes the place of theirs.

    A file of the experiment list that cannot be used is told as a warning, and the fit goes on without it. Raises
    NbtorchError for a user's mask that cannot be used.
    """
    own: tuple[Bool, ...] | None
    if mask is not None:
        own = read_mask(Path(mask), detector)
        if files.mask is not None:
            said = f"data.mask={mask} takes the place of the mask that the experiment list names, {files.mask}"
            journal.say("mask_replaced", said, path=str(files.mask))
    else:
        own = _usable(files.mask, "mask", lambda path: read_mask(path, detector), journal)
    gain = _usable(files.gain, "gain", lambda path: _positive(read_pixel_map(path, detector), path), journal)
    pedestal = _usable(files.pedestal, "pedestal", lambda path: read_pixel_map(path, detector), journal)
    return PixelMaps(own, gain, pedestal)


def _usable(path: Path | None, kind: str, read: Callable[[Path], T], journal: Journal) -> T | None:
    if path is None:
        return None
    try:
        found = read(path)
    except NbtorchError as error:
        said = f"the {kind} file that the experiment list names is not used: {error}"
        journal.say("pixel_file_not_used", said, "warning", kind=kind, path=str(path))
        return None
    journal.say("pixel_file_used", f"{kind} of every pixel from {path}", kind=kind, path=str(path))
    return found


def _positive(maps: tuple[Array, ...], path: Path) -> tuple[Array, ...]:
    dark = sum(int((array <= 0).sum()) for array in maps)
    if dark:
        raise DataError(str(path), f"the gain of {dark} pixels is not positive", "Mask those pixels and give them 1")
    return maps
