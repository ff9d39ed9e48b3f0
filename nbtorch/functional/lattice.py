"""The lattice factor F_latt of a parallelepiped or rounded crystal: five shapes, one signature.

Every shape takes δ = h − h₀ (``offset``: [..., 3], fractional Miller index minus the nearest reflection) and never h
itself: near an integer the difference is what carries the digits, and for integer N the square is the same
(docs/physics.md §3.4).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from nbtorch.errors import ConfigError

ROUND_SCALE = 0.723601254558268  # nanoBragg's, makes a ball's peak that of the cube it fits
GAUSS_WIDTH = 0.63
TOPHAT_EDGE = 0.3969  # = 0.63²
_SERIES_BELOW = 0.1  # |y|: below it sin(y)/y is summed, so that value and derivative keep all digits
_SERIES_BELOW_3 = 0.25  # y², likewise for sinc3


def sinc(y: Tensor) -> Tensor:
    """sin(y)/y [...], smooth through y = 0 in value and derivative."""
    small = y.abs() < _SERIES_BELOW
    u = torch.where(small, y * y, 0)
    series = 1 + u * (-1 / 6 + u * (1 / 120 + u * (-1 / 5040 + u / 362880)))
    safe = torch.where(small, 1, y)  # a `where` over 0/0 would give NaN gradients
    return torch.where(small, series, torch.sin(safe) / safe)


def sinc3(y_squared: Tensor) -> Tensor:
    """3(sin y/y − cos y)/y² [...] as a function of y², smooth through 0: the transform of a ball, 1 at the centre."""
    small = y_squared < _SERIES_BELOW_3
    u = torch.where(small, y_squared, 0)
    series = torch.zeros_like(u)
    for k in range(8, -1, -1):  # Σ (−1)^k · 3(2k+2)/(2k+3)! · u^k; the ninth term is under 1e-21
        series = series * u + (-1) ** k * 3 * (2 * k + 2) / math.factorial(2 * k + 3)
    safe = torch.where(small, 1, y_squared)
    y = torch.sqrt(safe)
    return torch.where(small, series, 3 * (torch.sin(y) / y - torch.cos(y)) / safe)


def interference(offset: Tensor, n_cells: Tensor) -> Tensor:
    """sin(πNδ)/sin(πδ) per axis [..., 3]: N at δ = 0; 1 on an axis of N ≤ 1, which nanoBragg leaves out."""
    ratio = n_cells * sinc(math.pi * n_cells * offset) / sinc(math.pi * offset)
    return torch.where(n_cells > 1, ratio, 1)


def radius_squared(offset: Tensor, metric: Tensor) -> Tensor:
    """ρ² = δᵀ·metric·δ [...] of ``offset`` [..., 3] under ``metric`` [3, 3]."""
    return (offset @ metric * offset).sum(-1)


def square(offset: Tensor, n_cells: Tensor, metric: Tensor) -> Tensor:
    """Product of the three interference functions [...]."""
    return interference(offset, n_cells).prod(-1)


def round_(offset: Tensor, n_cells: Tensor, metric: Tensor) -> Tensor:
    """A ball's transform [...]: Na·Nb·Nc·0.7236·sinc3(π√ρ²)."""
    return n_cells.prod() * ROUND_SCALE * sinc3(math.pi**2 * radius_squared(offset, metric))


def gaussian(offset: Tensor, n_cells: Tensor, metric: Tensor) -> Tensor:
    """Na·Nb·Nc·exp(−ρ²/0.63) [...]; gauss and gauss_hkl differ in their metric alone."""
    return n_cells.prod() * torch.exp(-radius_squared(offset, metric) / GAUSS_WIDTH)


def tophat(offset: Tensor, n_cells: Tensor, metric: Tensor) -> Tensor:
    """Na·Nb·Nc inside ρ² < 0.3969, else 0 [...]. Its geometric gradient is zero almost everywhere."""
    return n_cells.prod() * (radius_squared(offset, metric) < TOPHAT_EDGE)


SHAPES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "square": square,
    "round": round_,
    "gauss": gaussian,
    "tophat": tophat,
    "gauss_hkl": gaussian,
}


def lattice_factor(shape: str, offset: Tensor, n_cells: Tensor, metric: Tensor) -> Tensor:
    """F_latt [...] of ``shape`` at ``offset`` [..., 3]. Raises ConfigError for an unknown shape."""
    if shape not in SHAPES:
        raise ConfigError(f"shape={shape!r}", "it is not a known shape", f"Use one of: {', '.join(SHAPES)}")
    return SHAPES[shape](offset, n_cells, metric)


def shape_metric(shape: str, n_cells: Tensor, reciprocal: Tensor, fudge: float) -> Tensor:
    """The metric [3, 3] of ρ² = δᵀ·metric·δ that ``shape`` sees, from N [3] and the rows a*, b*, c* [3, 3] (Å⁻¹).

    diag(N²) for round and gauss_hkl, (Na·Nb·Nc)²·A*A*ᵀ for gauss and tophat, both times fudge; square ignores it.
    """
    if shape in ("gauss", "tophat"):
        return fudge * n_cells.prod() ** 2 * (reciprocal @ reciprocal.transpose(-1, -2))
    return fudge * torch.diag(n_cells**2)
