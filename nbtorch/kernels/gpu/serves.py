"""Whether the Triton kernels can serve, and why not where they cannot. Triton itself is imported when they do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

CAPABILITY = (8, 0)  # the oldest that the kernels are compiled for
HOW_TO_GET_IT = "Install a CUDA build of PyTorch, which brings Triton, on a machine with a GPU"


def interpreting() -> bool:
    """Whether Triton runs kernels by its interpreter, on CPU tensors: TRITON_INTERPRET=1 before it is imported."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def why_not(device: torch.device) -> str:
    """Why the kernels do not serve tensors on ``device``, "" where they do."""
    if not _has_triton():
        return "Triton is not installed"
    if device.type == "cpu":
        return "" if interpreting() else "the GPU kernels serve tensors on a CUDA device"
    if device.type != "cuda":
        return f"the GPU kernels serve tensors on a CUDA device, not on {device.type}"
    found = torch.cuda.get_device_capability(device)
    if found < CAPABILITY:
        have, need = (".".join(map(str, version)) for version in (found, CAPABILITY))
        return f"the GPU has compute capability {have}; the kernels need {need} or newer"
    return ""


def suits(tensors: Sequence[Tensor]) -> bool:
    """Whether all ``tensors`` are of one device and of a type that the kernels take."""
    devices = {tensor.device for tensor in tensors}
    return len(devices) == 1 and all(tensor.dtype in (torch.float32, torch.float64) for tensor in tensors)
