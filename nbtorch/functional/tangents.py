"""Forward-mode derivatives of small functions, by differentiating their reverse mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def tangents(
    function: Callable[[Tensor], Sequence[Tensor]], values: Tensor, along: Tensor | None = None
) -> tuple[tuple[Tensor, ...], tuple[Tensor | None, ...]]:
    """The outputs of ``function`` at ``values`` [T], and the derivative [T, ...] of each; None where it does not move.

    along: directions [D, T] to differentiate along, which then count D derivatives; by default each of the values.

    The gradient Jᵀu is linear in u, so that its own derivative along e_t is the column J e_t, exactly. For functions of
    some hundred small operations this is several times faster than PyTorch's forward mode, which spends milliseconds on
    zero tangents; memory is T times the outputs and intermediates, which would be too much for pixels.
    The results are not differentiable; ``function`` must be twice.
    """
    with torch.enable_grad():
        leaf = values.detach().requires_grad_()
        outputs = tuple(function(leaf))
        moving = [output for output in outputs if output.requires_grad]
        directions = [torch.zeros_like(output, requires_grad=True) for output in moving]
        pulled = _gradient(moving, leaf, directions)
    if pulled is None or not pulled.requires_grad:
        columns: Sequence[Tensor | None] = [None] * len(moving)
    else:
        each = torch.eye(len(values), dtype=values.dtype, device=values.device) if along is None else along
        columns = torch.autograd.grad(pulled, directions, each, is_grads_batched=True, allow_unused=True)
    found = iter(columns)
    of_outputs = tuple(next(found) if output.requires_grad else None for output in outputs)
    return tuple(output.detach() for output in outputs), of_outputs


def _gradient(outputs: Sequence[Tensor], leaf: Tensor, directions: Sequence[Tensor]) -> Tensor | None:
    """Jᵀu [T] as a function of u = ``directions``; None where no output depends on ``leaf``."""
    if not outputs:
        return None
    found: Tensor | None = torch.autograd.grad(outputs, leaf, directions, create_graph=True, allow_unused=True)[0]
    return found
