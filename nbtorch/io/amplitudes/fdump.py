"""nanoBragg's binary cache of a dense amplitude grid, Fdump.bin.

A text line of six integers, the smallest and largest h, k, l, closed by newline and form feed; then doubles over h, k,
l (l fastest), each range one longer than needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nbtorch.errors import DataError, FileError
from nbtorch.io.amplitudes.types import MAX_GRID
from nbtorch.io.atomic import write_bytes
from nbtorch.io.paths import find_file, read_bytes

END = b"\n\f"


@dataclass(frozen=True, eq=False)
class Fdump:
    """``F`` float64 [n_h, n_k, n_l] with ``F[0, 0, 0]`` the amplitude of ``start`` = (h_min, k_min, l_min)."""

    F: NDArray[np.float64]
    start: tuple[int, int, int]


def read_fdump(path: str | Path) -> Fdump:
    """A grid from Fdump.bin. Raises FileError where its header is none or the grid ends too early."""
    found = find_file(path)
    content = read_bytes(found)
    header, end, data = content.partition(END)
    words = header[:256].split()
    if not end or len(words) != 6 or not all(word.lstrip(b"+-").isdigit() for word in words):
        raise FileError(str(found), "it does not start with six integers, newline and form feed", "Check the file")
    bounds = np.array([int(word) for word in words], dtype=object).reshape(3, 2)
    lengths = [int(high - low + 2) for low, high in bounds]
    if min(lengths) < 2 or lengths[0] * lengths[1] * lengths[2] > MAX_GRID:
        raise FileError(str(found), f"its header claims a grid of {lengths}", "Check the file")
    needed, held = lengths[0] * lengths[1] * lengths[2], len(data) // 8
    if held < needed:
        raise FileError(str(found), f"it is cut short: {held} of {needed} amplitudes are there", "Copy it again")
    grid = np.frombuffer(data, "<f8", needed).reshape(lengths)[:-1, :-1, :-1].astype(np.float64)
    if not np.isfinite(grid).all():
        count = int((~np.isfinite(grid)).sum())
        raise DataError(str(found), f"{count} amplitudes are NaN or infinite", "Write it again")
    h, k, l = (int(low) for low, _ in bounds)  # noqa: E741
    return Fdump(grid, (h, k, l))


def write_fdump(path: str | Path, dump: Fdump, *, overwrite: bool = False) -> Path:
    """Write a grid as nanoBragg would. The extra entry at the end of each range is zero."""
    lengths = dump.F.shape
    bounds = " ".join(f"{low} {low + length - 1}" for low, length in zip(dump.start, lengths, strict=True))
    padded = np.pad(np.asarray(dump.F, dtype="<f8"), ((0, 1),) * 3)
    return write_bytes(path, bounds.encode("ascii") + END + padded.tobytes(), overwrite=overwrite)
