"""What every reader of amplitudes returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nbtorch.functional.absences import Listing, systematic_absences

Cell = tuple[float, float, float, float, float, float]
#: Largest dense grid over the index ranges (grid points) that amplitudes may ask for.
MAX_GRID = 100_000_000
#: Largest relative difference of a cell length or angle of one crystal in two files.
CELL_TOLERANCE = 0.02
Radiation = Literal["x-ray", "electron"]
#: Below this wavelength (Å) a beam is of electrons: X-rays of 124 keV and more diffract nowhere that frames come from.
ELECTRON_WAVELENGTH = 0.1


def cell_difference(cell: Sequence[float], other: Sequence[float]) -> tuple[float, ...]:
    """The relative difference of each length and angle of two cells [6]."""
    return tuple(abs(x / y - 1) for x, y in zip(cell, other, strict=True))


@dataclass(frozen=True)
class Sample:
    """What the experiment knows and an amplitude file may leave out: cell (Å, degrees), space group, radiation.

    ``radiation`` None: that of the ``wavelength`` (Å), electrons below 0.1 Å; X-rays where neither is known.
    """

    cell: Cell | None = None
    space_group: str | None = None
    wavelength: float | None = None
    radiation: Radiation | None = None

    @property
    def scattered(self) -> Radiation:
        """What is scattered: the radiation stated, else what the wavelength says."""
        if self.radiation is not None:
            return self.radiation
        return "electron" if self.wavelength is not None and self.wavelength < ELECTRON_WAVELENGTH else "x-ray"


@dataclass(frozen=True)
class ColumnChoice:
    """Which column of a file became the amplitudes: its label, its standard deviations', and what it held.

    ``mate`` is the column of the Friedel mates, ``dataset`` the crystal and data set that it belongs to, and
    ``alternatives`` the labels that ``column=`` would also take.
    """

    label: str
    kind: Literal["amplitudes", "intensities"]
    sigma: str | None = None
    mate: str | None = None
    dataset: str = ""
    alternatives: tuple[str, ...] = ()


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
    column: ColumnChoice | None = None
    dropped: int = 0


@dataclass(frozen=True, eq=False)
class Amplitudes:
    """Structure factor amplitudes of every reflection of the sphere (P1, with Friedel mates).

    ``hkl`` int64 [n, 3] and ``F`` float64 [n], in the file's scale. ``asu_index`` int64 [n] says which of the
    ``n_unique`` symmetry-unique amplitudes an entry came from: entries with the same number share one value. ``notes``
    are sentences for the report: what was converted, chosen or filled in. ``cell`` (Å, degrees) is None for plain text.
    ``column`` says which column was read, where the file names any; ``dropped`` rows of the file held no value.
    """

    hkl: NDArray[np.int64]
    F: NDArray[np.float64]
    space_group: str
    cell: Cell | None
    asu_index: NDArray[np.int64]
    n_unique: int
    notes: tuple[str, ...]
    path: Path
    column: ColumnChoice | None = None
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.F)

    def listing(self, hkl: NDArray[np.int64]) -> NDArray[np.int64]:
        """What is known of each reflection ``hkl`` [n, 3], as values of ``Listing`` [n].

        LISTED: ``F`` holds it. ABSENT: the space group makes it zero (centring, screw axes, glide planes). UNLISTED:
        the file does not hold it for another reason; its amplitude is unknown.
        """
        wanted = np.asarray(hkl, dtype=np.int64).reshape(-1, 3)
        present = _among(wanted, self.hkl)
        known = np.where(present, int(Listing.LISTED), int(Listing.UNLISTED))
        return np.where(systematic_absences(wanted, self.space_group), int(Listing.ABSENT), known)

    def resolution(self, cell: Cell | None = None) -> tuple[float, float] | None:
        """The largest and smallest spacing d (Å) of the list in ``cell``, by default its own; None without a cell."""
        cell = cell or self.cell
        measured = self.hkl[(self.hkl != 0).any(axis=1)]
        if cell is None or len(measured) == 0:
            return None
        import gemmi

        d = gemmi.UnitCell(*cell).calculate_d_array(measured.astype(np.int32))
        return float(np.max(d)), float(np.min(d))


def _among(wanted: NDArray[np.int64], listed: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which rows of ``wanted`` [n, 3] are rows of ``listed`` [m, 3]."""
    reach = np.abs(listed).max(axis=0, initial=0)
    inside = (np.abs(wanted) <= reach).all(axis=1)
    _, width, depth = 2 * reach + 1
    step = np.array([width * depth, depth, 1])
    return np.asarray(inside & np.isin(wanted @ step, listed @ step))
