"""CBF: the binary sections of a file are checked here, byte-offset images are decoded by fabio, the rest by pycbf."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbtorch.errors import DataError, FileError
from nbtorch.io.atomic import atomic_path
from nbtorch.io.fabio_images import MAX_PIXELS, complaints
from nbtorch.io.paths import one_line

SECTION = b"--CIF-BINARY-FORMAT-SECTION--"
#: Where the bytes of a section start (CBF definition, section 2.2.3).
MARKER = b"\x0c\x1a\x04\xd5"


@dataclass(frozen=True)
class Section:
    """One binary section: its MIME keys, and where its bytes lie in the file."""

    header: Mapping[str, str]
    start: int
    size: int

    @property
    def byte_offset(self) -> bool:
        """Whether it is compressed by byte offsets, as every miniCBF is."""
        return "x-CBF_BYTE_OFFSET" in self.header.get("conversions", "")


def scan_sections(content: bytes, path: Path) -> tuple[Section, ...]:
    """The binary sections of a CBF. Raises FileError for one that is cut short, damaged or claims too many pixels."""
    sections: list[Section] = []
    position = content.find(SECTION)
    while position >= 0:
        section = _section(content, position, path, len(sections))
        sections.append(section)
        position = content.find(SECTION + b"\n", section.start + section.size)
        if position < 0:
            position = content.find(SECTION + b"\r\n", section.start + section.size)
    if not sections:
        raise FileError(str(path), "this CBF holds no binary section: it ends inside its header", "Copy it again")
    pixels = sum(elements(section, path) for section in sections)
    if pixels > MAX_PIXELS:
        raise FileError(
            str(path), f"its headers claim {pixels} pixels; at most {MAX_PIXELS} are read", "Check the file"
        )
    return tuple(sections)


def elements(section: Section, path: Path) -> int:
    """How many numbers a section holds; of an old one that does not say and is not compressed, by its bytes.

    Raises FileError where neither tells.
    """
    key = "X-Binary-Number-of-Elements"
    if key not in section.header and "conversions" not in section.header:
        bits = re.search(r"(\d+)-bit", section.header.get("X-Binary-Element-Type", ""))
        if bits and int(bits[1]) in (8, 16, 32, 64):
            return section.size // (int(bits[1]) // 8)
    return _number(section.header, key, path)


def read_byte_offset(content: bytes, section: Section, path: Path) -> tuple[NDArray[Any], dict[str, str]]:
    """The image [slow, fast] of a one-section byte-offset CBF, and its header."""
    from fabio.cbfimage import CbfImage

    fast, slow = (_number(section.header, f"X-Binary-Size-{axis}-Dimension", path) for axis in ("Fastest", "Second"))
    # Every pixel takes a byte at least: a larger claim would make the decoder allocate it.
    if fast * slow > section.size or fast * slow != _number(section.header, "X-Binary-Number-of-Elements", path):
        raise FileError(
            str(path),
            f"its header says {slow} × {fast} pixels, which {section.size} bytes cannot hold",
            "Copy it again",
        )
    image = CbfImage()
    try:
        with complaints():
            image.read(io.BytesIO(content))
    except Exception as error:  # fabio raises whatever its parsers meet
        raise FileError(str(path), f"its CBF header cannot be read ({one_line(error)})", "Copy it again") from error
    # fabio keeps the CIF loops as one nested structure: only what is text is a header.
    return np.asarray(image.data), {
        str(key): value for key, value in image.header.items() if isinstance(value, str) and key != "loop_"
    }


def write_cbf(
    path: str | Path, counts: NDArray[np.integer], header: Mapping[str, str] | None = None, *, overwrite: bool = False
) -> Path:
    """Write ``counts`` [slow, fast] as a byte-offset miniCBF (signed 32-bit) and return the path.

    ``header`` becomes the comment lines that miniCBF readers look at ("# key value"). Raises DataError for counts that
    are not a 2-D integer image within 32 bits.
    """
    from fabio.cbfimage import CbfImage

    limits = np.iinfo(np.int32)
    if counts.ndim != 2 or counts.dtype.kind not in "iu" or counts.min() < limits.min or counts.max() > limits.max:
        raise DataError(
            f"counts of shape {counts.shape} and type {counts.dtype}",
            "CBF holds a 2-D image of signed 32-bit integers",
            "Convert",
        )
    lines = "".join(f"# {key} {value}\r\n" for key, value in (header or {}).items())
    keys = {"_array_data.header_convention": "PILATUS_1.2", "_array_data.header_contents": lines} if lines else {}
    with atomic_path(path, overwrite=overwrite) as temporary:
        CbfImage(counts.astype(np.int32), header=keys).write(str(temporary))
    return Path(path)


def _section(content: bytes, position: int, path: Path, number: int) -> Section:
    marker = content.find(MARKER, position)
    if marker < 0:
        raise FileError(f"{path}, binary section {number}", "the file ends before its data", "Copy it again")
    text = content[position:marker].decode("latin-1")
    header = {key: value.strip().strip('"') for key, value in re.findall(r"([\w-]+)\s*[:=]\s*([^\r\n]*)", text)}
    start, size = marker + len(MARKER), _number(header, "X-Binary-Size", path)
    held = len(content) - start
    if held < size:
        raise FileError(
            f"{path}, binary section {number}", f"it is cut short: {held} of {size} bytes are there", "Copy it again"
        )
    digest = header.get("Content-MD5", "")
    found = base64.b64encode(hashlib.md5(content[start : start + size], usedforsecurity=False).digest()).decode()
    if digest and digest != found:
        raise FileError(
            f"{path}, binary section {number}", "its bytes do not match their MD5 sum: it is damaged", "Copy it again"
        )
    return Section(header, start, size)


def _number(header: Mapping[str, str], key: str, path: Path) -> int:
    value = header.get(key, "")
    if not value.isdigit():
        raise FileError(f"{path}, binary header {key}: {value or 'absent'}", "it must be a number", "Copy it again")
    return int(value)
