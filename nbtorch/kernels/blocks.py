"""The reference lattice sum in blocks of samples, so that its memory is bounded in forward and backward."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nbtorch.config import LatticeSettings
from nbtorch.functional.structure_factor import StructureFactorTable
from nbtorch.kernels import reference

BLOCK_BYTES = 256 * 2**20
# Tensors of [P, S, K] elements that are alive at once, counted for the square shape with its gradient
TENSORS_ALIVE = {"nearest": 80, "tricubic": 600}


def block_length(n_sources: int, n_orientations: int, element_bytes: int, interpolation: str) -> int:
    """How many samples fit in a block; at least one."""
    per_sample = n_sources * n_orientations * element_bytes * TENSORS_ALIVE[interpolation]
    return max(1, BLOCK_BYTES // max(1, per_sample))


def _recomputes() -> bool:
    """Whether to store nothing and recompute in the backward. ``torch.func`` does not know recomputation."""
    return torch.is_grad_enabled() and torch._C._functorch.peek_interpreter_stack() is None


def lattice_sum(
    diffracted: Tensor,
    incident: Tensor,
    wavelength: Tensor,
    basis: Tensor,
    n_cells: Tensor,
    metric: Tensor,
    table: StructureFactorTable | None,
    weight: Tensor,
    settings: LatticeSettings,
) -> Tensor:
    """:func:`nbtorch.kernels.reference.lattice_sum` block by block; memory O(P·S) and one block's O(P·S·K)."""
    length = block_length(len(incident), len(basis), diffracted.element_size(), settings.interpolation)
    rest = (incident, wavelength, basis, n_cells, metric, table, weight, settings)
    if len(diffracted) <= length:
        return reference.lattice_sum(diffracted, *rest)
    if not _recomputes():
        return torch.cat([reference.lattice_sum(block, *rest) for block in diffracted.split(length)])
    blocks = [
        checkpoint(reference.lattice_sum, block, *rest, use_reentrant=False, preserve_rng_state=False)
        for block in diffracted.split(length)
    ]
    return torch.cat(blocks)
