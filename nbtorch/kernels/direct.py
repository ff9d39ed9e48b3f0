"""Calling an operator's own function, past PyTorch's dispatcher."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.library import CustomOpDef


def _tensors(arguments: Iterable[Any]) -> Iterable[Tensor]:
    """The tensors among ``arguments`` and in their lists."""
    for argument in arguments:
        if isinstance(argument, Tensor):
            yield argument
        elif isinstance(argument, list | tuple):
            yield from (member for member in argument if isinstance(member, Tensor))


def transforming() -> bool:
    """Whether a torch.func transform or forward-mode differentiation runs."""
    return torch._C._functorch.peek_interpreter_stack() is not None or torch.autograd.forward_ad._current_level >= 0


def has_memory(tensor: Tensor) -> bool:
    """Whether it is an ordinary tensor: neither fake nor wrapped by a transformation."""
    ordinary = type(tensor) in (Tensor, torch.nn.Parameter)
    return ordinary and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def direct(operator: CustomOpDef) -> Callable[..., Any]:
    """The Python function behind ``operator``, for calls from inside an autograd function.

    There the dispatcher has nothing to add for ordinary tensors, and its first call of an operator imports
    torch._dynamo: 2 seconds, as long as PyTorch itself takes. Other tensors go through the dispatcher.
    """

    def call(*arguments: Any) -> Any:
        function = operator._init_fn if all(map(has_memory, _tensors(arguments))) else operator
        return function(*arguments)

    return call
