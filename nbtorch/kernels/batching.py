"""What the ``vmap`` rules of the native functions share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def batch_size(in_dims: Sequence[int | None], arguments: Sequence[Any]) -> int:
    """How many members the batched arguments have."""
    sizes = (x.shape[dim] for x, dim in zip(arguments, in_dims, strict=True) if dim is not None)
    return int(next(sizes))


def leading(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    """``tensor`` with its batch axis first; repeated ``size`` times when it has none."""
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def apply_one_by_one(
    function: type[torch.autograd.Function], in_dims: Sequence[int | None], arguments: Sequence[Any]
) -> tuple[Any, Any]:
    """(outputs with the batch axis first, its position): ``function`` of each member of the batch in turn."""
    members = [
        function.apply(*(x if dim is None else x.select(dim, i) for x, dim in zip(arguments, in_dims, strict=True)))
        for i in range(batch_size(in_dims, arguments))
    ]
    if isinstance(members[0], Tensor):
        return torch.stack(members), 0
    return tuple(torch.stack(column) for column in zip(*members, strict=True)), (0,) * len(members[0])
