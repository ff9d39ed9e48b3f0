"""``torch.ops.nbtorch.lattice_*``: the C lattice sum, its gradient and its tangents, known to PyTorch as operators.

Operators take ``inputs``, the tensors of ARGUMENTS in that order (an absent table is an empty tensor), ``choices`` =
(shape, interpolation, single precision, first h, k, l of the table) and ``limits`` = (default F, dmin, culling). The
tensors are float32 or float64; the sum is computed from float64 copies (in float32 lanes where single), and each result
has the dtype of the argument concerned. Shapes that do not fit raise ValueError.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nbtorch.config import LatticeSettings
from nbtorch.functional.structure_factor import StructureFactorTable
from nbtorch.kernels.native import library

SHAPES = {"square": 0, "round": 1, "gauss": 2, "gauss_hkl": 2, "tophat": 3}
INTERPOLATIONS = {"nearest": 0, "tricubic": 1}
KINDS = {"value": 0, "gradient": 1, "tangents": 2}
ARGUMENTS = ("diffracted", "incident", "wavelength", "basis", "n_cells", "metric", "table", "weight")


def flat_settings(
    settings: LatticeSettings, table: StructureFactorTable | None, dtype: torch.dtype
) -> tuple[list[int], list[float]]:
    """(choices, limits) of ``settings``; precision "auto" is double for float64 inputs and fast for float32."""
    fast = settings.precision == "fast" or (settings.precision == "auto" and dtype == torch.float32)
    choices = [
        SHAPES[settings.shape],
        INTERPOLATIONS[settings.interpolation],
        int(fast),
        *(table.first if table else (0, 0, 0)),
    ]
    return choices, [settings.default_F, settings.dmin, settings.culling]


def flat_tensors(tensors: Sequence[Tensor | None]) -> list[Tensor]:
    """``tensors`` of ARGUMENTS as the operators take them: an empty tensor for an absent table."""
    like = next(tensor for tensor in tensors if tensor is not None)
    return [like.new_empty(0) if tensor is None else tensor for tensor in tensors]


def _shapes(inputs: Sequence[Tensor], samples: int) -> dict[str, tuple[int, ...]]:
    """The shapes that each of ARGUMENTS must have, from how many samples, sources and orientations there are."""
    sources, orientations, table = len(inputs[1]), len(inputs[3]), tuple(inputs[6].shape)
    return {
        "diffracted": (samples, 3),
        "incident": (sources, 3),
        "wavelength": (sources,),
        "basis": (orientations, 3, 3),
        "n_cells": (3,),
        "metric": (3, 3),
        "table": table if len(table) == 3 else (0,),
        "weight": (orientations,),
    }


def fill(
    arguments: library.Arguments,
    inputs: Sequence[Tensor],
    choices: Sequence[int],
    limits: Sequence[float],
    grid: int | None = None,
) -> None:
    """Every input filled into a C structure, once their shapes are known to fit: C reads what they promise.

    grid: how many samples the kernel makes for itself, in the place of ``diffracted``, which is then empty.
    """
    named = dict(zip(ARGUMENTS, inputs, strict=True))
    shapes = _shapes(inputs, len(inputs[0]) if grid is None else grid)
    library.check_shapes(named, shapes if grid is None else shapes | {"diffracted": (0,)})
    if inputs[6].numel() >= 2**31:
        raise ValueError(f"a table of {inputs[6].numel()} amplitudes has more than the 2³¹ that the C kernel numbers")
    absent = {name for name in ("diffracted", "table") if not named[name].numel()}
    arguments.give(**{name: tensor for name, tensor in named.items() if name not in absent})
    arguments.integers(
        n_pixels=shapes["diffracted"][0],
        n_sources=shapes["incident"][0],
        n_orientations=shapes["basis"][0],
        n_threads=torch.get_num_threads(),
        shape=choices[0],
        interpolation=choices[1],
        first=choices[3:6],
        count=inputs[6].shape if inputs[6].numel() else (0, 0, 0),
    )
    structure = arguments.structure
    structure.default_F, structure.dmin, structure.culling = limits


def _arguments(inputs: Sequence[Tensor], choices: Sequence[int], limits: Sequence[float]) -> library.Arguments:
    arguments = library.Arguments(library.LatticeArgs())
    fill(arguments, inputs, choices, limits)
    return arguments


def _call(arguments: library.Arguments, kind: str, choices: Sequence[int]) -> None:
    if arguments.structure.n_pixels == 0 or arguments.structure.n_sources == 0:
        return
    failed = library.require().nbt_lattice(ctypes.byref(arguments.structure), KINDS[kind], choices[2])
    if failed:
        raise MemoryError("the lattice sum's C kernel could not allocate its working memory")


@torch.library.custom_op("nbtorch::lattice_value", mutates_args=(), device_types="cpu")
def lattice_value(inputs: Sequence[Tensor], choices: Sequence[int], limits: Sequence[float]) -> Tensor:
    """The sum [P, S]; see :func:`nbtorch.kernels.reference.lattice_sum`."""
    arguments = _arguments(inputs, choices, limits)
    value = torch.empty(len(inputs[0]), len(inputs[1]), dtype=torch.float64, device="cpu")
    arguments.result(value=value)
    _call(arguments, "value", choices)
    return value.to(inputs[0].dtype)


@lattice_value.register_fake
def _(inputs: Sequence[Tensor], *_: Any) -> Tensor:
    return inputs[0].new_empty(inputs[0].shape[0], inputs[1].shape[0])


@torch.library.custom_op("nbtorch::lattice_gradient", mutates_args=(), device_types="cpu")
def lattice_gradient(
    grad: Tensor, inputs: Sequence[Tensor], choices: Sequence[int], limits: Sequence[float], wants_table: bool
) -> list[Tensor]:
    """dL/d(argument) for each of ARGUMENTS, from ``grad`` = dL/d(value) [P, S]; the table's is zero if not wanted."""
    arguments = _arguments(inputs, choices, limits)
    library.check_shapes({"grad": grad}, {"grad": (len(inputs[0]), len(inputs[1]))})
    arguments.give(grad=grad)
    results = [torch.zeros(tensor.shape, dtype=torch.float64, device="cpu") for tensor in inputs]
    filled = dict(zip(ARGUMENTS, results, strict=True))
    if not (wants_table and inputs[6].numel()):
        del filled["table"]
    arguments.result(**{f"grad_{name}": result for name, result in filled.items()})
    _call(arguments, "gradient", choices)
    return [result.to(of.dtype) for result, of in zip(results, inputs, strict=True)]


@lattice_gradient.register_fake
def _(grad: Tensor, inputs: Sequence[Tensor], *_: Any) -> list[Tensor]:
    return [tensor.new_empty(tensor.shape) for tensor in inputs]


@torch.library.custom_op("nbtorch::lattice_tangents", mutates_args=(), device_types="cpu")
def lattice_tangents(
    inputs: Sequence[Tensor],
    tangents: Sequence[Tensor | None],
    n_tangents: int,
    choices: Sequence[int],
    limits: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """(value [P, S], tangent [T, P, S]) for ``tangents`` of ARGUMENTS, each with a leading axis T, None for zero."""
    arguments = _arguments(inputs, choices, limits)
    moving = {name: t for name, t in zip(ARGUMENTS, tangents, strict=True) if t is not None and t.numel()}
    library.check_shapes(
        moving, {name: (n_tangents, *shape) for name, shape in _shapes(inputs, len(inputs[0])).items()}
    )
    arguments.give(**{f"dot_{name}": tangent for name, tangent in moving.items()})
    arguments.integers(n_tangents=n_tangents)
    value = torch.empty(len(inputs[0]), len(inputs[1]), dtype=torch.float64, device="cpu")
    tangent = torch.empty(n_tangents, *value.shape, dtype=torch.float64, device="cpu")
    arguments.result(value=value, tangent=tangent)
    _call(arguments, "tangents", choices)
    return value.to(inputs[0].dtype), tangent.to(inputs[0].dtype)


@lattice_tangents.register_fake
def _(inputs: Sequence[Tensor], tangents: Sequence[Tensor | None], n_tangents: int, *_: Any) -> tuple[Tensor, Tensor]:
    shape = (inputs[0].shape[0], inputs[1].shape[0])
    return inputs[0].new_empty(shape), inputs[0].new_empty(n_tangents, *shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    tensors, choices, limits = inputs
    ctx.save_for_backward(*tensors)
    ctx.choices, ctx.limits, ctx.wants_table = choices, limits, tensors[6].requires_grad


def _backward(ctx: Any, grad: Tensor) -> tuple[list[Tensor], None, None]:
    return lattice_gradient(grad, ctx.saved_tensors, ctx.choices, ctx.limits, ctx.wants_table), None, None


lattice_value.register_autograd(_backward, setup_context=_save)
