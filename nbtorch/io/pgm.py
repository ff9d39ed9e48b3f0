"""PGM previews: P5, one byte a pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nbtorch.errors import DataError
from nbtorch.io.atomic import write_bytes


def write_pgm(path: str | Path, image: NDArray[np.floating], scale: float, *, overwrite: bool = False) -> Path:
    """Write ``image`` [slow, fast] times ``scale``, clipped to 0 … 255, with nanoBragg's comment, and return the path.

    Raises DataError unless the image is 2-D and the scale finite.
    """
    if image.ndim != 2 or not np.isfinite(scale):
        raise DataError(
            f"an image of shape {image.shape}, scale {scale}",
            "PGM holds a 2-D image and needs a finite scale",
            "Change it",
        )
    slow, fast = image.shape
    header = f"P5\n{fast} {slow}\n# pixels scaled by {scale:.6g}\n255\n"
    pixels = np.clip(np.nan_to_num(np.asarray(image, dtype=np.float64) * scale), 0, 255).astype(np.uint8)
    return write_bytes(path, header.encode("ascii") + pixels.tobytes(), overwrite=overwrite)
