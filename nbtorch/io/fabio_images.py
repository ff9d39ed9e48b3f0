"""TIFF, EDF and whatever else fabio reads. fabio logs some damage and goes on: here that is an error."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbtorch.errors import FileError
from nbtorch.io.paths import one_line

#: Most pixels that are decoded from one file, whatever its headers say.
MAX_PIXELS = 2**28
DAMAGE = re.compile(r"incomplete|truncated|broken|too small|mismatch|malformed", re.IGNORECASE)


def read_with_fabio(content: bytes, path: Path) -> tuple[NDArray[Any], dict[str, str]]:
    """The image [slow, fast] of ``path`` and its header.

    ``content`` is the decompressed file: its claims are checked before fabio allocates. Raises FileError for a file
    that fabio does not know, finds damaged, or that holds more than one image.
    """
    import fabio

    _check_edf_claim(content, path)
    with complaints() as messages:
        try:
            image = fabio.open(str(path))
            counts = image.data
            frames = image.nframes
            header = {str(key): str(value) for key, value in (image.header or {}).items()}
        except Exception as error:  # fabio raises whatever its parsers meet
            reason = one_line("; ".join(messages)) or f"{type(error).__name__}: {one_line(error)}"
            raise FileError(
                str(path), f"it is no image that fabio can read ({reason})", "Check that it is a whole detector image"
            ) from error
    damage = [message for message in messages if DAMAGE.search(message)]
    if damage or counts is None:
        raise FileError(
            str(path), f"the image is damaged: {one_line('; '.join(damage)) or 'it has no pixels'}", "Copy it again"
        )
    if frames != 1 or counts.ndim != 2:
        raise FileError(
            str(path), f"it holds {frames} images of shape {counts.shape}", "Split it into one image a file"
        )
    return np.asarray(counts), header


@contextmanager
def complaints() -> Iterator[list[str]]:
    """What fabio logs at level warning and above, kept off the screen."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("fabio")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def _check_edf_claim(content: bytes, path: Path) -> None:
    if content[:1] != b"{":
        return
    claims = re.findall(rb"Dim_[12]\s*=\s*(\d+)", content[:65536])[:2]
    pixels = int(np.prod([float(claim) for claim in claims])) if claims else 0
    if pixels > min(MAX_PIXELS, len(content)):
        raise FileError(
            str(path), f"its header claims {pixels} pixels, the file has {len(content)} bytes", "Copy it again"
        )
