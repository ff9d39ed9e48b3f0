"""Reading amplitudes of any format, told apart by content and then by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nbtorch.errors import DataError, FileError
from nbtorch.io.amplitudes.columns import Missing
from nbtorch.io.amplitudes.coordinates import DEFAULT_DMIN, read_coordinate_cif, read_pdb
from nbtorch.io.amplitudes.fdump import END, read_fdump
from nbtorch.io.amplitudes.hkl import HklList, amplitudes_from_list, read_hkl
from nbtorch.io.amplitudes.mmcif import has_reflections, read_cif_document, read_mmcif
from nbtorch.io.amplitudes.mtz import MAGIC, read_mtz
from nbtorch.io.amplitudes.symmetry import expand
from nbtorch.io.amplitudes.types import Amplitudes, Merged
from nbtorch.io.paths import find_file, read_bytes

CIF_SUFFIXES = (".cif", ".mmcif", ".ent.cif", ".fcf")
PDB_RECORDS = (b"HEADER", b"CRYST1", b"REMARK", b"ATOM  ", b"HETATM", b"TITLE ", b"COMPND", b"MODEL ")


def read_amplitudes(
    path: str | Path, *, column: str | None = None, dmin: float = DEFAULT_DMIN, missing: Missing = "error"
) -> Amplitudes:
    """Amplitudes expanded to P1 with Friedel mates.

    MTZ and mmCIF (amplitudes or intensities; ``column`` names the one to use), coordinates as PDB or CIF (calculated to
    ``dmin`` Å), text h k l F, Fdump.bin. ``missing`` says what becomes of reflections without a value: "error", "drop".
    Raises FileError for a file that is missing, damaged or of no known format, DataError for amplitudes that are NaN,
    infinite, unmerged, or that need a grid past any real one.
    """
    if missing not in ("error", "drop"):
        raise DataError(f"missing={missing!r}", "it is not a known choice", "Use one of: error, drop")
    found = find_file(path)
    start = read_bytes(found)[:4096]
    merged = _merged(found, start, column, dmin, missing)
    if merged is not None:
        return expand(merged, found)
    if column is not None:
        raise DataError(f"column {column!r} of {found}", "a plain list has no named columns", "Leave the column out")
    if END in start and len(start.partition(END)[0].split()) == 6:
        return amplitudes_from_list(_listed(found))
    return amplitudes_from_list(read_hkl(found))


def _merged(path: Path, start: bytes, column: str | None, dmin: float, missing: Missing) -> Merged | None:
    """The unique amplitudes of a format with symmetry; None for the formats without."""
    name = path.name.lower().removesuffix(".gz").removesuffix(".bz2")
    if start.startswith(MAGIC):
        return read_mtz(path, column, missing)
    if name.endswith(".mtz"):
        raise FileError(str(path), "its name ends in .mtz but its content is not MTZ", "Check the file")
    if name.endswith(CIF_SUFFIXES) or start.lstrip().startswith(b"data_"):
        document = read_cif_document(path)
        if has_reflections(document):
            return read_mmcif(document, path, column, missing)
        return read_coordinate_cif(document, path, dmin)
    if start.startswith(PDB_RECORDS) or name.endswith((".pdb", ".ent")):
        return read_pdb(path, dmin)
    return None


def _listed(path: Path) -> HklList:
    """The non-zero entries of an Fdump.bin as a list."""
    dump = read_fdump(path)
    present = np.argwhere(dump.F != 0)
    return HklList(present + np.array(dump.start), dump.F[dump.F != 0], path)
