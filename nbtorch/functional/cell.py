"""Cell ↔ basis. A basis [3, 3] has rows a, b, c (Å) or a*, b*, c* (Å⁻¹); a* lies along x, b* in the xy plane."""

from __future__ import annotations

import torch
from torch import Tensor


def volume(cell: Tensor) -> Tensor:
    """V [...] (Å³) of ``cell`` [..., 6]: a b c (Å), α β γ (radians)."""
    cosines = torch.cos(cell[..., 3:])
    return cell[..., :3].prod(-1) * torch.sqrt(1 - (cosines**2).sum(-1) + 2 * cosines.prod(-1))


def reciprocal_cell(cell: Tensor) -> tuple[Tensor, Tensor]:
    """Lengths (Å⁻¹) and cosines of the angles [..., 3] of the reciprocal cell of ``cell`` [..., 6] (Å, radians)."""
    sines, cosines = torch.sin(cell[..., 3:]), torch.cos(cell[..., 3:])
    lengths = cell[..., :3].prod(-1, keepdim=True) / cell[..., :3] * sines / volume(cell)[..., None]
    other = cosines.roll(1, -1) * cosines.roll(-1, -1)  # cos β cos γ, cos γ cos α, cos α cos β
    return lengths, (other - cosines) / (sines.roll(1, -1) * sines.roll(-1, -1))


def _standard_reciprocal(cell: Tensor, c_star_z: Tensor) -> Tensor:
    """Rows a*, b*, c* [..., 3, 3] in the standard setting, with the z component of c* [...] as given."""
    (a, b, c), (cos_alpha, cos_beta, cos_gamma) = (values.unbind(-1) for values in reciprocal_cell(cell))
    sin_gamma = torch.sqrt(1 - cos_gamma**2)
    zero = torch.zeros_like(a)
    rows = [
        torch.stack([a, zero, zero], dim=-1),
        torch.stack([b * cos_gamma, b * sin_gamma, zero], dim=-1),
        torch.stack([c * cos_beta, c * (cos_alpha - cos_beta * cos_gamma) / sin_gamma, c_star_z], dim=-1),
    ]
    return torch.stack(rows, dim=-2)


def dual(basis: Tensor) -> Tensor:
    """The rows [..., 3, 3] dual to ``basis``: direct ↔ reciprocal vectors, x_i · dual_j = δ_ij."""
    a, b, c = basis.unbind(-2)
    rows = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], dim=-2)
    return rows / (a * rows[..., 0, :]).sum(-1)[..., None, None]


def exact_vectors(cell: Tensor) -> tuple[Tensor, Tensor]:
    """(a, b, c) and (a*, b*, c*), [..., 3, 3] each, of ``cell`` [..., 6] (Å, radians): the cell asked for is the one
    got."""
    reciprocal = _standard_reciprocal(cell, 1 / cell[..., 2])
    return dual(reciprocal), reciprocal


def nanobragg_vectors(cell: Tensor) -> tuple[Tensor, Tensor]:
    """(a, b, c) and (a*, b*, c*), [..., 3, 3] each, as nanoBragg makes them, wrong unless α = β = 90°.

    nanoBragg: c*_z = |c*|·V/(a·b·c·sin γ*); the direct vectors are rebuilt from the stars and rescaled to the lengths
    given; the stars are then rebuilt with the original V, so that a·a* is not 1 (docs/physics.md §3.1).
    """
    lengths, cosines = reciprocal_cell(cell)
    v = volume(cell)
    base = cell[..., :3].prod(-1) * torch.sqrt(1 - cosines[..., 2] ** 2)
    direct = dual(_standard_reciprocal(cell, lengths[..., 2] * v / base))
    direct = direct * (cell[..., :3] / direct.norm(dim=-1))[..., None]
    a, b, c = direct.unbind(-2)
    rows = [torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)]
    return direct, torch.stack(rows, dim=-2) / v[..., None, None]


CONSTRUCTIONS = {"exact": exact_vectors, "nanobragg": nanobragg_vectors}


def cell_of(basis: Tensor) -> Tensor:
    """The cell [6] (Å, radians) of the rows a, b, c of ``basis`` [3, 3]."""
    lengths = basis.norm(dim=-1)
    directions = basis / lengths[:, None]
    cosines = (directions.roll(1, 0) * directions.roll(-1, 0)).sum(-1)  # b·c, c·a, a·b
    return torch.cat([lengths, torch.acos(cosines.clamp(-1, 1))])
