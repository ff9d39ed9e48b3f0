"""Float images as nanoBragg writes them: raw little-endian float32, fast axis first, no header."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nbtorch.errors import DataError, FileError
from nbtorch.io.atomic import write_bytes
from nbtorch.io.paths import find_file, read_bytes


def write_float_image(path: str | Path, image: NDArray[np.floating], *, overwrite: bool = False) -> Path:
    """Write ``image`` [slow, fast] (photons) as float32 and return the path. Raises DataError unless it is 2-D."""
    if image.ndim != 2:
        raise DataError(
            f"an image of shape {image.shape}", "a float image is [slow, fast]", "Write one panel at a time"
        )
    return write_bytes(path, np.ascontiguousarray(image, dtype="<f4").tobytes(), overwrite=overwrite)


def read_float_image(path: str | Path, shape: tuple[int, int] | None = None) -> NDArray[np.float32]:
    """A float image [slow, fast]. The file does not tell its ``shape`` (slow, fast): without one it must be square.

    Raises FileError where the file's size is not that shape's.
    """
    found = find_file(path)
    content = read_bytes(found)
    count = len(content) // 4
    side = round(count**0.5)
    slow, fast = shape or (side, side)
    if len(content) != 4 * slow * fast:
        wanted = f"{slow} × {fast}" if shape else "a square of"
        raise FileError(
            str(found), f"its {len(content)} bytes are not {wanted} float32 pixels", "State the shape (slow, fast)"
        )
    return np.frombuffer(content, "<f4").reshape(slow, fast).astype(np.float32)
