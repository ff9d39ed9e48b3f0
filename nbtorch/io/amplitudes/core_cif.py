"""Reflections of small-molecule CIF (.fcf, .hkl and .cif of the core dictionary), symmetry from its operators."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nbtorch.errors import DataError, FileError
from nbtorch.io.amplitudes.intensities import Kind, Observations, merged_from_observations
from nbtorch.io.amplitudes.types import Cell, ColumnChoice, Merged
from nbtorch.io.paths import one_line

if TYPE_CHECKING:
    from gemmi import cif

Floats = NDArray[np.float64]
#: (value, its σ) in order of preference; ``True``: a square, so an intensity. Measured only: what is calculated is not.
_COLUMNS = (
    ("F_squared_meas", "F_squared_sigma", True),
    ("intensity_meas", "intensity_sigma", True),
    ("intensity_net", "intensity_sigma", True),
    ("intensity_net", "intensity_u", True),
    ("F_meas", "F_sigma", False),
    ("F_meas_au", "F_meas_sigma_au", False),
)
_PREFIXES = ("_refln_", "_refln.", "_diffrn_refln_", "_diffrn_refln.")
_ZONES = ("_refln_zone_axis_id", "_diffrn_zone_axis_id")


def is_core_reflections(block: cif.Block) -> bool:
    """Whether a block holds reflections with the names of the core dictionary (mmCIF's are gemmi's to read)."""
    return any(block.find_loop(prefix + "index_h") for prefix in _PREFIXES if prefix != "_refln.") or bool(
        block.find_loop("_refln.index_h") and block.find_loop("_refln.F_squared_sigma")
    )


def read_core_cif(block: cif.Block, path: Path, column: str | None) -> Merged:
    """The measured intensities or amplitudes of a block, merged in the space group of its operators.

    ``column`` names the values (such as F_squared_meas). Raises DataError for zones of dynamical diffraction and for a
    block without measured values, cell or symmetry.
    """
    if any(block.find_loop(tag) for tag in _ZONES):
        raise DataError(
            str(path),
            "it lists intensities per zone (_zone_axis_id) for dynamical refinement, which are not merged amplitudes",
            "Give the merged reflections (.hkl, .fcf or .mtz) of this crystal",
        )
    group, cell = symmetry_of_block(block, path)
    prefix, value, sigma, squared = _choose(block, path, column)
    hkl = np.column_stack([_numbers(block, f"{prefix}index_{axis}", path) for axis in "hkl"])
    if not np.array_equal(hkl, np.rint(hkl)):
        raise DataError(str(path), "its indices are not whole numbers", "Check the columns _refln_index_h, _k, _l")
    values, deviations = _numbers(block, prefix + value, path), _sigmas(block, prefix + sigma, path)
    keep = _included(block, prefix)
    kept_sigma = None if deviations is None else deviations[keep]
    kind: Kind = "intensities" if squared else "amplitudes"
    observed = Observations(hkl[keep].astype(np.int64), values[keep], kept_sigma, group, cell, kind)
    notes: tuple[str, ...] = (f"reflections of a CIF, space group {group}",)
    if not keep.all():
        notes += (f"{int((~keep).sum())} reflections that the file marks as unreliable were left out",)
    merged = merged_from_observations(observed, path, value, notes)
    return replace(merged, column=ColumnChoice(value, kind, None if deviations is None else sigma))


def symmetry_of_block(block: cif.Block, path: Path) -> tuple[str, Cell]:
    """The space group (its name in gemmi's tables) and cell of a block. Raises DataError where it lacks either."""
    import gemmi

    try:
        small = gemmi.make_small_structure_from_block(block)
        group = _group_of_operators(block) or small.spacegroup
    except (RuntimeError, ValueError) as error:
        raise DataError(str(path), f"its cell or symmetry cannot be used ({one_line(error)})", "Check them") from error
    if group is None:
        raise DataError(str(path), "it states no space group of the tables", "Add _space_group_symop_operation_xyz")
    a, b, c, alpha, beta, gamma = small.cell.parameters
    if not small.cell.is_crystal() or min(a, b, c) <= 1:
        raise DataError(str(path), "it states no cell", "Add _cell_length_a and the others")
    return str(group.xhm()), (a, b, c, alpha, beta, gamma)


def _group_of_operators(block: cif.Block):  # type: ignore[no-untyped-def]
    import gemmi

    for tag in ("_space_group_symop_operation_xyz", "_space_group_symop.operation_xyz", "_symmetry_equiv_pos_as_xyz"):
        listed = list(block.find_values(tag))
        if listed:
            operators = [gemmi.Op(gemmi.cif.as_string(text)) for text in listed]
            return gemmi.find_spacegroup_by_ops(gemmi.GroupOps(operators))
    return None


def _choose(block: cif.Block, path: Path, column: str | None) -> tuple[str, str, str, bool]:
    """(prefix of the tags, value, its σ, whether it is a square)."""
    there = [
        (prefix, value, sigma, squared)
        for value, sigma, squared in _COLUMNS
        for prefix in _PREFIXES
        if block.find_loop(prefix + value) and (column is None or column == value)
    ]
    there.sort(key=lambda found: not block.find_loop(found[0] + found[2]))  # with standard deviations first
    if not there:
        known = ", ".join(dict.fromkeys(value for value, _, _ in _COLUMNS))
        raise DataError(
            f"column {column!r} of {path}" if column else str(path),
            "its reflections have no such measured intensity or amplitude",
            f"It needs one of: {known}",
        )
    return there[0]


def _numbers(block: cif.Block, tag: str, path: Path) -> Floats:
    from gemmi import cif

    column = block.find_values(tag)
    values = np.array([cif.as_number(text) for text in column], dtype=np.float64)
    bad = [text for text, value in zip(column, values, strict=True) if np.isnan(value) and text not in ("?", ".")]
    if bad or len(values) == 0:
        raise FileError(f"{path}, {tag}", f"{bad[0]!r} is not a number" if bad else "it is empty", "Repair the column")
    return values


def _sigmas(block: cif.Block, tag: str, path: Path) -> Floats | None:
    return _numbers(block, tag, path) if block.find_loop(tag) else None


def _included(block: cif.Block, prefix: str) -> NDArray[np.bool_]:
    """The rows that the file does not mark by x, as unreliable."""
    rows = len(block.find_values(prefix + "index_h"))
    for name in ("include_status", "observed_status"):
        marks = list(block.find_values(prefix + name))
        if len(marks) == rows:
            return np.array([mark != "x" for mark in marks])
    return np.ones(rows, dtype=np.bool_)
