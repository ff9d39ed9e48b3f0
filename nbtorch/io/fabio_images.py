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

from nbtorch.errors import DataError, FileError, NbtorchError
from nbtorch.io.paths import one_line

#: Most pixels that are decoded from one file, whatever its headers say.
MAX_PIXELS = 2**28
DAMAGE = re.compile(r"incomplete|truncated|broken|too small|mismatch|malformed", re.IGNORECASE)


def read_with_fabio(content: bytes, path: Path, index: int | None = None) -> tuple[NDArray[Any], dict[str, str]]:
    """The image [slow, fast] of ``path`` and its header; number ``index`` (from 0) where it holds several.

    ``content`` is the decompressed file: its claims are checked before fabio allocates. Raises FileError for a file
    that fabio does not know, finds damaged, or that holds several images where no index is given.
    """
    with _opened(content, path) as (image, messages):
        frames = image.nframes
        if index is not None and not 0 <= index < frames:
            raise DataError(f"image {index} of {path}", f"it holds {frames} images, counted from 0", "Name another")
        if index and frames > 1:
            image = image.getframe(index)
        counts = image.data
        header = {str(key): str(value) for key, value in (image.header or {}).items()}
    damage = [message for message in messages if DAMAGE.search(message)]
    if damage or counts is None:
        raise FileError(
            str(path), f"the image is damaged: {one_line('; '.join(damage)) or 'it has no pixels'}", "Copy it again"
        )
    if (index is None and frames != 1) or counts.ndim != 2:
        raise FileError(
            str(path),
            f"it holds {frames} images of shape {counts.shape}",
            f"Name one, such as '{path.name} //0' for the first" if counts.ndim == 2 else "Split it into images",
        )
    return np.asarray(counts), header


def count_with_fabio(content: bytes, path: Path) -> int:
    """How many images ``path`` holds. Raises FileError as :func:`read_with_fabio`."""
    with _opened(content, path) as (image, _):
        return int(image.nframes)


@contextmanager
def _opened(content: bytes, path: Path) -> Iterator[tuple[Any, list[str]]]:
    """(image, what fabio complains of) of a file; whatever fabio raises becomes a FileError."""
    import fabio

    _check_edf_claim(content, path)
    with complaints() as messages:
        try:
            yield fabio.open(str(path)), messages
        except NbtorchError:
            raise
        except Exception as error:  # fabio raises whatever its parsers meet
            reason = one_line("; ".join(messages)) or f"{type(error).__name__}: {one_line(error)}"
            raise FileError(
                str(path), f"it is no image that fabio can read ({reason})", "Check that it is a whole detector image"
            ) from error


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
