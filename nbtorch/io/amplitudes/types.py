"""What every reader of amplitudes returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Cell = tuple[float, float, float, float, float, float]
#: Largest dense grid over the index ranges (grid points) that amplitudes may ask for.
MAX_GRID = 100_000_000


@dataclass(frozen=True, eq=False)
class Merged:
    """The unique amplitudes of a file before expansion: F(+) of hkl, and F(−) of −hkl where the file tells them apart.

    ``hkl`` int64 [n, 3]; ``plus`` and ``minus`` [n] in the file's scale; symmetry as gemmi's extended Hermann–Mauguin
    name; ``cell`` in Å and degrees.
    """

    hkl: NDArray[np.int64]
    plus: NDArray[np.float64]
    minus: NDArray[np.float64] | None
    space_group: str
    cell: Cell | None
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True, eq=False)
class Amplitudes:
    """Structure factor amplitudes of every reflection of the sphere (P1, with Friedel mates).

    ``hkl`` int64 [n, 3] and ``F`` float64 [n], in the file's scale. ``asu_index`` int64 [n] says which of the
    ``n_unique`` symmetry-unique amplitudes an entry came from: entries with the same number share one value. ``notes``
    are sentences for the report: what was converted, chosen or filled in. ``cell`` (Å, degrees) is None for plain text.
    """

    hkl: NDArray[np.int64]
    F: NDArray[np.float64]
    space_group: str
    cell: Cell | None
    asu_index: NDArray[np.int64]
    n_unique: int
    notes: tuple[str, ...]
    path: Path

    def __len__(self) -> int:
        return len(self.F)
