"""SHELX reflection files (.hkl): fixed columns h k l (I4), value and σ (F8.2), batch (I4), ended by 0 0 0.

HKLF 4 holds intensities, HKLF 3 amplitudes; which, and cell and symmetry, stand in the .ins, .res or .cif beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nbtorch.errors import DataError
from nbtorch.io.amplitudes.core_cif import symmetry_of_block
from nbtorch.io.amplitudes.intensities import Kind, Observations, merged_from_observations
from nbtorch.io.amplitudes.types import Cell, Merged, Sample
from nbtorch.io.paths import existing, one_line, read_text

LINE = re.compile(r"^[ \d-]{3}\d[ \d-]{3}\d[ \d-]{3}\d[ \d.+-]{7}[\d.][ \d.+-]{7}[\d.]([ \d-]{3}\d.*)?\s*$")
#: Fractions that move an atom into the cells of a lattice type of SHELX (obverse R).
_TRANSLATIONS = {
    1: [],
    2: ["x+1/2,y+1/2,z+1/2"],
    3: ["x+2/3,y+1/3,z+1/3", "x+1/3,y+2/3,z+2/3"],
    4: ["x,y+1/2,z+1/2", "x+1/2,y,z+1/2", "x+1/2,y+1/2,z"],
    5: ["x,y+1/2,z+1/2"],
    6: ["x+1/2,y,z+1/2"],
    7: ["x+1/2,y+1/2,z"],
}


@dataclass(frozen=True)
class Companion:
    """What the file beside a reflection list says: cell, space group, the number after HKLF."""

    path: Path
    cell: Cell
    space_group: str
    hklf: int = 4


def is_shelx(text: str, path: Path) -> bool:
    """Whether ``text`` is a list in SHELX's columns, and something tells it from a plain list h k l F σ.

    That is: the line 0 0 0 at its end, a companion file, a value below 0, or columns that touch.
    """
    lines = text.split("\n", 2000)[:2000]
    rows = [line for line in lines if line.strip()]
    if len(text.splitlines()) > 2000:
        rows = rows[:-1]
    if not rows or not all(LINE.match(line) for line in _before_end(rows)):
        return False
    touching = any(len(line[:28].split()) < 5 for line in rows)
    negative = any("-" in line[12:20] for line in rows)
    return touching or negative or _ended(text) or companion_path(path) is not None


def read_shelx(path: Path, sample: Sample, column: str | None) -> Merged:
    """The list as amplitudes, merged in the symmetry of the file beside it, else that of ``sample``.

    ``column`` "F" or "I" says what its values are where no HKLF does. Raises DataError where nobody says the symmetry.
    """
    companion = read_companion(path)
    if companion is None and sample.space_group is None:
        raise DataError(
            str(path),
            "it is a SHELX reflection list, which holds neither cell nor symmetry",
            f"Put {path.stem}.ins, .res or .cif beside it, or read it for an experiment that has a crystal",
        )
    group = companion.space_group if companion else str(sample.space_group)
    cell = companion.cell if companion else sample.cell
    table = _table(read_text(path), path)
    amplitudes = column == "F" if column else companion is not None and companion.hklf == 3
    kind: Kind = "amplitudes" if amplitudes else "intensities"
    observed = Observations(table[:, :3].astype(np.int64), table[:, 3], table[:, 4], group, cell, kind)
    said = (_said(companion, amplitudes, group),)
    merged = merged_from_observations(observed, path, "F" if amplitudes else "I", said)
    return replace(merged, cell=companion.cell if companion else None)


def companion_path(path: Path) -> Path | None:
    """The .ins, .res or .cif of the list's name."""
    stem = path.name.split(".")[0]
    beside = (existing(path.with_name(stem + suffix)) for suffix in (".ins", ".res", ".cif"))
    return next((found for found in beside if found is not None), None)


def read_companion(path: Path) -> Companion | None:
    """Cell and symmetry from the file beside the list; None without one. Raises DataError where it lacks them."""
    found = companion_path(path)
    if found is None:
        return None
    text = read_text(found)
    return _from_cif(text, found) if found.name.split(".", 1)[1].startswith("cif") else _from_instructions(text, found)


def _from_cif(text: str, path: Path) -> Companion:
    from gemmi import cif

    try:
        block = cif.read_string(text)[0]
    except (RuntimeError, ValueError, IndexError) as error:
        raise DataError(str(path), f"it is not CIF ({one_line(error)})", "Check the file") from error
    group, cell = symmetry_of_block(block, path)
    return Companion(path, cell, group)


def _from_instructions(text: str, path: Path) -> Companion:
    """CELL, LATT, SYMM and HKLF of SHELX instructions. A negative LATT has no centre of symmetry."""
    import gemmi

    cards: dict[str, list[str]] = {}
    for line in text.splitlines():
        words = line.split("!")[0].split(None, 1)
        if len(words) == 2:
            cards.setdefault(words[0].upper()[:4], []).append(words[1])
    try:
        numbers = [float(word) for word in cards["CELL"][0].split()]
        lattice = int(float(cards.get("LATT", ["1"])[0].split()[0]))
        triplets = ["x,y,z", *(symmetry.lower() for symmetry in cards.get("SYMM", []))]
        group = gemmi.find_spacegroup_by_ops(gemmi.GroupOps([gemmi.Op(t) for t in _all_triplets(triplets, lattice)]))
        hklf = int(cards.get("HKLF", ["4"])[0].split()[0])
        _, a, b, c, alpha, beta, gamma = numbers[:7]
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        raise DataError(
            str(path), f"its CELL, LATT and SYMM cannot be used ({one_line(error)})", "Check them"
        ) from error
    if group is None:
        raise DataError(str(path), "its LATT and SYMM make no space group of the tables", "Check them")
    if abs(hklf) not in (3, 4):
        raise DataError(str(path), f"its HKLF {hklf} is neither 3 (F) nor 4 (F²)", "Merge the list to HKLF 4 first")
    return Companion(path, (a, b, c, alpha, beta, gamma), str(group.xhm()), abs(hklf))


def _all_triplets(triplets: list[str], lattice: int) -> list[str]:
    """All operations: those listed, their inverses (LATT above 0), and each in every cell of the lattice type."""
    import gemmi

    ops = [gemmi.Op(triplet) for triplet in triplets]
    if lattice > 0:
        ops += [op * gemmi.Op("-x,-y,-z") for op in ops]
    moves = [gemmi.Op(move) for move in _TRANSLATIONS[abs(lattice)]]
    every = ops + [(move * op).wrap() for move in moves for op in ops]
    return list(dict.fromkeys(op.wrap().triplet() for op in every))


def _before_end(rows: list[str]) -> list[str]:
    """The lines before the one whose indices are 0 0 0; SHELX reads no further."""
    end = next((i for i, line in enumerate(rows) if line[:12].split() == ["0", "0", "0"]), len(rows))
    return rows[:end]


def _ended(text: str) -> bool:
    return any(line[:12].split() == ["0", "0", "0"] for line in text.splitlines()[-200:])


def _table(text: str, path: Path) -> NDArray[np.float64]:
    """h k l value σ [n, 5]. Raises DataError naming a line that is not in SHELX's columns."""
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if line[:12].split() == ["0", "0", "0"]:
            break
        if not line.strip():
            continue
        if not LINE.match(line):
            raise DataError(f"{path}, line {number}", f"{line[:60]!r} is not 3I4,2F8.2 as SHELX writes", "Repair it")
        rows.append([float(line[start:stop]) for start, stop in ((0, 4), (4, 8), (8, 12), (12, 20), (20, 28))])
    if not rows:
        raise DataError(str(path), "it holds no reflection", "Check the file")
    return np.array(rows)


def _said(companion: Companion | None, amplitudes: bool, group: str) -> str:
    what = "amplitudes (HKLF 3)" if amplitudes else "intensities (HKLF 4)"
    if companion is None:
        return f"a SHELX list, taken as {what}, in the experiment's cell and space group {group}"
    return f"a SHELX list of {what}; cell and space group {group} from {companion.path.name}"
