"""Normal equations of a joint fit whose blocks share some parameters: arrow-shaped, solved by a Schur complement.

Cost grows linearly with the number of blocks: a block's own parameters are eliminated before the shared ones are
solved for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from refine.processes import gathered, total


class BlockNormal(NamedTuple):
    """Gauss–Newton matrix and gradient of one block over (shared, local) parameters."""

    matrix: Tensor  # [S + L, S + L] JᵀWJ
    gradient: Tensor  # [S + L] JᵀW(y − µ)


class Arrow(NamedTuple):
    """The joint problem: the shared part and each block's own and mixed parts."""

    shared: Tensor  # [S, S]
    shared_gradient: Tensor  # [S]
    mixed: tuple[Tensor, ...]  # [S, L_b]
    local: tuple[Tensor, ...]  # [L_b, L_b]
    local_gradient: tuple[Tensor, ...]  # [L_b]
    blocks: tuple[int, ...]  # the numbers of the blocks


def assemble(blocks: Sequence[BlockNormal], n_shared: int, numbers: Sequence[int] | None = None) -> Arrow:
    """The arrow-shaped system of ``blocks``, which are those of ``numbers``, or 0, 1, 2 …"""
    s = n_shared
    return Arrow(
        sum((block.matrix[:s, :s] for block in blocks), start=torch.zeros(s, s, dtype=torch.float64)),
        sum((block.gradient[:s] for block in blocks), start=torch.zeros(s, dtype=torch.float64)),
        tuple(block.matrix[:s, s:] for block in blocks),
        tuple(block.matrix[s:, s:] for block in blocks),
        tuple(block.gradient[s:] for block in blocks),
        tuple(range(len(blocks)) if numbers is None else numbers),
    )


def joint(arrow: Arrow) -> Arrow:
    """The system of the blocks of all processes, where ``arrow`` is that of this one's."""
    own = zip(arrow.mixed, arrow.local, arrow.local_gradient, strict=True)
    parts = gathered(dict(zip(arrow.blocks, own, strict=True)))
    mixed, local, gradient = zip(*parts.values(), strict=True) if parts else ((), (), ())
    return Arrow(total(arrow.shared), total(arrow.shared_gradient), mixed, local, gradient, tuple(parts))


def inverse_of(matrix: Tensor) -> Tensor:
    """Inverse of a positive definite matrix, by Cholesky on the matrix scaled to a unit diagonal."""
    if matrix.numel() == 0:
        return matrix
    root = matrix.diagonal().clamp(min=1e-300).rsqrt()
    scaled = matrix * root[:, None] * root[None, :]
    eye = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    factor, failed = torch.linalg.cholesky_ex(scaled)
    if int(failed):
        factor = torch.linalg.cholesky(scaled + 1e-9 * eye)
    return torch.cholesky_inverse(factor) * root[:, None] * root[None, :]


def solve_arrow(arrow: Arrow) -> tuple[Tensor, list[Tensor]]:
    """The step of the shared parameters [S] and of each block's own [L_b]."""
    inverses = [inverse_of(local) for local in arrow.local]
    reduced, gradient = arrow.shared.clone(), arrow.shared_gradient.clone()
    for mixed, inverse, own in zip(arrow.mixed, inverses, arrow.local_gradient, strict=True):
        reduced = reduced - mixed @ inverse @ mixed.T
        gradient = gradient - mixed @ inverse @ own
    shared = inverse_of(reduced) @ gradient
    parts = zip(arrow.mixed, inverses, arrow.local_gradient, strict=True)
    return shared, [inverse @ (own - mixed.T @ shared) for mixed, inverse, own in parts]


def add_diagonal(arrow: Arrow, shared: Tensor, local: Sequence[Tensor]) -> Arrow:
    """``arrow`` with numbers added to its diagonal: [S], and [L_b] of each block."""
    return arrow._replace(
        shared=arrow.shared + torch.diag(shared),
        local=tuple(matrix + torch.diag(extra) for matrix, extra in zip(arrow.local, local, strict=True)),
    )
