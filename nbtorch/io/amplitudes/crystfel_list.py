"""Reflection lists of CrystFEL (process_hkl, partialator): merged intensities of one asymmetric unit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from nbtorch.errors import DataError, FileError
from nbtorch.io.amplitudes.intensities import Observations, merged_from_observations
from nbtorch.io.amplitudes.symmetry import laue_rotations
from nbtorch.io.amplitudes.types import Merged, Sample
from nbtorch.io.paths import read_text

MARK = "CrystFEL reflection list version"
END = "End of reflections"
_AXES = {"": "c", "_uaa": "a", "_uab": "b", "_uac": "c"}
#: Point groups of CrystFEL whose unique axis is c, or that have none, by their symmorphic space group.
_GROUPS = {
    "1": "P 1",
    "-1": "P -1",
    "222": "P 2 2 2",
    "mm2": "P m m 2",
    "mmm": "P m m m",
    "4": "P 4",
    "-4": "P -4",
    "4/m": "P 4/m",
    "422": "P 4 2 2",
    "4mm": "P 4 m m",
    "-42m": "P -4 2 m",
    "-4m2": "P -4 m 2",
    "4/mmm": "P 4/m m m",
    "3_R": "R 3:R",
    "-3_R": "R -3:R",
    "32_R": "R 3 2:R",
    "3m_R": "R 3 m:R",
    "-3m_R": "R -3 m:R",
    "3_H": "P 3",
    "-3_H": "P -3",
    "321_H": "P 3 2 1",
    "312_H": "P 3 1 2",
    "3m1_H": "P 3 m 1",
    "31m_H": "P 3 1 m",
    "-3m1_H": "P -3 m 1",
    "-31m_H": "P -3 1 m",
    "6": "P 6",
    "-6": "P -6",
    "6/m": "P 6/m",
    "622": "P 6 2 2",
    "6mm": "P 6 m m",
    "-62m": "P -6 2 m",
    "-6m2": "P -6 m 2",
    "6/mmm": "P 6/m m m",
    "23": "P 2 3",
    "m-3": "P m -3",
    "432": "P 4 3 2",
    "-43m": "P -4 3 m",
    "m-3m": "P m -3 m",
}
_MONOCLINIC = {"2": "2", "m": "m", "2/m": "2/m"}


def read_crystfel_list(path: Path, sample: Sample) -> Merged:
    """The intensities of a list as amplitudes, in the point group that it states; the cell is that of ``sample``.

    The space group of ``sample`` is taken where its Laue class is the list's: it knows the screw axes. Raises FileError
    for a line that is none or a list without its last line, DataError for a point group that is not known here.
    """
    lines = read_text(path).splitlines()
    symmetry = next((line.split(":", 1)[1].strip() for line in lines[:10] if line.startswith("Symmetry:")), "")
    group, notes = _space_group(symmetry, sample, path)
    rows = np.array(list(_rows(lines, path)), dtype=np.float64).reshape(-1, 5)
    if len(rows) == 0:
        raise DataError(str(path), "it holds no reflection", "Check the file")
    observed = Observations(rows[:, :3].astype(np.int64), rows[:, 3], rows[:, 4], group, sample.cell)
    merged = merged_from_observations(observed, path, "I", notes, friedel=_centrosymmetric(symmetry))
    return replace(merged, cell=None)  # the list states none


def _space_group(symmetry: str, sample: Sample, path: Path) -> tuple[str, tuple[str, ...]]:
    name = _group_of(symmetry)
    if name is None:
        raise DataError(
            str(path),
            f"its symmetry {symmetry!r} is no point group that is known here",
            "Merge it with process_hkl or partialator -y and one of their named point groups",
        )
    said = f"a list of CrystFEL in point group {symmetry}"
    theirs = sample.space_group
    if theirs is not None and laue_rotations(theirs) == laue_rotations(name):
        return theirs, (f"{said}, used in the experiment's space group {theirs}",)
    return name, (f"{said}; without a space group its systematic absences are not known",)


def _group_of(symmetry: str) -> str | None:
    stem, mark, axis = symmetry.partition("_ua")
    axis = _AXES.get(mark + axis, "")
    if stem in _MONOCLINIC:
        place = "abc".find(axis) if axis else -1
        return None if place < 0 else "P " + " ".join(_MONOCLINIC[stem] if i == place else "1" for i in range(3))
    return _GROUPS.get(stem) if axis == "c" else None


def _centrosymmetric(symmetry: str) -> bool:
    import gemmi

    name = _group_of(symmetry)
    return name is not None and bool(gemmi.SpaceGroup(name).is_centrosymmetric())


def _rows(lines: list[str], path: Path) -> Iterator[list[float]]:
    """h k l I σ of every line between the headings and the last line."""
    head = next((i for i, line in enumerate(lines) if re.match(r"\s*h\s+k\s+l\s+I\b", line)), None)
    if head is None:
        raise FileError(str(path), "it has no line of headings (h k l I phase sigma(I) nmeas)", "Copy it again")
    for number, line in enumerate(lines[head + 1 :], head + 2):
        if line.startswith(END):
            return
        words = line.split()
        try:
            yield [int(words[0]), int(words[1]), int(words[2]), float(words[3]), float(words[5])]
        except (ValueError, IndexError) as error:
            raise FileError(
                f"{path}, line {number}", f"{line.strip()[:60]!r} is no reflection of CrystFEL", "Repair the line"
            ) from error
    raise FileError(str(path), f"it is cut short: it does not end with {END!r}", "Copy it again")
