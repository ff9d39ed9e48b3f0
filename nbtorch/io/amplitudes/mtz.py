"""MTZ reflection files, through gemmi."""

from __future__ import annotations

from pathlib import Path

from nbtorch.errors import FileError
from nbtorch.io.amplitudes.columns import Missing, merged_from_mtz
from nbtorch.io.amplitudes.types import Merged
from nbtorch.io.paths import read_bytes

MAGIC = b"MTZ "


def read_mtz(path: Path, column: str | None, missing: Missing) -> Merged:
    """The amplitudes of an MTZ file. Raises FileError for a damaged file, DataError as ``merged_from_mtz`` does."""
    import gemmi

    read_bytes(path)  # refuses damaged compression and files past the size limit before gemmi reads them
    try:
        mtz = gemmi.read_mtz_file(str(path))
    except (RuntimeError, ValueError, IndexError, OSError, MemoryError) as error:
        raise FileError(str(path), f"it is no whole MTZ file ({error})", "Copy it again") from error
    return merged_from_mtz(mtz, path, column, missing)
