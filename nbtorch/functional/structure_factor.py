"""F(hkl) from a dense table: the nearest reflection, or 4-point Lagrange in three axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from nbtorch.errors import ConfigError


class StructureFactorTable(NamedTuple):
    """Amplitudes ``values`` [nh, nk, nl] (electrons) of the reflections from ``first`` = (h, k, l) upward."""

    values: Tensor
    first: tuple[int, int, int]


def nearest_index(hkl: Tensor) -> Tensor:
    """h₀ [..., 3] as floats. nanoBragg: the nearest index is ceil(x − ½), not round (ties go down)."""
    return torch.ceil(hkl.detach() - 0.5)


def _inside(index: Tensor, table: StructureFactorTable, below: int, above: int) -> Tensor:
    """Whether index − below … index + above [..., 3] lies in the table on all three axes [...]."""
    inside = torch.ones_like(index[..., 0], dtype=torch.bool)
    for axis, (first, count) in enumerate(zip(table.first, table.values.shape, strict=True)):
        position = index[..., axis] - first
        inside = inside & (position >= below) & (position <= count - 1 - above)
    return inside


def _flat_positions(index: Tensor, table: StructureFactorTable) -> Tensor:
    """Positions [...] in the flattened table of integer-valued ``index`` [..., 3]; clamped, so that all are legal."""
    position = torch.zeros_like(index[..., 0], dtype=torch.long)
    for axis, (first, count) in enumerate(zip(table.first, table.values.shape, strict=True)):
        position = position * count + (index[..., axis] - first).clamp(0, count - 1).long()
    return position


def nearest(hkl: Tensor, table: StructureFactorTable, default_F: float) -> Tensor:
    """F [...] of the reflection nearest to ``hkl`` [..., 3]; default_F outside the table."""
    index = nearest_index(hkl)
    values = table.values.reshape(-1)[_flat_positions(index, table)]
    return torch.where(_inside(index, table, 0, 0), values, default_F)


def _lagrange(fraction: Tensor) -> Tensor:
    """Weights [..., 4] of the points −1, 0, 1, 2 at ``fraction`` in [0, 1)."""
    x = fraction
    return torch.stack(
        [
            -x * (x - 1) * (x - 2) / 6,
            (x + 1) * (x - 1) * (x - 2) / 2,
            -(x + 1) * x * (x - 2) / 2,
            (x + 1) * x * (x - 1) / 6,
        ],
        dim=-1,
    )


def _axis_positions(floor: Tensor, table: StructureFactorTable) -> list[Tensor]:
    """Per axis, the offsets [..., 4] into the flattened table of the points floor − 1 … floor + 2; clamped to it."""
    reach = torch.arange(-1, 3, dtype=floor.dtype, device=floor.device)
    positions, stride = [], 1
    for axis in (2, 1, 0):
        first, count = table.first[axis], table.values.shape[axis]
        along = (floor[..., axis, None] + reach - first).clamp(0, count - 1).long()
        positions.append(along * stride)
        stride *= count
    return positions[::-1]


def tricubic(hkl: Tensor, table: StructureFactorTable, default_F: float) -> Tensor:
    """F [...] interpolated at ``hkl`` [..., 3]: where the 4×4×4 neighbourhood lies in the table, else the nearest."""
    floor = torch.floor(hkl.detach())
    flat = table.values.reshape(-1)
    weights = _lagrange(hkl - floor)
    along_h, along_k, along_l = _axis_positions(floor, table)
    total = torch.zeros_like(hkl[..., 0])
    for i in range(4):
        for j in range(4):
            row = flat[(along_h[..., i] + along_k[..., j])[..., None] + along_l]
            total = total + weights[..., 0, i] * weights[..., 1, j] * (row * weights[..., 2, :]).sum(-1)
    return torch.where(_inside(floor, table, 1, 2), total, nearest(hkl, table, default_F))


INTERPOLATIONS: dict[str, Callable[[Tensor, StructureFactorTable, float], Tensor]] = {
    "nearest": nearest,
    "tricubic": tricubic,
}


def structure_factor(hkl: Tensor, table: StructureFactorTable | None, default_F: float, interpolation: str) -> Tensor:
    """F_cell [...] at fractional ``hkl`` [..., 3]; default_F everywhere without a table.

    Raises ConfigError for an unknown interpolation.
    """
    if interpolation not in INTERPOLATIONS:
        known = ", ".join(INTERPOLATIONS)
        raise ConfigError(f"interpolation={interpolation!r}", "it is not a known kind", f"Use one of: {known}")
    if table is None:
        return torch.full_like(hkl[..., 0], default_F)
    return INTERPOLATIONS[interpolation](hkl, table, default_F)
