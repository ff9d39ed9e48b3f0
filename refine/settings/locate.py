"""Which files a user means: names below data.root, and patterns of frames."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from nbtorch.errors import FileError
from nbtorch.io.paths import COMPRESSIONS, existing

COMPRESSED = ("", *COMPRESSIONS)


def find_frames(pattern: str | Path) -> tuple[Path, ...]:
    """The files that ``pattern`` means, in the order of the numbers in their names; none when nothing matches.

    Each part of the path is taken literally where that exists (a folder may be called run[1]), else as a pattern with
    * and ?, then also with [...], then as a template whose #### stand for digits. Names are tried with .gz, .bz2 too.
    """
    path = Path(pattern)
    found = [Path(path.anchor)]
    for part in path.parts[1:] if path.anchor else path.parts:
        found = [match for folder in found for match in _matches(folder, part)]
    return tuple(sorted((item for item in found if item.is_file()), key=_natural))


def _matches(folder: Path, part: str) -> list[Path]:
    literal = folder / part
    if literal.exists():
        return [literal]
    compressed = existing(literal)
    if compressed is not None:
        return [compressed]
    names = _names(folder)
    brackets_literal = part.replace("[", "[[]")
    digits = re.sub("#+", lambda run: "[0-9]" * len(run[0]), brackets_literal)
    for pattern in (brackets_literal, part, digits):
        for suffix in COMPRESSED:
            hits = fnmatch.filter(names, pattern + suffix)
            if hits:
                return [folder / name for name in hits]
    return []


def _names(folder: Path) -> list[str]:
    """What a folder holds, without hidden files, which no pattern means."""
    try:
        return [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:
        return []


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts frame_2 before frame_10."""
    return [(int(run), "") if run.isdigit() else (-1, run) for run in re.split(r"([0-9]+)", str(path))]


def places(name: str, root: str | None, folders: Sequence[str]) -> list[Path]:
    """Where a relative ``name`` may be: below each of ``folders`` of ``root``; without a root, where it says."""
    if Path(name).is_absolute():
        return [Path(name)]
    home = [Path(name).expanduser()] if name.startswith("~/") else []
    if root is None:
        return [Path.cwd() / name, *home]
    base = Path.cwd() / (Path(root).expanduser() if root.startswith("~/") and not Path(root).exists() else root)
    return [*(base / folder / name for folder in folders), *home]


def locate(key: str, name: str, root: str | None = None, folders: Sequence[str] = (".",)) -> Path:
    """The file that setting ``key`` means by ``name``, also with .gz or .bz2. FileError names what was tried."""
    candidates = places(name, root, folders)
    for candidate in candidates:
        found = existing(candidate)
        if found is not None:
            return Path(os.path.normpath(found))
    raise _nothing(key, name, candidates, "there is no such file")


def locate_frames(key: str, pattern: str, root: str | None = None, folders: Sequence[str] = (".",)) -> Path:
    """The absolute pattern that matches frames. Raises FileError naming all that was tried."""
    candidates = places(pattern, root, folders)
    for candidate in candidates:
        if find_frames(candidate):
            return candidate
    raise _nothing(key, pattern, candidates, "no file matches")


def _nothing(key: str, name: str, candidates: Iterable[Path], why: str) -> FileError:
    tried = ", ".join(os.path.normpath(candidate) for candidate in candidates)
    return FileError(f"{key}={name}", f"{why} (tried {tried}, also with .gz and .bz2)", f"Check {key} and data.root")
