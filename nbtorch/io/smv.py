"""SMV images: a text header of KEY=value; lines in braces, then the pixels, fast axis first."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbtorch.errors import DataError, FileError
from nbtorch.io.atomic import write_bytes
from nbtorch.io.paths import find_file, read_bytes

#: TYPE → numpy kind and size. nanoBragg writes unsigned_short alone.
TYPES = {
    "unsigned_char": "u1",
    "unsigned_short": "u2",
    "signed_short": "i2",
    "short": "i2",
    "unsigned_long": "u4",
    "unsigned_int": "u4",
    "signed_long": "i4",
    "signed_int": "i4",
    "long": "i4",
    "int": "i4",
    "float": "f4",
}
BYTE_ORDERS = {"little_endian": "<", "big_endian": ">"}
HEADER_BYTES = 512
#: Longest header that is looked at.
HEADER_LIMIT = 1 << 16
#: How d*TREK and Rigaku say what TYPE says elsewhere.
DTREK_TYPE = re.compile(rb"[\n;{]\s*Data_type\s*=")
#: Keys in nanoBragg's order: what its header holds after HEADER_BYTES, DIM, BYTE_ORDER, TYPE, SIZE1 and SIZE2.
GEOMETRY_KEYS = (
    *("PIXEL_SIZE", "DISTANCE", "WAVELENGTH", "BEAM_CENTER_X", "BEAM_CENTER_Y", "ADXV_CENTER_X", "ADXV_CENTER_Y"),
    *("MOSFLM_CENTER_X", "MOSFLM_CENTER_Y", "DENZO_X_BEAM", "DENZO_Y_BEAM", "DIALS_ORIGIN", "XDS_ORGX", "XDS_ORGY"),
    *("CLOSE_DISTANCE", "PHI", "OSC_START", "OSC_RANGE", "TWOTHETA", "DETECTOR_SN", "BEAMLINE"),
)


@dataclass(frozen=True, eq=False)
class SmvImage:
    """``counts`` [slow, fast] in the file's own number type, and the header as text."""

    counts: NDArray[Any]
    header: Mapping[str, str]
    path: Path


def read_smv(path: str | Path) -> SmvImage:
    """An SMV image. Raises FileError where the header is no SMV header or the pixels end too early."""
    found = find_file(path)
    return parse_smv(read_bytes(found), found)


def parse_smv(content: bytes, path: Path) -> SmvImage:
    """``read_smv`` of bytes already in memory."""
    header, end = parse_header(content, path)
    fast, slow = sizes(header, path)
    dtype = np.dtype(_choice(header, "BYTE_ORDER", BYTE_ORDERS, path) + _choice(header, "TYPE", TYPES, path))
    # nanoBragg's longer headers push the pixels back without saying so in HEADER_BYTES.
    start = max(_positive_integer(header, "HEADER_BYTES", path), end)
    held, needed = (len(content) - start) // dtype.itemsize, fast * slow
    if held < needed:
        raise FileError(
            str(path),
            f"it is cut short: the header says {slow} × {fast} pixels (slow × fast), the file ends after "
            f"{max(held, 0)} of {needed}, in row {max(held, 0) // fast}",
            "Copy it again",
        )
    counts = np.frombuffer(content, dtype, needed, start).reshape(slow, fast)
    return SmvImage(counts.astype(dtype.newbyteorder("=")), header, path)


def sizes(header: Mapping[str, str], path: Path) -> tuple[int, int]:
    """Pixels (fast, slow). Raises FileError where the header does not say."""
    fast, slow = (_positive_integer(header, key, path) for key in ("SIZE1", "SIZE2"))
    return fast, slow


def has_smv_header(content: bytes) -> bool:
    """Whether bytes start like an SMV header, d*TREK's among them (EDF also opens with a brace)."""
    head = content.lstrip()[:HEADER_LIMIT]
    return head[:1] == b"{" and b"HEADER_BYTES" in head[:1024]


def is_smv(content: bytes) -> bool:
    """Whether bytes start like an SMV header with a TYPE (d*TREK states none: fabio reads its pixels)."""
    head = content.lstrip()[:HEADER_LIMIT]
    return has_smv_header(content) and not DTREK_TYPE.search(head[: head.find(b"}")])


def parse_header(content: bytes, path: Path) -> tuple[dict[str, str], int]:
    """The header's keys in order, and the byte after its closing brace (and form feed)."""
    close = content.find(b"}", 0, HEADER_LIMIT)
    if not has_smv_header(content) or close < 0:
        raise FileError(str(path), "it does not start with an SMV header ({ HEADER_BYTES=…; … })", "Check the format")
    header = {}
    for item in content[: close + 1].decode("latin-1").strip("{} \n\f").split(";"):
        key, equals, value = item.strip().partition("=")
        if equals:
            header[key.strip()] = value.strip()
    end = close + 1
    return header, end + 1 if content[end : end + 1] == b"\f" else end


def write_smv(
    path: str | Path, counts: NDArray[np.uint16], geometry: Mapping[str, str], *, overwrite: bool = False
) -> Path:
    """Write unsigned 16-bit ``counts`` [slow, fast] under nanoBragg's header, and return the path.

    ``geometry`` holds already formatted values; its order is kept (``GEOMETRY_KEYS`` is nanoBragg's). Raises DataError
    for counts of another type or shape.
    """
    if counts.ndim != 2 or counts.dtype != np.uint16:
        raise DataError(
            f"counts of shape {counts.shape} and type {counts.dtype}",
            "SMV holds a 2-D uint16 image",
            "Convert them first",
        )
    return write_bytes(path, header_bytes(counts.shape, geometry) + counts.astype("<u2").tobytes(), overwrite=overwrite)


def header_bytes(shape: tuple[int, ...], geometry: Mapping[str, str]) -> bytes:
    """nanoBragg's header for an image of ``shape`` (slow, fast): closed by } and form feed, padded to 512 bytes."""
    slow, fast = shape
    keys = {
        "HEADER_BYTES": str(HEADER_BYTES),
        "DIM": "2",
        "BYTE_ORDER": "little_endian",
        "TYPE": "unsigned_short",
        "SIZE1": str(fast),
        "SIZE2": str(slow),
        **geometry,
    }
    text = "{\n" + "".join(f"{key}={value};\n" for key, value in keys.items()) + "}\f"
    return text.encode("ascii").ljust(HEADER_BYTES)


def _positive_integer(header: Mapping[str, str], key: str, path: Path) -> int:
    value = header.get(key, "")
    if not value.isdigit() or int(value) == 0:
        raise FileError(f"{path}, header key {key}={value}", "it must be a positive integer", "Repair the header")
    return int(value)


def _choice(header: Mapping[str, str], key: str, choices: Mapping[str, str], path: Path) -> str:
    value = header.get(key, next(iter(choices)) if key == "BYTE_ORDER" else "")
    if value not in choices:
        raise FileError(f"{path}, header key {key}={value}", "it is not a known choice", f"Use {', '.join(choices)}")
    return choices[value]
