"""Which columns of a reflection table become amplitudes, and how. MTZ and mmCIF both arrive here as a gemmi.Mtz."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from nbtorch.errors import DataError
from nbtorch.io.amplitudes.choice import choose, dataset_of, sigma_of
from nbtorch.io.amplitudes.intensities import (
    Observations,
    amplitudes_of_intensities,
    merged_from_observations,
    refuse_negative,
)
from nbtorch.io.amplitudes.types import Cell, ColumnChoice, Merged, Sample
from nbtorch.io.paths import one_line

if TYPE_CHECKING:
    import gemmi

Floats = NDArray[np.float64]
Missing = Literal["error", "drop"]


def merged_from_mtz(mtz: gemmi.Mtz, path: Path, column: str | None, missing: Missing, sample: Sample) -> Merged:
    """The amplitudes of a reflection table; unmerged intensities are merged first.

    Rows without a value are left out and counted (``missing`` "error": refused). Raises DataError for a column that is
    not there, for negative or infinite amplitudes, and for a table without a space group.
    """
    if mtz.spacegroup is None:
        raise DataError(str(path), "it names no space group", "Set the space group in the file")
    if mtz.batches or "M/ISYM" in mtz.column_labels():
        return _unmerged(mtz, path)
    choice, chosen_note = choose(mtz, path, column, sample)
    return _Rows(mtz, choice, path).merged(missing, chosen_note)


class _Rows:
    """The rows of a merged table, seen through the columns of a choice."""

    def __init__(self, mtz: gemmi.Mtz, choice: ColumnChoice, path: Path) -> None:
        self.mtz, self.choice, self.path = mtz, choice, path
        self.hkl = np.array(mtz.make_miller_array(), dtype=np.int64)
        self.group = str(mtz.spacegroup.xhm())
        self.cell = _cell(mtz, choice.label)

    def merged(self, missing: Missing, chosen_note: str) -> Merged:
        """The amplitudes of the rows that have any."""
        plus, minus, notes = self._filled()
        absent = np.isnan(plus)
        if absent.any() and missing == "error":
            raise DataError(
                self._named(self.choice.label),
                f"{int(absent.sum())} of {absent.size} amplitudes are NaN (MTZ marks what was not measured so)",
                "Read the file with missing='drop', or remove those rows",
            )
        if absent.all():
            raise DataError(self._named(self.choice.label), "none of its rows holds a value", "Choose another column")
        if absent.any():
            notes.append(f"{int(absent.sum())} reflections without a value were dropped")
        keep = ~absent
        forward, note = self._amplitudes(plus, keep, self.choice.label, self.choice.sigma)
        backward = None
        notes += note
        if minus is not None and self.choice.mate is not None:
            sigma = sigma_of(self.mtz, self.choice.mate)
            backward, note = self._amplitudes(minus, keep, self.choice.mate, sigma)
            notes += note
        said = (chosen_note, *notes)
        dropped = int(absent.sum())
        return Merged(self.hkl[keep], forward, backward, self.group, self.cell, said, self.choice, dropped)

    def _filled(self) -> tuple[Floats, Floats | None, list[str]]:
        """The values, and those of the mates, with one absent mate taking the other's, and both the mean's."""
        plus = self._values(self.choice.label)
        if self.choice.mate is None:
            return plus, None, []
        minus = self._values(self.choice.mate)
        notes = []
        alone = np.isnan(plus) ^ np.isnan(minus)
        plus, minus = np.where(np.isnan(plus), minus, plus), np.where(np.isnan(minus), plus, minus)
        if alone.any():
            notes.append(f"{int(alone.sum())} reflections have one Friedel mate measured; the other takes its value")
        mean = _mean_of_pair(self.mtz, self.choice)
        if mean is not None and np.isnan(plus).any():
            values = self._values(mean)
            taken = np.isnan(plus) & np.isfinite(values)
            plus, minus = np.where(taken, values, plus), np.where(taken, values, minus)
            if taken.any():
                notes.append(f"{int(taken.sum())} reflections have neither Friedel mate; both take the value of {mean}")
        return plus, minus, notes

    def _values(self, label: str) -> Floats:
        values = _column(self.mtz, label)
        if np.isinf(values).any():
            raise DataError(self._named(label), f"{int(np.isinf(values).sum())} values are infinite", "Repair it")
        return values

    def _amplitudes(
        self, values: Floats, keep: NDArray[np.bool_], label: str, sigma: str | None
    ) -> tuple[Floats, list[str]]:
        if self.choice.kind == "intensities":
            deviations = None if sigma is None else _column(self.mtz, sigma)[keep]
            rows = Observations(self.hkl[keep], values[keep], deviations, self.group, self.cell)
            converted, note = amplitudes_of_intensities(rows, label)
            return converted, [note]
        refuse_negative(values[keep], self._named(label))
        return values[keep], []

    def _named(self, label: str) -> str:
        return f"column {label} of {self.path}"


def _unmerged(mtz: gemmi.Mtz, path: Path) -> Merged:
    import gemmi

    table = gemmi.Intensities()
    try:
        table.import_mtz(mtz, gemmi.DataType.Unmerged)
    except (RuntimeError, ValueError) as error:
        raise DataError(
            str(path),
            f"its reflections are not merged, and cannot be ({one_line(error)})",
            "It needs the columns I and SIGI; or merge it first (aimless, dials.merge, …)",
        ) from error
    observed = Observations(
        np.array(table.miller_array, dtype=np.int64),
        np.array(table.value_array, dtype=np.float64),
        np.array(table.sigma_array, dtype=np.float64),
        str(mtz.spacegroup.xhm()),
        _cell(mtz, "I"),
    )
    note = "the file is not merged; Friedel mates were merged with the others"
    merged = merged_from_observations(observed, path, "I", (note,))
    return replace(merged, column=ColumnChoice("I", "intensities", "SIGI"))


def _cell(mtz: gemmi.Mtz, label: str) -> Cell | None:
    """The cell of a column's data set, or that of the file; None where neither is one."""
    dataset = dataset_of(mtz, label)
    cells = [mtz.cell] if dataset is None else [dataset.cell, mtz.cell]
    for cell in cells:
        a, b, c, alpha, beta, gamma = cell.parameters
        if a > 1 and b > 1 and c > 1:
            return a, b, c, alpha, beta, gamma
    return None


def _mean_of_pair(mtz: gemmi.Mtz, choice: ColumnChoice) -> str | None:
    """The column that holds the mean of a Friedel pair: F beside F(+) and F(-), IMEAN beside I(+)."""
    base = choice.label
    for mark in ("(+)", "(-)", "_plus", "_minus", "plus", "minus", "+", "-"):
        base = base.replace(mark, "")
    wanted = "F" if choice.kind == "amplitudes" else "J"
    names = (base, base + "MEAN", base + "mean", base + "_mean", base.replace("I_", "IMEAN_", 1))
    return next((c.label for c in mtz.columns if c.label in names and c.type == wanted), None)


def _column(mtz: gemmi.Mtz, label: str) -> Floats:
    return np.array(mtz.column_with_label(label), dtype=np.float64)
