"""Opening HDF5 files and following their links: whatever is missing is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from nbtorch.errors import FileError
from nbtorch.io.paths import one_line

if TYPE_CHECKING:
    import h5py

SIGNATURE = b"\x89HDF\r\n\x1a\n"
COPY = "Copy that file to the folder of this one"


def is_hdf5(head: bytes) -> bool:
    """Whether the first bytes of a file are those of HDF5."""
    return head[:8] == SIGNATURE


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """The file, open for reading. Raises FileError where it is damaged, cut short or no HDF5."""
    import h5py
    import hdf5plugin  # noqa: F401  registers the filters of detectors: bitshuffle, LZ4, Zstandard, Blosc

    try:
        file = h5py.File(path, "r", locking="best-effort")
    except OSError as error:
        raise FileError(str(path), f"it is no whole HDF5 file ({one_line(error)})", "Copy it again") from error
    with file:
        yield file


def follow(file: h5py.File, name: str) -> Any:
    """The data set or group ``name`` of ``file``, through links into other files.

    Raises FileError naming the file that a link leads to and that is missing, or the name that is not there.
    """
    path = Path(file.filename)
    try:
        found = file[name]
    except (KeyError, OSError) as error:
        absent = missing_target(file, name)
        if absent is not None:
            raise FileError(f"{path}, {name}", f"it is kept in {absent}, which is missing", COPY) from error
        raise FileError(f"{path}, {name}", f"it cannot be opened ({one_line(error)})", "Check the file") from error
    return found


def target(file: h5py.File, name: str) -> tuple[Path, str]:
    """(file, name in it) that ``name`` of ``file`` is an external link to, else ``name`` of ``file`` itself."""
    import h5py

    link = file.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        return beside(Path(file.filename), link.filename), link.path
    return Path(file.filename), name


def missing_target(file: h5py.File, name: str) -> Path | None:
    """The missing file that an external link on the way to ``name`` leads to; None where no file is missing."""
    import h5py

    steps = PurePosixPath(name).parts
    for depth in range(1 + steps[0].startswith("/"), len(steps) + 1):
        try:
            link = file.get(str(PurePosixPath(*steps[:depth])), getlink=True)
        except (KeyError, OSError, RuntimeError):  # h5py: the way ends before this step
            return None
        if isinstance(link, h5py.ExternalLink):
            found = beside(Path(file.filename), link.filename)
            return None if found.is_file() else found
    return None


def beside(path: Path, name: str) -> Path:
    """The file ``name`` that ``path`` refers to: as written, else of that name in the folder of ``path``, as HDF5."""
    written = path.parent / name  # an absolute name stays as it is
    return written if written.is_file() else path.parent / Path(name).name


def text(value: Any) -> str:
    """A string of HDF5: bytes or text, alone or in an array of one; empty for anything else."""
    value = value.item() if getattr(value, "size", 0) == 1 else value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").rstrip("\0").strip()
    return value.strip() if isinstance(value, str) else ""
