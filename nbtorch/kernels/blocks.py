"""The reference lattice sum in blocks of samples, so that its memory is bounded in forward and backward.

On a GPU large sums are compiled by PyTorch (``torch.compile``), which fuses what eager PyTorch brings to memory and
back term by term; TORCH_COMPILE_DISABLE=1 is PyTorch's own switch against it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nbtorch.config import LatticeSettings
from nbtorch.functional.structure_factor import StructureFactorTable
from nbtorch.kernels import reference
from nbtorch.kernels.direct import transforming

COMPILED_FROM = 2 * 10**9  # terms of a call, from which on the compiler's half minute pays
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


def worth_compiling(device: torch.device, terms: int) -> bool:
    """Whether a sum of ``terms`` is compiled. A transform or another compiler sees the plain functions."""
    if device.type != "cuda" or terms < COMPILED_FROM or torch.compiler.is_compiling() or transforming():
        return False
    return find_spec("triton") is not None


@cache
def _compiled() -> Callable[..., Tensor]:
    """The twin compiled, for blocks of any length."""
    compiled: Callable[..., Tensor] = torch.compile(reference.lattice_sum, dynamic=True)
    return compiled


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
    terms = len(diffracted) * len(incident) * len(basis)
    summed = _compiled() if worth_compiling(diffracted.device, terms) else reference.lattice_sum
    if len(diffracted) <= length:
        return summed(diffracted, *rest)
    if not _recomputes():
        return torch.cat([summed(block, *rest) for block in diffracted.split(length)])
    blocks = [
        checkpoint(summed, block, *rest, use_reentrant=False, preserve_rng_state=False)
        for block in diffracted.split(length)
    ]
    return torch.cat(blocks)
