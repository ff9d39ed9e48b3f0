"""Calling an operator's own function, past PyTorch's dispatcher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.library import CustomOpDef


def direct(operator: CustomOpDef) -> Callable[..., Any]:
    """The Python function behind ``operator``, for calls from inside an autograd function.

    There the dispatcher has nothing left to add, and its first call of an operator imports torch._dynamo: 2 seconds,
    as long as PyTorch itself takes.
    """
    function: Callable[..., Any] = operator._init_fn
    return function
