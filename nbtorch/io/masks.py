"""Which pixels were measured: trusted range, masked rectangles, NaN, and a user's mask image."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbtorch.config import DetectorConfig, PanelConfig
from nbtorch.errors import DataError, FileError
from nbtorch.io.frames import Frame, check_size, read_frame
from nbtorch.io.paths import MAX_BYTES, find_file, one_line, read_bytes
from nbtorch.io.pickles import is_pickle, refuse_dials_pickle

Bool = NDArray[np.bool_]


def valid_pixels(panel: PanelConfig, counts: NDArray[Any], user_mask: Bool | None = None) -> Bool:
    """True [slow, fast] where a pixel was measured: in the trusted range, in no masked rectangle, finite, not masked.

    The trusted range includes its ends, but a counting detector (its range starts at −1 or 0) marks dead pixels and
    gaps by −1 and −2, so that negative counts are valid only where the range reaches below −2 (an integrating
    detector's ADU). Without a stated range negative integers, and the largest unsigned one, are marks too. Raises
    DataError where ``counts`` or ``user_mask`` have another size than ``panel``.
    """
    check_size(counts, panel, f"counts of panel {panel.name!r}")
    return np.asarray(trusted(panel, counts) & open_pixels(panel, user_mask), dtype=np.bool_)


def trusted(panel: PanelConfig, counts: NDArray[Any]) -> Bool:
    """The part of :func:`valid_pixels` that the ``counts`` [...] of any pixels of ``panel`` tell."""
    low, high = _limits(panel, counts.dtype)
    values = np.asarray(counts, dtype=np.float64)
    return np.asarray(np.isfinite(values) & (values >= low) & (values <= high))


def open_pixels(panel: PanelConfig, user_mask: Bool | None = None) -> Bool:
    """The part of :func:`valid_pixels` [slow, fast] that is the same for all frames: no rectangle, no user's mask."""
    size = panel.size[::-1]
    valid = np.ones(size, dtype=np.bool_)
    for fast0, slow0, fast1, slow1 in panel.mask:
        valid[max(slow0, 0) : max(slow1, 0), max(fast0, 0) : max(fast1, 0)] = False
    if user_mask is not None:
        check_size(user_mask, panel, f"the mask of panel {panel.name!r}")
        valid &= np.asarray(user_mask, dtype=bool)
    return valid


def read_mask(path: str | Path, detector: DetectorConfig) -> tuple[Bool, ...]:
    """A user's mask, one array [slow, fast] a panel, True where a pixel may be used (zero in the file = masked).

    Any image that ``read_frame`` reads, .npy with one array, or .npz with one array or one a panel. Raises FileError
    for a file that cannot be read (also pickled masks), DataError where its size is not the detector's.
    """
    return tuple(np.asarray(array != 0) for array in _panel_arrays(path, detector))


def read_pixel_map(path: str | Path, detector: DetectorConfig) -> tuple[NDArray[np.float64], ...]:
    """One number a pixel, such as gain or pedestal: one array [slow, fast] a panel, from the files of ``read_mask``.

    Raises what ``read_mask`` raises, and DataError for numbers that are NaN or infinite.
    """
    arrays = tuple(np.asarray(array, dtype=np.float64) for array in _panel_arrays(path, detector))
    wild = sum(int((~np.isfinite(array)).sum()) for array in arrays)
    if wild:
        raise DataError(str(path), f"{wild} of its pixels are NaN or infinite", "Repair it, and mask those pixels")
    return arrays


def _panel_arrays(path: str | Path, detector: DetectorConfig) -> tuple[NDArray[Any], ...]:
    found = find_file(path)
    if is_pickle(read_bytes(found)[:64]):
        refuse_dials_pickle(found)
    frame = _numpy_mask(found) if found.suffix in (".npy", ".npz") else read_frame(found)
    return frame.panel_arrays(detector)


def _limits(panel: PanelConfig, dtype: np.dtype[np.generic]) -> tuple[float, float]:
    low, high = panel.trusted_range
    stated = math.isfinite(low)
    if (stated and low >= -2) or (not stated and dtype.kind == "i"):
        low = max(low, 0.0)
    if not math.isfinite(high) and dtype.kind == "u":
        high = float(2 ** (8 * dtype.itemsize) - 2)
    return low, high


def _numpy_mask(path: Path) -> Frame:
    content = read_bytes(path)
    packed = path.suffix == ".npz"
    if packed and _unpacked_size(content) > MAX_BYTES:
        raise FileError(
            str(path), f"it unpacks to more than {MAX_BYTES / 2**30:g} GiB", "Check that it is the right file"
        )
    try:
        loaded = np.load(io.BytesIO(content), allow_pickle=False)
        arrays = dict(loaded) if packed else {"": loaded}
    except Exception as error:  # numpy parses the header as Python and raises what Python does
        raise FileError(
            str(path),
            f"it is not a whole numpy file of plain numbers ({one_line(error)})",
            "Write the mask with numpy.save",
        ) from error
    if not arrays:
        raise FileError(str(path), "it holds no array", "Write the mask with numpy.save")
    panels = tuple(arrays.values())
    return Frame(panels[0] if len(panels) == 1 else panels, {}, path, tuple(arrays))


def _unpacked_size(content: bytes) -> int:
    """The size an archive says it unpacks to; 0 for what is no archive, which numpy then refuses."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile:
        return 0
