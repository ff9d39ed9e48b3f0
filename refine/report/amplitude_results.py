"""Refined amplitudes as they are told: a row each, a summary for result.json and the report, and an MTZ file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nbtorch.config import CrystalConfig
from nbtorch.io.atomic import atomic_path
from refine.records.outcome import AmplitudeRow, Outcome

LISTED = 10  # of the rows, those that moved most; all are in the file
PLAIN = (("F", "F"), ("SIGF", "Q"))  # labels and types of MTZ columns
ANOMALOUS = (("F(+)", "G"), ("SIGF(+)", "L"), ("F(-)", "G"), ("SIGF(-)", "L"))


def summary(outcome: Outcome, file: str) -> dict[str, Any] | None:
    """What result.json says of the amplitudes; None where none was refined."""
    rows = outcome.amplitudes
    if not rows:
        return None
    change = np.array([row.value / row.start - 1 for row in rows])
    known = [row.sigma / row.value for row in rows if row.sigma is not None]
    return {
        "refined": len(rows),
        "file": file,
        "rms_relative_change": float(np.sqrt((change**2).mean())),
        "median_relative_sigma": float(np.median(known)) if known else None,
        "at_bound": sum(row.at_bound for row in rows),
        "largest_changes": [asdict(row) for row in largest(rows)],
    }


def largest(rows: Sequence[AmplitudeRow]) -> list[AmplitudeRow]:
    """The rows that moved by most of their own size."""
    return sorted(rows, key=lambda row: -abs(row.value / row.start - 1))[:LISTED]


def sentence(outcome: Outcome, file: str) -> str | None:
    """The summary in words; None where no amplitude was refined."""
    found = summary(outcome, file)
    if found is None:
        return None
    sigma = found["median_relative_sigma"]
    known = "" if sigma is None else f", known to {100 * sigma:.2g} % (median)"
    moved = 100 * found["rms_relative_change"]
    return f"{found['refined']} amplitudes were refined: they moved by {moved:.2g} % (rms){known}; all are in {file}"


def write_mtz(path: Path, rows: Sequence[AmplitudeRow], crystal: CrystalConfig) -> None:
    """Write the refined amplitudes to ``path``: F and SIGF, or those of F(+) and F(−) where mates have their own.

    An amplitude without a sigma has none in the file. The file is moved into place when it is whole.
    """
    import gemmi

    mtz = gemmi.Mtz(with_base=True)
    mtz.title = "amplitudes refined by nb-refine"
    mtz.spacegroup = gemmi.SpaceGroup(crystal.space_group)
    mtz.set_cell_for_all(gemmi.UnitCell(*crystal.cell))
    mtz.add_dataset("nbtorch")
    anomalous = any(row.side != "both" for row in rows)
    for label, kind in ANOMALOUS if anomalous else PLAIN:
        mtz.add_column(label, kind)
    mtz.set_data(_table(rows, anomalous=anomalous).astype(np.float32))
    with atomic_path(path, overwrite=True) as temporary:
        mtz.write_to_file(str(temporary))


def _table(rows: Sequence[AmplitudeRow], *, anomalous: bool) -> np.ndarray:
    """h k l and the columns' values [n, 3 + 2 or 4], one row a reflection, NaN for what is not known."""
    found: dict[tuple[int, int, int], np.ndarray] = {}
    for row in rows:
        sign = -1 if row.side == "minus" else 1
        hkl = (sign * row.h, sign * row.k, sign * row.l)
        values = found.setdefault(hkl, np.full(4, np.nan))
        pair = row.value, np.nan if row.sigma is None else row.sigma
        if row.side != "minus":
            values[:2] = pair
        if row.side != "plus":
            values[2:] = pair
    return np.array([[*hkl, *(values if anomalous else values[:2])] for hkl, values in sorted(found.items())])
