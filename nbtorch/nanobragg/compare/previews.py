"""PNG previews of images and of their difference."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nbtorch.io.atomic import write_bytes
from nbtorch.nanobragg.compare.images import Image

GREY_LEVELS_FOR_FIVE_RMSD = 250.0


def preview_scale(image: Image) -> float:
    """Grey levels per photon that show ``image`` as nanoBragg's PGM does: 250/(5·rmsd); 1 for a flat image."""
    deviation = float(np.std(image[np.isfinite(image)])) if np.isfinite(image).any() else 0.0
    return GREY_LEVELS_FOR_FIVE_RMSD / (5 * deviation) if deviation > 0 else 1.0


def grey(image: Image, scale: float) -> NDArray[np.uint8]:
    """``image`` times ``scale``, clipped to 0 … 255; what is no number is black."""
    return np.clip(np.nan_to_num(image * scale, nan=0.0), 0, 255).astype(np.uint8)


def signed_colours(values: Image) -> NDArray[np.uint8]:
    """[slow, fast, 3]: red above zero, blue below, white at zero, full colour at the largest size."""
    finite = np.nan_to_num(values)
    largest = float(np.abs(finite).max()) or 1.0
    strength = finite / largest
    fade_blue, fade_red = 1 - np.clip(strength, 0, 1), 1 - np.clip(-strength, 0, 1)
    channels = np.stack([fade_red, fade_red * fade_blue, fade_blue], axis=-1)
    return np.round(255 * channels).astype(np.uint8)


def write_png(path: Path, pixels: NDArray[np.uint8]) -> Path:
    """Write grey [slow, fast] or colour [slow, fast, 3] ``pixels``, slow 0 at the top, over any file of that name."""
    from PIL import Image as Pillow  # only where a picture is drawn: start-up time

    stream = io.BytesIO()
    Pillow.fromarray(np.ascontiguousarray(pixels)).save(stream, format="PNG")
    return write_bytes(path, stream.getvalue(), overwrite=True)
