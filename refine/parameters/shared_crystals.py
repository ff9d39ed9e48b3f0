"""Experiments of one crystal: they have its orientation, cell and shape in common, and scales of their own."""

from __future__ import annotations

from collections.abc import Sequence

from refine.parameters.parameter_set import Parameter
from refine.parameters.restraints import merged


def of_shared_crystals(rows: Sequence[Parameter], groups: Sequence[Sequence[int]]) -> list[Parameter]:
    """``rows`` with one parameter in place of those that several experiments have of one crystal.

    ``groups``: numbers of experiments that share a crystal. The first experiment's name stays; knots of curves are
    shared where they stand at one angle.
    """
    leader = {number: group[0] for group in groups for number in group}
    alike: dict[tuple[int, str], list[Parameter]] = {}
    for row in rows:
        if row.block in leader and not row.name.endswith(".scale"):
            alike.setdefault((leader[row.block], _of_crystal(row)), []).append(row)
    first = {id(same[0]): merged(same) for same in alike.values()}
    dropped = {id(row) for same in alike.values() for row in same[1:]}
    return [first.get(id(row), row) for row in rows if id(row) not in dropped]


def _of_crystal(row: Parameter) -> str:
    """The parameter's name without the number of its crystal."""
    return row.name.removeprefix(f"crystal[{row.block}].")
