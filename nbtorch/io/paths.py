"""Finding and opening input files: suffixes tried, compression undone, sizes bounded, errors that name the file."""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbtorch.errors import FileError

COMPRESSIONS: dict[str, Callable[[Path], Any]] = {".gz": gzip.GzipFile, ".bz2": bz2.BZ2File}
#: Largest decompressed file that is read: a small file may claim, or unpack to, any size.
MAX_BYTES = 2 * 2**30


def one_line(error: object) -> str:
    """What a library said, on one line and at most 300 characters long: our messages are one paragraph."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:300] + "…"


def existing(path: str | Path) -> Path | None:
    """``path``, or ``path`` with .gz or .bz2 appended: the first that is a file, else None."""
    path = Path(path)
    candidates = [path, *(path.with_name(path.name + suffix) for suffix in COMPRESSIONS)]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def find_file(path: str | Path) -> Path:
    """The file that ``path`` names, also tried with .gz and .bz2 appended. Raises FileError naming what was tried."""
    path = Path(path)
    found = existing(path)
    if found is not None:
        return found
    if path.is_dir():
        raise FileError(str(path), "it is a folder, not a file", "Name a file in it")
    tried = ", ".join(path.name + suffix for suffix in ("", *COMPRESSIONS))
    raise FileError(str(path), f"there is no such file (tried {tried} in {path.parent})", "Check the path")


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The decompressed content of ``path``.

    Raises FileError when the file cannot be opened, its compression is damaged or cut short, or more than ``limit``
    bytes come out.
    """
    content = read_head(path, limit + 1)
    if len(content) > limit:
        raise FileError(
            str(path), f"it unpacks to more than {limit / 2**30:.3g} GiB", "Check that it is the right file"
        )
    return content


def read_head(path: Path, size: int = 65536) -> bytes:
    """The first ``size`` bytes of the decompressed file, or all of a shorter one. Raises FileError where it cannot."""
    opener = COMPRESSIONS.get(path.suffix.lower())
    try:
        with opener(path) if opener else path.open("rb") as stream:
            return bytes(stream.read(size))
    except EOFError as error:
        raise FileError(
            str(path), "the compressed stream ends before its end marker: it is cut short", "Copy it again"
        ) from error
    except (OSError, zlib.error) as error:
        raise FileError(
            str(path), f"it cannot be read ({one_line(error)})", "Check the file and its permissions"
        ) from error


def read_text(path: Path, limit: int = MAX_BYTES) -> str:
    """``read_bytes`` as UTF-8 text. Raises FileError, naming the byte, where it is not text."""
    try:
        return read_bytes(path, limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileError(
            str(path), f"byte {error.start} is not text: this is a binary file", "Check which format the file has"
        ) from error
