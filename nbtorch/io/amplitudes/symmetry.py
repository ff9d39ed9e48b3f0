"""Expansion of symmetry-unique amplitudes to P1 with Friedel mates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nbtorch.errors import DataError
from nbtorch.functional.absences import systematic_absences
from nbtorch.io.amplitudes.types import MAX_GRID, Amplitudes, Merged

Ints = NDArray[np.int64]


class UnequalEquivalents(DataError):
    """Reflections that the space group makes equal are listed with different amplitudes."""


def expand(merged: Merged, path: Path) -> Amplitudes:
    """``merged`` expanded to P1: |F(hR)| = |F(h)| for every rotation R of the group, F(−) on the mates.

    What the group forbids becomes 0. Centric reflections and those without an F(−) give both mates one amplitude,
    unless the file lists −h in a row of its own. Raises DataError for index ranges past any real grid, and its
    UnequalEquivalents where symmetry-equivalent reflections are listed with different values (unmerged data).
    """
    check_range(merged.hkl, path)
    merged = _without_absences(merged)
    rotations = rotation_matrices(merged.space_group)
    minus, minus_index = _mates(merged)
    turned = np.concatenate([merged.hkl @ rotation for rotation in rotations])
    wanted = np.ones(len(turned), dtype=bool)
    if merged.minus is None:
        both = pack(np.concatenate([turned, -turned]))
        wanted = ~np.isin(both[len(turned) :], both[: len(turned)])
    copies = len(rotations)
    return _unique(
        np.concatenate([turned, -turned[wanted]]),
        np.concatenate([np.tile(merged.plus, copies), np.tile(minus, copies)[wanted]]),
        np.concatenate([np.tile(np.arange(len(merged.hkl)), copies), np.tile(minus_index, copies)[wanted]]),
        merged,
        path,
    )


def _without_absences(merged: Merged) -> Merged:
    """``merged`` with 0 for the reflections that centring, screw axes and glide planes forbid, said and counted."""
    absent = systematic_absences(merged.hkl, merged.space_group)
    shining = int((absent & (merged.plus != 0)).sum())
    if not shining:
        return merged
    minus = None if merged.minus is None else np.where(absent, 0.0, merged.minus)
    note = f"{shining} amplitudes that {merged.space_group} forbids became 0"
    return replace(merged, plus=np.where(absent, 0.0, merged.plus), minus=minus, notes=(*merged.notes, note))


def rotation_matrices(space_group: str) -> list[Ints]:
    """The distinct rotations R [3, 3] of a group, acting on rows: h' = h·R."""
    operations = _group(space_group).operations()
    matrices = {tuple(np.array(op.rot).ravel() // op.DEN): None for op in operations.sym_ops}
    return [np.array(matrix, dtype=np.int64).reshape(3, 3) for matrix in matrices]


def laue_rotations(space_group: str) -> frozenset[tuple[int, ...]]:
    """The rotations of the Laue class in the setting of the group: those of the group and their inverses through 0."""
    rotations = rotation_matrices(space_group)
    return frozenset(tuple(int(x) for x in (sign * r).ravel()) for r in rotations for sign in (1, -1))


def centric(hkl: Ints, space_group: str) -> NDArray[np.bool_]:
    """Which reflections [n] have phases restricted by symmetry, so that F(+) = F(−)."""
    flags = _group(space_group).operations().centric_flag_array(hkl.astype(np.int32))
    return np.asarray(flags, dtype=np.bool_)


def check_range(hkl: Ints, path: Path) -> None:
    """Raises DataError when a dense grid over the index ranges, with Friedel mates, has more than MAX_GRID points."""
    if len(hkl) == 0:
        raise DataError(str(path), "it holds no amplitude", "Check the file")
    points = np.prod(2.0 * np.abs(hkl).max(axis=0) + 1)
    if points > MAX_GRID:
        h, k, l = np.abs(hkl).max(axis=0)  # noqa: E741
        raise DataError(
            str(path),
            f"its indices reach {h} {k} {l}, a grid of {points:.2g} points (at most {MAX_GRID:.0e})",
            "Check the index columns, or cut the resolution",
        )


def pack(hkl: Ints) -> Ints:
    """One integer [n] for each index triple; distinct within the range that check_range allows."""
    reach = np.abs(hkl).max(axis=0) if len(hkl) else np.zeros(3, dtype=np.int64)
    width = 2 * reach + 1
    return np.asarray(((hkl[:, 0] + reach[0]) * width[1] + hkl[:, 1] + reach[1]) * width[2] + hkl[:, 2] + reach[2])


def _group(space_group: str):  # type: ignore[no-untyped-def]
    import gemmi

    return gemmi.SpaceGroup(space_group)


def _mates(merged: Merged) -> tuple[NDArray[np.float64], Ints]:
    """The amplitude of −hkl [n], and the number of the unique amplitude it is."""
    n = len(merged.hkl)
    own = np.arange(n)
    if merged.minus is None:
        return merged.plus, own
    restricted = centric(merged.hkl, merged.space_group)
    return np.where(restricted, merged.plus, merged.minus), np.where(restricted, own, own + n)


def _unique(hkl: Ints, values: NDArray[np.float64], source: Ints, merged: Merged, path: Path) -> Amplitudes:
    _, first, inverse = np.unique(pack(hkl), return_index=True, return_inverse=True)
    chosen = values[first]
    # float32 columns differ by rounding after a program reindexed them; 1e-4 is far below any measurement.
    conflict = np.abs(values - chosen[inverse]) > 1e-4 * np.abs(values).max()
    if conflict.any():
        where = np.flatnonzero(conflict)[0]
        triple = " ".join(str(x) for x in hkl[where])
        raise UnequalEquivalents(
            str(path),
            f"under {merged.space_group} it lists {triple} more than once, as {values[where]:g} and "
            f"{chosen[inverse][where]:g} ({int(conflict.sum())} entries disagree)",
            "Merge symmetry-equivalent reflections first, or correct the space group",
        )
    used, asu_index = np.unique(_one_source(source, inverse, len(first))[first], return_inverse=True)
    return Amplitudes(
        hkl=hkl[first],
        F=chosen,
        space_group=merged.space_group,
        cell=merged.cell,
        asu_index=asu_index.astype(np.int64),
        n_unique=len(used),
        notes=merged.notes,
        path=path,
        column=merged.column,
        dropped=merged.dropped,
    )


def _one_source(source: Ints, key: Ints, n_keys: int) -> Ints:
    """``source`` with one number for all that share a reflection: a file may list two equivalents of equal value.

    Orbits are equal or disjoint, so the smallest number met anywhere on an orbit names it.
    """
    smallest_at_key = np.full(n_keys, source.max())
    np.minimum.at(smallest_at_key, key, source)
    smallest_of_source = np.full(int(source.max()) + 1, source.max())
    np.minimum.at(smallest_of_source, source, smallest_at_key[key])
    return np.asarray(smallest_of_source[source], dtype=np.int64)
