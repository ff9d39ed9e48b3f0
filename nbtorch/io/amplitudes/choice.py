"""Which column of a reflection table to read: measured with a standard deviation first, and of the right crystal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nbtorch.errors import DataError
from nbtorch.io.amplitudes.types import CELL_TOLERANCE, Cell, ColumnChoice, Sample, cell_difference

if TYPE_CHECKING:
    import gemmi

Kind = Literal["amplitudes", "intensities"]
#: MTZ column types in order of preference: an amplitude before an intensity, a Friedel pair before a mean.
KINDS: dict[str, Kind] = {"G": "amplitudes", "F": "amplitudes", "K": "intensities", "J": "intensities"}
#: Labels of what nobody measured: calculated amplitudes and intensities (FC, F_calc, FMODEL, IC), map coefficients
#: (FWT, 2FOFC), anomalous and isomorphous differences (FAN, DANO), density modification (FDM).
CALCULATED = re.compile(
    r"^(2?M?FO-?D?FC(WT)?|DELFWT|2?FWT|FOFC|[FI][-_]?C(ALC)?([-_(].*|ALL|TOT)?|[FI][-_]?MODEL.*|FBULK|F_?MASK|PHFC"
    r"|(DEL)?FAN.*|DANO.*|F_?DM.*|FPART.*|E_?CALC.*)$"
)
MATES = (("(+)", "(-)"), ("plus", "minus"), ("+", "-"))


def choose(mtz: gemmi.Mtz, path: Path, column: str | None, sample: Sample) -> tuple[ColumnChoice, str]:
    """The column to read (``column`` where it is given), and a sentence that says so and names the others.

    In order: of a data set with the cell of ``sample``; measured; with a standard deviation; by type; as they stand in
    the file. Raises DataError for a column that the file has not, or a file without any.
    """
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
    label = column or _preferred(mtz, usable, sample)
    mate = _mate(label, usable)
    if mate is not None and any(label.endswith(minus) for _, minus in MATES):
        label, mate = mate, label  # the user named the F(−) column of a pair
    others = tuple(other for other in usable if other not in (label, mate))
    choice = ColumnChoice(
        label, KINDS[usable[label]], sigma_of(mtz, label), mate, _dataset(mtz, label), alternatives=others
    )
    return choice, _sentence(choice, mtz, sample)


def sigma_of(mtz: gemmi.Mtz, label: str) -> str | None:
    """The standard deviations of ``label``: SIG + label where it exists, else the column after it if it is one."""
    labels = mtz.column_labels()
    if f"SIG{label}" in labels:
        return f"SIG{label}"
    following = labels.index(label) + 1
    return labels[following] if following < len(labels) and mtz.columns[following].type in "QML" else None


def dataset_of(mtz: gemmi.Mtz, label: str) -> gemmi.Mtz.Dataset | None:
    """The crystal and data set of a column; None where the file does not hold the one that the column names."""
    column = mtz.column_with_label(label)
    return next((dataset for dataset in mtz.datasets if dataset.id == column.dataset_id), None)


def _preferred(mtz: gemmi.Mtz, usable: dict[str, str], sample: Sample) -> str:
    types, order = list(KINDS), list(usable)

    def rank(label: str) -> tuple[bool, bool, bool, int, int]:
        away = sample.cell is not None and not _fits(mtz, label, sample.cell)
        measured = not _is_calculated(mtz, label)
        return away, not measured, sigma_of(mtz, label) is None, types.index(usable[label]), order.index(label)

    return min(order, key=rank)


def _is_calculated(mtz: gemmi.Mtz, label: str) -> bool:
    """By its name; or an amplitude with a phase right behind it and no standard deviation: a map coefficient."""
    if CALCULATED.match(label.upper()):
        return True
    labels = mtz.column_labels()
    following = labels.index(label) + 1
    return sigma_of(mtz, label) is None and following < len(labels) and mtz.columns[following].type == "P"


def _fits(mtz: gemmi.Mtz, label: str, cell: Cell) -> bool:
    dataset = dataset_of(mtz, label)
    own = (mtz if dataset is None else dataset).cell.parameters
    return min(own[:3]) <= 1 or max(cell_difference(own, cell)) <= CELL_TOLERANCE


def _mate(label: str, usable: dict[str, str]) -> str | None:
    if usable[label] not in "GK":
        return None
    for plus, minus in MATES:
        for here, there in ((plus, minus), (minus, plus)):
            if here in label and (found := label.replace(here, there)) in usable and found != label:
                return found
    return None


def _dataset(mtz: gemmi.Mtz, label: str) -> str:
    dataset = dataset_of(mtz, label)
    return "" if dataset is None else "/".join(name for name in (dataset.crystal_name, dataset.dataset_name) if name)


def _sentence(choice: ColumnChoice, mtz: gemmi.Mtz, sample: Sample) -> str:
    said = f"{choice.kind} from {choice.label}" + (f" and {choice.mate}" if choice.mate else "")
    if len({column.dataset_id for column in mtz.columns if column.type in KINDS}) > 1:
        said += f" of {choice.dataset}"
        if sample.cell is not None and _fits(mtz, choice.label, sample.cell):
            said += ", whose cell is the experiment's"
    if choice.alternatives:
        said += f"; column= would also take {', '.join(choice.alternatives)}"
    return said
