"""What the lattice says of the indices: symmetries that the crystal has not, a cell that leaves its own, centrings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import gemmi
import numpy as np
from scipy.stats import binom

from nbtorch.config import CrystalConfig
from refine.indexing.lattice_view import Floats, Ints

_OBLIQUITY = 1.0  # degrees up to which axes count as symmetry axes of a lattice (Le Page)
_ALMOST_ALL = 0.98  # of the spots, for a condition: a few strays do not satisfy it
Cell = tuple[float, float, float, float, float, float]


def turns(crystal: CrystalConfig) -> list[tuple[str, Ints]]:
    """Symmetries of the lattice that are none of the crystal's: triplet, and matrix [3, 3] that acts on indices [3].

    One of each coset: the others differ by a symmetry of the crystal.
    """
    group = gemmi.SpaceGroup(crystal.space_group)
    found = gemmi.find_twin_laws(gemmi.UnitCell(*crystal.cell), group, _OBLIQUITY, False)
    return [(law.as_hkl().triplet(), _matrix(law)) for law in found]


def _matrix(law: gemmi.Op) -> Ints:
    return np.array([law.apply_to_hkl([int(i == j) for j in range(3)]) for i in range(3)], dtype=np.int64).T


def departure(start: CrystalConfig, cell: Sequence[float]) -> float | None:
    """How far ``cell`` is from the lattice symmetry that the cell of ``start`` has beyond its crystal system's.

    The largest of relative differences of lengths and of angles (radians) from the mean over the symmetry; None where
    the cell has no more symmetry than its space group asks for.
    """
    group = gemmi.SpaceGroup(start.space_group)
    ops = gemmi.find_lattice_symmetry(gemmi.UnitCell(*start.cell), group.hm[0], _OBLIQUITY)
    given = _against_mean(start.cell, ops)
    if len(ops) <= len(group.operations().derive_symmorphic()) // len(group.operations().cen_ops) or given is None:
        return None
    return _against_mean(cell, ops)


def _against_mean(cell: Sequence[float], ops: gemmi.GroupOps) -> float | None:
    metric = _metric(cell)
    turned = [_rotation(op) for op in ops.sym_ops]
    mean = np.mean([m.T @ metric @ m for m in turned], axis=0)
    lengths, wanted = np.sqrt(np.diag(metric)), np.sqrt(np.diag(mean))
    angles = _angles(metric) - _angles(mean)
    return float(max(np.abs(lengths / wanted - 1).max(), np.abs(angles).max()))


def _rotation(op: gemmi.Op) -> Floats:
    return np.array(op.rot, dtype=np.float64) / op.DEN


def _metric(cell: Sequence[float]) -> Floats:
    a, b, c, *angles = cell
    cos = np.cos(np.deg2rad(angles))
    return np.array([[a * a, a * b * cos[2], a * c * cos[1]], [a * b * cos[2], b * b, b * c * cos[0]],
                     [a * c * cos[1], b * c * cos[0], c * c]])  # fmt: skip


def _angles(metric: Floats) -> Floats:
    lengths = np.sqrt(np.diag(metric))
    cos = metric / lengths[:, None] / lengths
    return np.asarray(np.arccos([cos[1, 2], cos[0, 2], cos[0, 1]]))


def sublattice(hkl: Ints, space_group: str) -> tuple[str, float] | None:
    """A condition that nearly all indices [n, 3] satisfy though the space group's centring does not ask for it, and how
    likely that is by chance; None where there is none. The least likely one."""
    if not len(hkl):
        return None
    conditions = _conditions()
    found = []
    for words, weights, modulus in conditions:
        if _asked_for(space_group, weights, modulus):
            continue
        count = int(((hkl @ weights) % modulus == 0).sum())
        chance = min(1.0, len(conditions) * float(binom.sf(count - 1, len(hkl), 1 / modulus)))
        if count >= _ALMOST_ALL * len(hkl):
            found.append((words, chance))
    return min(found, key=lambda pair: pair[1], default=None)


def _conditions() -> list[tuple[str, Ints, int]]:
    """(words, weights [3], modulus) of the sublattices of index 2 and 3: weights·(h, k, l) divisible by the modulus."""
    rows = []
    for modulus in (2, 3):
        for weights in itertools.product(range(modulus), repeat=3):
            first = next((value for value in weights if value), 0)
            if first == 1:  # of each condition and its multiples one
                terms = [("" if w == 1 else str(w)) + name for w, name in zip(weights, "hkl", strict=True) if w]
                words = f"{' + '.join(terms)} {'even' if modulus == 2 else 'divisible by 3'}"
                rows.append((words, np.array(weights, dtype=np.int64), modulus))
    return rows


def _asked_for(space_group: str, weights: Ints, modulus: int) -> bool:
    """Whether every reflection of general indices that ``space_group`` allows satisfies the condition."""
    grid = np.array(list(itertools.product(range(5, 11), repeat=3)), dtype=np.int32)
    absent = gemmi.SpaceGroup(space_group).operations().systematic_absences(grid)
    return bool(((grid[~np.asarray(absent, dtype=bool)] @ weights) % modulus == 0).all())


def mean_scale(starts: Sequence[Sequence[float]], ends: Sequence[Sequence[float]]) -> float | None:
    """Mean relative change of the lengths of several cells."""
    changes = [math.log(end[i] / start[i]) for start, end in zip(starts, ends, strict=True) for i in range(3)]
    return math.expm1(sum(changes) / len(changes)) if changes else None
