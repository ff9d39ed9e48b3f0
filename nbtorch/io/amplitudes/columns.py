"""Which columns of a reflection table become amplitudes, and how. MTZ and mmCIF both arrive here as a gemmi.Mtz."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from nbtorch.errors import DataError
from nbtorch.io.amplitudes.french_wilson import WEAK, weak_amplitudes, wilson_means
from nbtorch.io.amplitudes.symmetry import centric
from nbtorch.io.amplitudes.types import Merged

if TYPE_CHECKING:
    import gemmi

Floats = NDArray[np.float64]
Missing = Literal["error", "drop"]
#: MTZ column types in order of preference: an amplitude before an intensity, a Friedel pair before a mean.
KINDS = {"G": "amplitudes", "F": "amplitudes", "K": "intensities", "J": "intensities"}
#: Labels of calculated amplitudes and map coefficients: used only when nothing was measured, or when asked for.
CALCULATED = ("FC", "FWT", "DELFWT", "2FOFC", "FOFC", "FMODEL", "F-MODEL", "PHFC", "FBULK")
MATES = (("(+)", "(-)"), ("plus", "minus"), ("+", "-"))


@dataclass(frozen=True)
class Choice:
    """The column, that of its Friedel mates if the file tells them apart, and their standard deviations if present."""

    label: str
    mate: str | None
    sigma: str | None
    mate_sigma: str | None
    kind: str


def merged_from_mtz(mtz: gemmi.Mtz, path: Path, column: str | None, missing: Missing) -> Merged:
    """The amplitudes of a reflection table. Raises DataError for a column it lacks, NaN, infinities, unmerged data."""
    if mtz.spacegroup is None:
        raise DataError(str(path), "it names no space group", "Set the space group in the file")
    if mtz.batches or "M/ISYM" in mtz.column_labels():
        raise DataError(str(path), "its reflections are not merged", "Merge them first (aimless, dials.merge, …)")
    choice = choose(mtz, path, column)
    keep, plus, minus, notes = _measured(mtz, choice, path, missing)
    if choice.kind == "intensities":
        converter = _Intensities(mtz, keep)
        plus, note = converter.amplitudes(plus, choice.label, choice.sigma)
        notes.append(note)
        if minus is not None and choice.mate is not None:
            minus, note = converter.amplitudes(minus, choice.mate, choice.mate_sigma)
            notes.append(note)
    a, b, c, alpha, beta, gamma = mtz.cell.parameters
    cell = (a, b, c, alpha, beta, gamma) if a > 1 and b > 1 and c > 1 else None
    return Merged(_indices(mtz)[keep], plus, minus, mtz.spacegroup.xhm(), cell, tuple(notes))


def choose(mtz: gemmi.Mtz, path: Path, column: str | None) -> Choice:
    """The columns to read: ``column`` if given, else by kind and then in the file's order."""
    usable = {c.label: c.type for c in mtz.columns if c.type in KINDS}
    if column is not None and column not in usable:
        raise DataError(
            f"column {column!r} of {path}",
            "the file has no such amplitude or intensity",
            f"Use one of: {', '.join(usable)}",
        )
    if not usable:
        raise DataError(
            str(path),
            f"no column is an amplitude or an intensity (it has {', '.join(mtz.column_labels())})",
            "Check it",
        )
    label = column or _preferred(usable)
    mate = _mate(label, usable)
    if mate is not None and any(label.endswith(minus) for _, minus in MATES):
        label, mate = mate, label  # the user named the F(−) column of a pair
    mate_sigma = None if mate is None else _sigma(mtz, mate)
    return Choice(label, mate, _sigma(mtz, label), mate_sigma, KINDS[usable[label]])


def _preferred(usable: dict[str, str]) -> str:
    measured = [label for label in usable if not label.upper().startswith(CALCULATED)]
    candidates = measured or list(usable)
    order = list(KINDS)
    return min(candidates, key=lambda label: (order.index(usable[label]), candidates.index(label)))


def _mate(label: str, usable: dict[str, str]) -> str | None:
    if usable[label] not in "GK":
        return None
    for plus, minus in MATES:
        for here, there in ((plus, minus), (minus, plus)):
            if here in label and (found := label.replace(here, there)) in usable and found != label:
                return found
    return None


def _sigma(mtz: gemmi.Mtz, label: str) -> str | None:
    """SIG + label where it exists, else the column after it if that is a standard deviation."""
    labels = mtz.column_labels()
    if f"SIG{label}" in labels:
        return f"SIG{label}"
    following = labels.index(label) + 1
    return labels[following] if following < len(labels) and mtz.columns[following].type in "QML" else None


def _measured(
    mtz: gemmi.Mtz, choice: Choice, path: Path, missing: Missing
) -> tuple[NDArray[np.bool_], Floats, Floats | None, list[str]]:
    """Which rows were measured, their values and mates. One absent mate takes the other's value."""
    plus = _column(mtz, choice.label)
    minus = None if choice.mate is None else _column(mtz, choice.mate)
    for label, values in ((choice.label, plus), (choice.mate, minus)):
        if values is not None and np.isinf(values).any():
            raise DataError(
                f"column {label} of {path}", f"{int(np.isinf(values).sum())} values are infinite", "Repair it"
            )
    notes = [f"{choice.kind} from {choice.label}" + (f" and {choice.mate}" if choice.mate else "")]
    if minus is not None:
        alone = np.isnan(plus) ^ np.isnan(minus)
        plus, minus = np.where(np.isnan(plus), minus, plus), np.where(np.isnan(minus), plus, minus)
        if alone.any():
            notes.append(f"{int(alone.sum())} reflections have one Friedel mate measured; the other takes its value")
    absent = np.isnan(plus)
    if absent.any() and missing == "error":
        raise DataError(
            f"column {choice.label} of {path}",
            f"{int(absent.sum())} of {absent.size} amplitudes are NaN (MTZ marks what was not measured so)",
            "Remove those rows, or read the file with missing='drop'",
        )
    if absent.any():
        notes.append(f"{int(absent.sum())} reflections without a value were dropped")
    keep = ~absent
    return keep, plus[keep], None if minus is None else minus[keep], notes


def _indices(mtz: gemmi.Mtz) -> NDArray[np.int64]:
    return np.array(mtz.make_miller_array(), dtype=np.int64)


def _column(mtz: gemmi.Mtz, label: str) -> Floats:
    return np.array(mtz.column_with_label(label), dtype=np.float64)


class _Intensities:
    """Turns intensities of the rows of a table where ``keep`` is True into amplitudes."""

    def __init__(self, mtz: gemmi.Mtz, keep: NDArray[np.bool_]) -> None:
        operations = mtz.spacegroup.operations()
        hkl = _indices(mtz)[keep]
        indices = hkl.astype(np.int32)
        self.mtz, self.keep = mtz, keep
        self.centric = centric(hkl, mtz.spacegroup.xhm())
        self.epsilon = np.array(operations.epsilon_factor_without_centering_array(indices), dtype=np.float64)
        self.absent = np.array(operations.systematic_absences(indices), dtype=bool)
        self.inverse_d_squared = np.array(mtz.cell.calculate_1_d2_array(indices), dtype=np.float64)

    def amplitudes(self, intensity: Floats, label: str, sigma_label: str | None) -> tuple[Floats, str]:
        """√I, French–Wilson where I < 4σ, 0 where symmetry forbids the reflection; and a sentence that says so."""
        amplitude = np.sqrt(np.maximum(intensity, 0.0))
        amplitude[self.absent] = 0.0
        if sigma_label is None:
            negative = int((intensity < 0).sum())
            return amplitude, f"{label} became √I; it has no standard deviations, so {negative} negative ones became 0"
        sigma = _column(self.mtz, sigma_label)[self.keep]
        known = np.isfinite(sigma) & (sigma > 0) & ~self.absent
        weak = known & (intensity < WEAK * np.where(known, sigma, 1.0))
        if weak.any():
            mean = np.empty_like(intensity)
            allowed = ~self.absent
            mean[allowed] = wilson_means(intensity[allowed], self.epsilon[allowed], self.inverse_d_squared[allowed])
            amplitude[weak] = weak_amplitudes(intensity[weak], sigma[weak], mean[weak], self.centric[weak])
        forbidden = f"; {int(self.absent.sum())} systematic absences became 0" if self.absent.any() else ""
        return amplitude, f"{label} became √I, French–Wilson for the {int(weak.sum())} below {WEAK:g}σ{forbidden}"
