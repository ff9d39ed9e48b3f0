"""The mask of pixels that an HDF5 master holds: 0 is a good pixel, every bit a reason against one (NXdetector)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbtorch.config import DetectorConfig, PanelConfig
from nbtorch.errors import FileError
from nbtorch.io.geometry.nexus_fields import children
from nbtorch.io.hdf5 import is_hdf5, open_hdf5
from nbtorch.io.hdf5.open import missing_target
from nbtorch.io.paths import read_head

MASKS = ("pixel_mask", "detectorSpecific/pixel_mask")
Masks = tuple[NDArray[np.bool_], ...]


def mask_in_file(path: Path, detector: DetectorConfig) -> Masks | None:
    """The pixels of each panel that the file of frames ``path`` says may be used; None where it has no mask.

    Raises FileError for a mask of another size than the detector.
    """
    if not path.is_file() or not is_hdf5(read_head(path, 512)):
        return None
    with open_hdf5(path) as file:
        item = _find(file)
        return None if item is None else cut_mask(item, detector.panels)


def cut_mask(item: Any, panels: tuple[PanelConfig, ...]) -> Masks:
    """One array [slow, fast] a panel, True for good pixels, of a mask over the image or over its modules."""
    values = np.asarray(item[()]) == 0
    if values.ndim == 3 and len(values) == len(panels):
        return tuple(values)
    cut = []
    for panel in panels:
        (fast, slow), (width, height) = panel.raw_image_offset, panel.size
        piece = values[slow : slow + height, fast : fast + width] if values.ndim == 2 else values
        if piece.shape != (height, width):
            raise FileError(f"{item.file.filename}, {item.name}", f"its shape is {values.shape}", "Check the file")
        cut.append(piece)
    return tuple(cut)


def _find(file: Any) -> Any | None:
    """The mask of the one NXdetector of the one NXentry; None where there is none, or it lies in a missing file."""
    for entry in children(file, "/", "NXentry"):
        for instrument in children(file, entry, "NXinstrument"):
            for detector in children(file, instrument, "NXdetector"):
                for name in (f"{detector}/{mask}" for mask in MASKS):
                    if missing_target(file, name) is None and name in file:
                        return file[name]
    return None
