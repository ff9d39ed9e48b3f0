"""Launching the Triton kernels: the three operators of kernels/native/lattice_op.py, with the same arguments.

``inputs`` are the tensors of ARGUMENTS, ``choices`` and ``limits`` as there. Sums are computed from float64 copies, in
float32 lanes around float64 indices where single, and each result has the dtype of the argument concerned. The gradient
and the tangents of the table of amplitudes are not made here: the PyTorch twin serves those calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from nbtorch.functional.lattice import ROUND_SCALE
from nbtorch.kernels.gpu.lattice_kernels import gradient_kernel, tangent_kernel, value_kernel

BLOCK = 128  # pairs of a pixel and a source that a program takes
TANGENTS = {"nearest": 4, "tricubic": 2}  # that a program takes at once: more would not fit its registers
PARTIAL_BYTES = 64 * 2**20  # of the sums that programs leave for each orientation, a launch
_ROUND = 1
_NO_TABLE = "the GPU kernels move no amplitudes: the PyTorch twin serves such a call"
_REAL = {0: tl.float64, 1: tl.float32}


class _Call(NamedTuple):
    """What every kernel is given."""

    tensors: list[Tensor]  # float64, contiguous, the table last but one
    numbers: Tensor  # [8] first index and extent of the table, default F, dmin
    compiled: dict[str, Any]  # SHAPE, KIND, REAL, BLOCK
    peak: float  # of the lattice factor's square: what kernels leave out

    @property
    def pairs(self) -> int:
        return len(self.tensors[0]) * len(self.tensors[1])


@lru_cache(maxsize=64)
def _numbers(values: tuple[float, ...], device: torch.device) -> Tensor:
    """``values`` on the device, brought there once."""
    return torch.tensor(values, dtype=torch.float64, device=device)


def _call(inputs: Sequence[Tensor], choices: Sequence[int], limits: Sequence[float]) -> _Call:
    tensors = [tensor.detach().double().contiguous() for tensor in inputs]
    table, shape = tensors[6], choices[0]
    counts = tuple(table.shape) if table.numel() else (0, 0, 0)
    kind = 1 + choices[1] if table.numel() else 0
    peak = float(tensors[4].clamp(min=1).prod() ** 2) if shape == 0 else float(tensors[4].prod() ** 2)
    numbers = _numbers((*choices[3:6], *counts, *limits[:2]), table.device)
    compiled = {"SHAPE": shape, "KIND": kind, "REAL": _REAL[choices[2]], "BLOCK": BLOCK}
    return _Call(tensors, numbers, compiled, peak * (ROUND_SCALE**2 if shape == _ROUND else 1.0))


def lattice_value(inputs: Sequence[Tensor], choices: Sequence[int], limits: Sequence[float]) -> Tensor:
    """The sum [P, S]; see :func:`nbtorch.kernels.reference.lattice_sum`."""
    call = _call(inputs, choices, limits)
    value = call.tensors[0].new_zeros(len(inputs[0]), len(inputs[1]))
    if call.pairs:
        grid = (triton.cdiv(call.pairs, BLOCK),)
        sizes = call.pairs, len(inputs[1]), len(inputs[3])
        value_kernel[grid](*call.tensors, value, *sizes, call.numbers, **call.compiled)
    return (value * call.peak).to(inputs[0].dtype)


def lattice_gradient(
    grad: Tensor, inputs: Sequence[Tensor], choices: Sequence[int], limits: Sequence[float], wants_table: bool
) -> list[Tensor]:
    """dL/d(argument) for each of ARGUMENTS, from ``grad`` = dL/d(value) [P, S]; the table's is zero.

    Raises ValueError where the table's is wanted.
    """
    if wants_table:
        raise ValueError(_NO_TABLE)
    call = _call(inputs, choices, limits)
    sources, orientations = len(inputs[1]), len(inputs[3])
    given = (grad.detach().double() * call.peak).contiguous()
    along_q = given.new_zeros(call.pairs, 3)
    of_orientation, of_shape = given.new_zeros(orientations, 10), given.new_zeros(7)
    programs = max(1, PARTIAL_BYTES // (80 * max(1, orientations)))
    for start in range(0, call.pairs, programs * BLOCK):
        count = min(programs, triton.cdiv(call.pairs - start, BLOCK))
        partial, shape = given.new_empty(count, orientations, 10), given.new_empty(count, 7)
        outputs = given, along_q, partial, shape
        sizes = start, call.pairs, sources, orientations
        gradient_kernel[(count,)](*call.tensors, *outputs, *sizes, call.numbers, **call.compiled)
        of_orientation += partial.sum(0)
        of_shape += shape.sum(0)
    return _assembled(inputs, choices, call, along_q.view(-1, sources, 3), of_orientation, of_shape)


def _assembled(
    inputs: Sequence[Tensor],
    choices: Sequence[int],
    call: _Call,
    along_q: Tensor,
    of_orientation: Tensor,
    of_shape: Tensor,
) -> list[Tensor]:
    """The gradients of the arguments from those of q [P, S, 3], of orientations [K, 10] and of the shape [7]."""
    diffracted, incident, wavelength, _, n_cells = call.tensors[:5]
    of_ray = along_q / wavelength[:, None]
    q = (diffracted[:, None] - incident) / wavelength[:, None]
    metric = torch.zeros_like(call.tensors[5])
    if choices[0] == 0:
        of_n = torch.where(n_cells > 1, 2 * of_shape[:3] / n_cells, 0)
    else:
        of_n = 2 * of_shape[6] / n_cells
        places = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
        for (i, j), value in zip(places, of_shape[:6], strict=True):
            metric[i, j] = metric[j, i] = value
    results = [
        of_ray.sum(1),
        -of_ray.sum(0),
        -(of_ray * q).sum((0, 2)),
        of_orientation[:, :9].reshape(-1, 3, 3),
        of_n,
        metric,
        torch.zeros_like(call.tensors[6]),
        of_orientation[:, 9],
    ]
    return [result.to(of.dtype) for result, of in zip(results, inputs, strict=True)]


def lattice_tangents(
    inputs: Sequence[Tensor],
    tangents: Sequence[Tensor | None],
    n_tangents: int,
    choices: Sequence[int],
    limits: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """(value [P, S], tangent [T, P, S]) for ``tangents`` of ARGUMENTS, each with a leading axis T, None for zero.

    Raises ValueError for tangents of the table.
    """
    if tangents[6] is not None and tangents[6].numel():
        raise ValueError(_NO_TABLE)
    call = _call(inputs, choices, limits)
    value = lattice_value(inputs, choices, limits)
    dots = [
        tensor.new_zeros(n_tangents, *tensor.shape) if dot is None else dot.detach().double().contiguous()
        for dot, tensor in zip(tangents, call.tensors, strict=True)
    ]
    n_cells = call.tensors[4]
    relative = dots[4] / n_cells
    square = choices[0] == 0
    dots[4] = torch.where(n_cells > 1, relative, 0).contiguous() if square else relative
    tangent = call.tensors[0].new_zeros(n_tangents, len(inputs[0]), len(inputs[1]))
    if call.pairs and n_tangents:
        at_once = TANGENTS["tricubic" if choices[1] else "nearest"]
        grid = triton.cdiv(call.pairs, BLOCK), triton.cdiv(n_tangents, at_once)
        sizes = call.pairs, len(inputs[0]), len(inputs[1]), len(inputs[3]), n_tangents
        moved = (*dots[:6], dots[7])
        tangent_kernel[grid](*call.tensors, *moved, tangent, *sizes, call.numbers, **call.compiled, T=at_once)
    tangent *= call.peak
    if not square:  # the peak (Na·Nb·Nc)² moves with N; the square's slopes hold that already
        tangent += 2 * relative.sum(1)[:, None, None] * value.double()
    return value, tangent.to(inputs[0].dtype)
