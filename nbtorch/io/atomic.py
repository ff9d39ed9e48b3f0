"""Outputs appear whole or not at all: written beside their target under a temporary name, then moved into place."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nbtorch.errors import FileError


@contextmanager
def atomic_path(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; on success it becomes ``path``, on any error it is removed.

    Raises FileError when ``path`` exists and ``overwrite`` is False, or when the folder cannot be written. The check is
    repeated at the end, by a hard link that fails rather than replaces, so that a file made meanwhile survives too.
    """
    path = Path(path)
    _refuse_existing(path, overwrite)
    temporary = _temporary_beside(path)
    try:
        yield temporary
        _publish(temporary, path, overwrite)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes, *, overwrite: bool = False) -> Path:
    """Write ``content`` to ``path`` atomically and return the path. Raises FileError as ``atomic_path`` does."""
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(content)
    return Path(path)


def write_text(path: str | Path, content: str, *, overwrite: bool = False) -> Path:
    """Write ``content`` as UTF-8 to ``path`` atomically and return the path."""
    return write_bytes(path, content.encode("utf-8"), overwrite=overwrite)


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise FileError(str(path), "it is a folder, so no file can be written there", "Name a file")
    if path.exists() and not overwrite:
        raise FileError(str(path), "the file exists and overwriting was not asked for", "Remove it or ask to overwrite")


def _temporary_beside(path: Path) -> Path:
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise FileError(
            str(path), f"its folder cannot be written ({error.strerror})", "Choose a folder you can write"
        ) from error
    os.close(handle)
    # mkstemp makes the file private; an output has the permissions that any new file would get.
    umask = os.umask(0)
    os.umask(umask)
    temporary = Path(name)
    temporary.chmod(0o666 & ~umask)
    return temporary


def _publish(temporary: Path, path: Path, overwrite: bool) -> None:
    if overwrite:
        temporary.replace(path)
        return
    try:
        os.link(temporary, path)
    except FileExistsError:
        _refuse_existing(path, overwrite)
    except OSError:  # a file system without hard links
        _refuse_existing(path, overwrite)
        temporary.replace(path)
