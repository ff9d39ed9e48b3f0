"""Structure factors: a dense table of refinable amplitudes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from nbtorch.errors import DataError
from nbtorch.functional.absences import Listing, systematic_absences
from nbtorch.functional.structure_factor import StructureFactorTable

MAX_TABLE = 10**8  # entries: 800 MB; a table that large means a wild index, not a crystal


class StructureFactors(nn.Module):
    """F(hkl) on a dense grid, tied to a list of unique amplitudes.

    Parameters: ``amplitudes`` [U] (electrons, or any unit), ``default_F`` is fixed. ``group`` says which amplitude
    each of the n reflections ``hkl`` [n, 3] takes (Friedel and symmetry mates share one); without it each has its own.
    Without reflections every F is default_F. In ``space_group`` the systematic absences between the reflections are 0;
    beyond them the renderer takes default_F. Raises DataError for an index range beyond 1e8 grid points.
    """

    lookup: Tensor

    def __init__(
        self,
        hkl: np.ndarray | None = None,
        amplitudes: np.ndarray | None = None,
        *,
        group: np.ndarray | None = None,
        default_F: float = 0.0,
        space_group: str = "P 1",
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.default_F, self.space_group = float(default_F), space_group
        index = np.zeros((0, 3), dtype=int) if hkl is None else np.asarray(hkl, dtype=int)
        values = np.zeros(0) if amplitudes is None else np.asarray(amplitudes, dtype=float)
        slot = np.arange(len(index)) if group is None else np.asarray(group, dtype=int)
        self.first, self.shape = _grid(index)
        if len(index):
            unique = np.zeros(slot.max() + 1)
            unique[slot] = values
            values = unique
        self.amplitudes = nn.Parameter(torch.as_tensor(values, dtype=dtype, device=device))
        shape = self.shape or (1, 1, 1)
        # table() puts default_F after the amplitudes, and then the 0 of what symmetry forbids.
        lookup = np.full(int(np.prod(shape)), len(values))
        lookup[_absences_on_grid(self.first, self.shape, space_group)] = len(values) + 1
        lookup[np.ravel_multi_index(tuple((index - np.array(self.first)).T), shape)] = slot
        self.register_buffer("lookup", torch.as_tensor(lookup, device=device))

    def table(self) -> StructureFactorTable | None:
        """The dense table, prefilled with default_F; None without reflections."""
        if self.shape is None:
            return None
        one = self.amplitudes[:1]
        values = torch.cat([self.amplitudes, torch.full_like(one, self.default_F), torch.zeros_like(one)])
        return StructureFactorTable(values.index_select(0, self.lookup).reshape(self.shape), self.first)

    @torch.no_grad()
    def slots(self, hkl: Tensor) -> Tensor:
        """Which amplitude each reflection ``hkl`` [n, 3] (whole numbers) takes [n]; −1 for default_F or an absence."""
        if self.shape is None:
            return torch.full(hkl.shape[:1], -1, dtype=torch.long, device=hkl.device)
        place = hkl.long() - torch.tensor(self.first, device=hkl.device)
        size = torch.tensor(self.shape, device=hkl.device)
        inside = ((place >= 0) & (place < size)).all(1)
        h, k, l = torch.where(inside[:, None], place, 0).unbind(1)  # noqa: E741
        found = self.lookup[(h * self.shape[1] + k) * self.shape[2] + l]
        return torch.where(inside & (found < len(self.amplitudes)), found, -1)

    @torch.no_grad()
    def listing(self, hkl: Tensor) -> Tensor:
        """What is known of each reflection ``hkl`` [n, 3] (whole numbers), as values of ``Listing`` [n] (int64).

        LISTED: it takes an amplitude. ABSENT: the space group makes it zero. UNLISTED: nobody measured it, or it lies
        beyond the list; the table holds default_F for it, which is an invention. Without reflections all are LISTED.
        """
        if self.shape is None:
            return torch.full(hkl.shape[:1], int(Listing.LISTED), dtype=torch.long, device=hkl.device)
        known = torch.where(self.slots(hkl) >= 0, int(Listing.LISTED), int(Listing.UNLISTED))
        forbidden = systematic_absences(hkl.detach().cpu().numpy(), self.space_group)
        return torch.where(torch.as_tensor(forbidden, device=hkl.device), int(Listing.ABSENT), known)

    def directions(self, along: Tensor) -> Tensor:
        """How the table moves [C, nh, nk, nl] when the amplitudes move ``along`` [C, U]. It is linear in them."""
        assert self.shape is not None
        still = along.new_zeros(len(along), 2)
        return torch.cat([along, still], dim=1).index_select(1, self.lookup).reshape(-1, *self.shape)


def _absences_on_grid(first: tuple[int, int, int], shape: tuple[int, int, int] | None, space_group: str) -> np.ndarray:
    """Positions [m] in the flattened table of what ``space_group`` forbids."""
    if shape is None or space_group == "P 1":
        return np.zeros(0, dtype=int)
    found = []
    for h in range(shape[0]):  # one plane at a time: the indices of a whole table would take 24 bytes a point
        k, l = np.divmod(np.arange(shape[1] * shape[2]), shape[2])  # noqa: E741
        plane = np.column_stack([np.full_like(k, h), k, l]) + np.array(first)
        found.append(np.flatnonzero(systematic_absences(plane, space_group)) + h * shape[1] * shape[2])
    return np.concatenate(found)


def _grid(index: np.ndarray) -> tuple[tuple[int, int, int], tuple[int, int, int] | None]:
    """The first (h, k, l) and the shape of a dense table over ``index`` [n, 3]; no shape where there is nothing."""
    if len(index) == 0:
        return (0, 0, 0), None
    low, high = index.min(0), index.max(0)
    shape = high - low + 1
    if shape.astype(float).prod() > MAX_TABLE:
        raise DataError(
            f"reflections from {low.tolist()} to {high.tolist()}",
            f"a dense table over them has more than {MAX_TABLE:.0e} entries",
            "Look for a reflection with a wild index, or cut the resolution",
        )
    return (int(low[0]), int(low[1]), int(low[2])), (int(shape[0]), int(shape[1]), int(shape[2]))
