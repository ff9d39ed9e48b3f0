"""Whether amplitudes and a crystal model can belong together."""

from __future__ import annotations

from collections.abc import Mapping

from nbtorch.config import CrystalConfig
from nbtorch.errors import DataError
from nbtorch.io.amplitudes.symmetry import laue_rotations
from nbtorch.io.amplitudes.types import CELL_TOLERANCE, Amplitudes, Cell, cell_difference


def check_against_crystals(amplitudes: Amplitudes, crystals: Mapping[int, CrystalConfig]) -> tuple[str, ...]:
    """:func:`check_against_cell` for every crystal of a fit (experiment number → crystal): what to say, each once.

    Raises DataError naming the experiments whose crystal the amplitudes do not fit.
    """
    notes: dict[str, list[int]] = {}
    refused: dict[int, DataError] = {}
    for number, crystal in crystals.items():
        try:
            for note in check_against_cell(amplitudes, crystal):
                notes.setdefault(note, []).append(number)
        except DataError as error:
            refused[number] = error
    if refused:
        first = next(iter(refused.values()))
        few = ", ".join(str(number) for number in list(refused)[:10]) + (", …" if len(refused) > 10 else "")
        raise DataError(
            first.given,
            f"{len(refused)} of {len(crystals)} crystals are of another kind (experiment {few}); {first.why}",
            f"Fit each crystal form with its own amplitudes (leave out the other experiments). {first.change}",
        )
    everywhere = len(notes) == 1 or all(len(numbers) == len(crystals) for numbers in notes.values())
    return tuple(
        note if everywhere else f"experiment {', '.join(str(n) for n in numbers[:10])}: {note}"
        for note, numbers in notes.items()
    )


def check_against_cell(amplitudes: Amplitudes, crystal: CrystalConfig) -> tuple[str, ...]:
    """What the report should say about the two; empty where they agree. Cell and wavelength are the experiment's.

    Raises DataError where the Laue class differs or a cell length or angle is off by more than 2 %. Another space group
    of the same Laue class is a note, and the amplitudes' group wins. A list in P1 carries no symmetry to disagree with.
    """
    notes = []
    if amplitudes.cell is not None:
        notes += _compare_cells(amplitudes, amplitudes.cell, crystal)
    ours, theirs = amplitudes.space_group, crystal.space_group
    if ours == theirs:
        return tuple(notes)
    if ours == "P 1":
        return (
            *notes,
            f"the amplitudes are listed in P 1 and used as they are; the experiment's space group is {theirs}",
        )
    if laue_rotations(ours) != laue_rotations(theirs):
        raise DataError(
            f"amplitudes {amplitudes.path} in {ours} (Laue class {_laue(ours)})",
            f"the experiment's crystal is in {theirs} (Laue class {_laue(theirs)}): their indices are not the same",
            "Reindex one of them, or give amplitudes of this crystal",
        )
    return (*notes, f"the space group is the amplitudes' {ours}, not the experiment's {theirs} (same Laue class)")


def _compare_cells(amplitudes: Amplitudes, cell: Cell, crystal: CrystalConfig) -> list[str]:
    names = ("a", "b", "c", "alpha", "beta", "gamma")
    off = dict(zip(names, cell_difference(cell, crystal.cell), strict=True))
    worst = max(off, key=off.__getitem__)
    if off[worst] > CELL_TOLERANCE:
        raise DataError(
            f"amplitudes {amplitudes.path} with cell {_text(cell)}",
            f"the experiment's cell is {_text(crystal.cell)}: {worst} is off by {100 * off[worst]:.1f} % (at most 2 %)",
            "Give amplitudes of this crystal, in the same setting",
        )
    if off[worst] > 1e-3:
        return [f"the amplitudes' cell differs by up to {100 * off[worst]:.2f} % ({worst}); the experiment's is used"]
    return []


def _laue(space_group: str) -> str:
    import gemmi

    return str(gemmi.SpaceGroup(space_group).laue_str())


def _text(cell: Cell) -> str:
    return " ".join(f"{x:.6g}" for x in cell)
