"""Reading amplitudes of any format, told apart by content and then by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nbtorch.errors import DataError, FileError
from nbtorch.io.amplitudes import crystfel_list, xds
from nbtorch.io.amplitudes.columns import Missing
from nbtorch.io.amplitudes.coordinates import DEFAULT_DMIN, read_coordinate_cif, read_pdb
from nbtorch.io.amplitudes.fdump import END, read_fdump
from nbtorch.io.amplitudes.hkl import HklList, amplitudes_from_list, read_hkl
from nbtorch.io.amplitudes.kinds import is_cif, refuse_binary
from nbtorch.io.amplitudes.mmcif import has_reflections, read_cif_document, read_reflection_cif
from nbtorch.io.amplitudes.mtz import MAGIC, read_mtz
from nbtorch.io.amplitudes.shelx import is_shelx, read_shelx
from nbtorch.io.amplitudes.symmetry import expand
from nbtorch.io.amplitudes.types import Amplitudes, Merged, Sample
from nbtorch.io.paths import find_file, read_bytes

CIF_SUFFIXES = (".cif", ".mmcif", ".ent.cif", ".fcf")
PDB_RECORDS = (b"HEADER", b"CRYST1", b"REMARK", b"ATOM  ", b"HETATM", b"TITLE ", b"COMPND", b"MODEL ")
#: What ``column`` may say of a plain list: what its fourth column holds.
LIST_COLUMNS = ("F", "I")


def read_amplitudes(
    path: str | Path,
    *,
    column: str | None = None,
    dmin: float = DEFAULT_DMIN,
    missing: Missing = "drop",
    sample: Sample | None = None,
) -> Amplitudes:
    """Amplitudes expanded to P1 with Friedel mates.

    MTZ and CIF (amplitudes or intensities; ``column`` names the one to use), intensities of XDS, SHELX and CrystFEL,
    coordinates as PDB or CIF (calculated to ``dmin`` Å), text h k l F, Fdump.bin. What repeats is merged by symmetry.
    ``sample`` is what the experiment knows and the file may not: its cell chooses between the crystals of an MTZ, its
    space group and cell serve lists that state none, its radiation the form factors of coordinates. Rows without a
    value are left out and counted; ``missing`` "error" refuses them. Raises FileError for a file that is missing,
    damaged or of no known format, DataError for amplitudes that are negative or infinite, or that need
    a grid past any real one.
    """
    if missing not in ("error", "drop"):
        raise DataError(f"missing={missing!r}", "it is not a known choice", "Use one of: error, drop")
    found, sample = find_file(path), sample or Sample()
    start = read_bytes(found)[:4096]
    refuse_binary(start, found)
    merged = _table(found, start, column, missing, sample) or _structure(found, start, dmin, sample)
    merged = merged or _text_list(found, start, column, sample)
    if merged is not None:
        return expand(merged, found)
    if END in start and len(start.partition(END)[0].split()) == 6:
        return amplitudes_from_list(_listed(found))
    if column not in (None, "F"):
        raise DataError(
            f"column {column!r} of {found}", "a plain list h k l F has no named columns", "Leave the column out"
        )
    return amplitudes_from_list(read_hkl(found), sample)


def _table(path: Path, start: bytes, column: str | None, missing: Missing, sample: Sample) -> Merged | None:
    """The unique amplitudes of an MTZ or of a CIF with reflections; None for what is neither."""
    if start.startswith(MAGIC):
        return read_mtz(path, column, missing, sample)
    if _name(path).endswith(".mtz"):
        raise FileError(str(path), "its name ends in .mtz but its content is not MTZ", "Check the file")
    if not _looks_like_cif(path, start):
        return None
    document = read_cif_document(path)
    return read_reflection_cif(document, path, column, missing, sample) if has_reflections(document) else None


def _structure(path: Path, start: bytes, dmin: float, sample: Sample) -> Merged | None:
    """The amplitudes of coordinates; None for what holds none."""
    if _looks_like_cif(path, start):
        return read_coordinate_cif(read_cif_document(path), path, dmin, sample.scattered)
    if start.startswith(PDB_RECORDS) or _name(path).endswith((".pdb", ".ent")):
        return read_pdb(path, dmin, sample.scattered)
    return None


def _text_list(path: Path, start: bytes, column: str | None, sample: Sample) -> Merged | None:
    """The intensities of a text that XDS, CrystFEL or SHELX wrote; None for other texts."""
    if END in start:
        return None
    head = start.decode("utf-8", errors="replace")
    if head.startswith(xds.MARKS):
        return xds.read_xds(path)
    if head.startswith(crystfel_list.MARK):
        return crystfel_list.read_crystfel_list(path, sample)
    if column in (None, *LIST_COLUMNS) and "\ufffd" not in head:
        text = read_bytes(path).decode("utf-8", errors="replace")
        if is_shelx(text, path):
            return read_shelx(path, sample, column)
    return None


def _looks_like_cif(path: Path, start: bytes) -> bool:
    return _name(path).endswith(CIF_SUFFIXES) or is_cif(start.decode("utf-8", errors="replace"))


def _name(path: Path) -> str:
    return path.name.lower().removesuffix(".gz").removesuffix(".bz2")


def _listed(path: Path) -> HklList:
    """The non-zero entries of an Fdump.bin as a list."""
    dump = read_fdump(path)
    present = np.argwhere(dump.F != 0)
    return HklList(present + np.array(dump.start), dump.F[dump.F != 0], path)
