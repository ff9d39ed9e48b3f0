"""Reflections of XDS: XDS_ASCII.HKL (of CORRECT and XSCALE) and INTEGRATE.HKL, through gemmi. They are intensities."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from nbtorch.errors import DataError, FileError
from nbtorch.io.amplitudes.intensities import Observations, merged_from_observations
from nbtorch.io.amplitudes.types import ColumnChoice, Merged
from nbtorch.io.paths import one_line, read_text

MARKS = ("!FORMAT=XDS_ASCII", "!OUTPUT_FILE=INTEGRATE.HKL")
END = "!END_OF_DATA"


def read_xds(path: Path) -> Merged:
    """The merged intensities of a reflection file of XDS as amplitudes, with its cell and space group.

    Observations that XDS rejected (σ below 0) are left out. Raises FileError for a damaged file, DataError where it
    names no known space group or holds no observation.
    """
    import gemmi

    text = read_text(path)
    integrated = text.startswith(MARKS[1])
    try:
        with tempfile.TemporaryDirectory() as folder:  # gemmi reads from a file, and knows one compression only
            plain = Path(folder) / "plain.hkl"
            plain.write_text(text)
            table = gemmi.read_xds_ascii(str(plain))
    except (RuntimeError, ValueError, IndexError, MemoryError) as error:
        raise FileError(str(path), f"it is no whole reflection file of XDS ({one_line(error)})", "Copy it again") from (
            error
        )
    group = gemmi.find_spacegroup_by_number(table.spacegroup_number)
    if group is None:
        raise DataError(str(path), f"its SPACE_GROUP_NUMBER is {table.spacegroup_number}", "Correct its header")
    a, b, c, alpha, beta, gamma = table.cell_constants
    if min(a, b, c) <= 1:
        raise DataError(str(path), f"its UNIT_CELL_CONSTANTS are {a:g} {b:g} {c:g} Å", "Correct its header")
    sigma = np.array(table.sigma_array, dtype=np.float64)
    observed = Observations(
        np.array(table.miller_array, dtype=np.int64),
        np.array(table.iobs_array, dtype=np.float64),
        sigma,
        str(group.xhm()),
        (a, b, c, alpha, beta, gamma),
    )
    merged = merged_from_observations(observed, path, "IOBS", _notes(text, integrated))
    return replace(merged, column=ColumnChoice("IOBS", "intensities", "SIGMA(IOBS)"))


def _notes(text: str, integrated: bool) -> tuple[str, ...]:
    notes = ["intensities of XDS; Friedel mates were merged with the others"]
    if integrated:
        notes.append("INTEGRATE.HKL is not scaled: XDS_ASCII.HKL of CORRECT has better amplitudes")
    if END not in text[-200:]:
        notes.append(f"the file does not end with {END}: it may be cut short")
    return tuple(notes)
