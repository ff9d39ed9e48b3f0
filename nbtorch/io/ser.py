"""TIA series (.ser) of electron microscopes: a header, the places of its elements, and an array behind each.

Layout by C. Boothroyd, "FEI ser file format": offsets are 32 bits wide up to version 0x210, 64 after it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbtorch.errors import DataError, FileError
from nbtorch.io.fabio_images import MAX_PIXELS

MAGIC = b"II\x97\x01"
IMAGES = 0x4122  # data type: two dimensions
WIDE = 0x220  # from this version on offsets have 64 bits
KINDS = {1: "u1", 2: "<u2", 3: "<u4", 4: "i1", 5: "<i2", 6: "<i4", 7: "<f4", 8: "<f8"}
ELEMENT = struct.Struct("<ddiddihii")  # two calibrations of three numbers, kind, fast, slow
MAX_ELEMENTS = 10_000_000


@dataclass(frozen=True)
class SerIndex:
    """Where each image of a series begins, in bytes."""

    offsets: tuple[int, ...]


def is_ser(head: bytes) -> bool:
    """Whether a file begins like a TIA series."""
    return head[:4] == MAGIC


def ser_index(content: bytes, path: Path) -> SerIndex:
    """The images of a series. Raises FileError for spectra, and for a file that is cut short."""
    try:
        version, kind, _, total, valid = struct.unpack_from("<HIIII", content, 4)
        wide = version >= WIDE
        (where,) = struct.unpack_from("<Q" if wide else "<I", content, 22)
        if kind != IMAGES:
            raise FileError(str(path), f"it holds spectra (data type {kind:#x}), not images", "Name another file")
        if not 0 <= valid <= min(total, MAX_ELEMENTS):
            raise FileError(str(path), f"its header claims {valid} of {total} images", "Copy it again")
        offsets = struct.unpack_from(f"<{valid}{'Q' if wide else 'I'}", content, where)
    except struct.error as error:
        raise FileError(str(path), "it is cut short inside its header", "Copy it again") from error
    return SerIndex(tuple(offsets))


def read_ser(content: bytes, path: Path, index: int) -> NDArray[Any]:
    """Image ``index`` (from 0) [slow, fast]. Raises DataError where there is none, FileError where it is cut short."""
    offsets = ser_index(content, path).offsets
    if not 0 <= index < len(offsets):
        why = f"it holds {len(offsets)} images, counted from 0"
        raise DataError(f"image {index} of {path}", why, "Name another")
    try:
        *_, kind, fast, slow = ELEMENT.unpack_from(content, offsets[index])
    except struct.error as error:
        raise FileError(f"{path}, image {index}", "the file ends before it", "Copy it again") from error
    if kind not in KINDS:
        raise FileError(f"{path}, image {index}", f"its pixels are of kind {kind}", "Real numbers are read, 1 to 8")
    start, dtype = offsets[index] + ELEMENT.size, np.dtype(KINDS[kind])
    if fast < 1 or slow < 1 or fast * slow > MAX_PIXELS or start + fast * slow * dtype.itemsize > len(content):
        why = f"its {slow} × {fast} pixels are not all there"
        raise FileError(f"{path}, image {index}", why, "Copy it again")
    # the first row of a TIA image is its lowest: pixels are kept in the file's order, as dxtbx does
    return np.frombuffer(content, dtype, fast * slow, start).reshape(slow, fast)
