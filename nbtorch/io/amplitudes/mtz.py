"""MTZ reflection files, through gemmi."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from nbtorch.errors import FileError
from nbtorch.io.amplitudes.columns import Missing, merged_from_mtz
from nbtorch.io.amplitudes.types import Merged, Sample
from nbtorch.io.paths import COMPRESSIONS, one_line, read_bytes

if TYPE_CHECKING:
    import gemmi

MAGIC = b"MTZ "
#: The last record of the header, which stands at the end of the file.
END = b"MTZENDOFHEADERS"


def read_mtz(path: Path, column: str | None, missing: Missing, sample: Sample) -> Merged:
    """The amplitudes of an MTZ file. Raises FileError for a damaged file, DataError as ``merged_from_mtz`` does."""
    content = read_bytes(path)
    if END not in content:
        raise FileError(str(path), "it is cut short: the header at its end is not complete", "Copy it again")
    try:
        table = _parse(content, path)
    except (RuntimeError, ValueError, IndexError, OSError, MemoryError) as error:
        raise FileError(str(path), f"it is no whole MTZ file ({one_line(error)})", "Copy it again") from error
    return merged_from_mtz(table, path, column, missing, sample)


def _parse(content: bytes, path: Path) -> gemmi.Mtz:
    import gemmi

    if path.suffix not in COMPRESSIONS:
        return gemmi.read_mtz_file(str(path))
    with tempfile.TemporaryDirectory() as folder:  # gemmi reads MTZ from a file, and knows one compression only
        plain = Path(folder) / "plain.mtz"
        plain.write_bytes(content)
        return gemmi.read_mtz_file(str(plain))
