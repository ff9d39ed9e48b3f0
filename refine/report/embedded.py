"""Data inside a page: JSON, packed, as base64. It cannot be taken for markup, and the browser unpacks it."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def embedded(data: Mapping[str, Any]) -> str:
    """``data`` (plain values, no NaN) as zlib-packed JSON in base64."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return base64.b64encode(zlib.compress(text.encode("utf-8"), 9)).decode("ascii")


def rounded(values: NDArray[np.floating[Any]], digits: int) -> list[Any]:
    """``values`` [...] as nested lists, rounded to ``digits`` after the point; None where they are not finite."""
    flat = np.round(np.asarray(values, dtype=np.float64), digits).ravel()
    plain: list[Any] = [None if not np.isfinite(v) else int(v) if v == int(v) else v for v in flat.tolist()]
    for length in reversed(values.shape[1:]):
        plain = [plain[at : at + length] for at in range(0, len(plain), length)]
    return plain


def grey_png(levels: NDArray[np.uint8]) -> str:
    """A data URI of ``levels`` [slow, fast], one byte a dot."""
    stream = io.BytesIO()
    Image.fromarray(levels, mode="L").save(stream, format="png", optimize=False, compress_level=7)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
