"""``torch.ops.nbtorch.lattice_*``: the C lattice sum, its gradient and its tangents, known to PyTorch as operators.

Operators take flat arguments: ``choices`` = (shape, interpolation, single precision, first h, k, l of the table),
``limits`` = (default F, dmin, culling). Every operator takes float32 or float64 tensors, computes from float64 inputs
(in float32 lanes where ``single``), and returns the dtype of the argument concerned.
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


def _arguments(inputs: Sequence[Tensor | None], choices: Sequence[int], limits: Sequence[float]) -> library.Arguments:
    """The C structure with every input filled in; ``inputs`` in the order of ARGUMENTS."""
    given = dict(zip(ARGUMENTS, inputs, strict=True))
    arguments = library.Arguments(library.LatticeArgs())
    arguments.give(**given)
    sizes = {name: 0 if tensor is None else len(tensor) for name, tensor in given.items()}
    table = given["table"]
    arguments.integers(
        n_pixels=sizes["diffracted"],
        n_sources=sizes["incident"],
        n_orientations=sizes["basis"],
        n_threads=torch.get_num_threads(),
        shape=choices[0],
        interpolation=choices[1],
        first=choices[3:6],
        count=(0, 0, 0) if table is None else table.shape,
    )
    structure = arguments.structure
    structure.default_F, structure.dmin, structure.culling = limits
    return arguments


def _call(arguments: library.Arguments, kind: str, choices: Sequence[int]) -> None:
    if arguments.structure.n_pixels == 0:
        return
    failed = library.require().nbt_lattice(ctypes.byref(arguments.structure), KINDS[kind], choices[2])
    if failed:
        raise MemoryError("the lattice sum's C kernel could not allocate its working memory")


@torch.library.custom_op("nbtorch::lattice_value", mutates_args=(), device_types="cpu")
def lattice_value(
    diffracted: Tensor,
    incident: Tensor,
    wavelength: Tensor,
    basis: Tensor,
    n_cells: Tensor,
    metric: Tensor,
    table: Tensor | None,
    weight: Tensor,
    choices: Sequence[int],
    limits: Sequence[float],
) -> Tensor:
    """The sum [P, S]; arguments as in :func:`nbtorch.kernels.reference.lattice_sum`."""
    inputs = (diffracted, incident, wavelength, basis, n_cells, metric, table, weight)
    arguments = _arguments(inputs, choices, limits)
    value = torch.empty(len(diffracted), len(incident), dtype=torch.float64)
    arguments.result(value=value)
    _call(arguments, "value", choices)
    return value.to(diffracted.dtype)


@lattice_value.register_fake
def _(diffracted: Tensor, incident: Tensor, *_: Any) -> Tensor:
    return diffracted.new_empty(diffracted.shape[0], incident.shape[0])


@torch.library.custom_op("nbtorch::lattice_gradient", mutates_args=(), device_types="cpu")
def lattice_gradient(
    grad: Tensor,
    diffracted: Tensor,
    incident: Tensor,
    wavelength: Tensor,
    basis: Tensor,
    n_cells: Tensor,
    metric: Tensor,
    table: Tensor | None,
    weight: Tensor,
    choices: Sequence[int],
    limits: Sequence[float],
    wants_table: bool,
) -> list[Tensor]:
    """dL/d(argument) for each of ARGUMENTS, from ``grad`` = dL/d(value) [P, S]; the table's is empty if not wanted."""
    inputs = (diffracted, incident, wavelength, basis, n_cells, metric, table, weight)
    arguments = _arguments(inputs, choices, limits)
    arguments.give(grad=grad)
    results = [torch.zeros(shape, dtype=torch.float64) for shape in _gradient_shapes(inputs, wants_table)]
    filled = zip(ARGUMENTS, results, strict=True)
    arguments.result(**{f"grad_{name}": result for name, result in filled if name != "table" or wants_table})
    _call(arguments, "gradient", choices)
    return [result.to(diffracted if of is None else of) for result, of in zip(results, inputs, strict=True)]


def _gradient_shapes(inputs: Sequence[Tensor | None], wants_table: bool) -> list[Sequence[int]]:
    return [
        (0,) if tensor is None or (name == "table" and not wants_table) else tensor.shape
        for name, tensor in zip(ARGUMENTS, inputs, strict=True)
    ]


@lattice_gradient.register_fake
def _(
    grad: Tensor,
    diffracted: Tensor,
    incident: Tensor,
    wavelength: Tensor,
    basis: Tensor,
    n_cells: Tensor,
    metric: Tensor,
    table: Tensor | None,
    weight: Tensor,
    choices: Sequence[int],
    limits: Sequence[float],
    wants_table: bool,
) -> list[Tensor]:
    inputs = (diffracted, incident, wavelength, basis, n_cells, metric, table, weight)
    shapes = _gradient_shapes(inputs, wants_table)
    return [(diffracted if of is None else of).new_empty(shape) for of, shape in zip(inputs, shapes, strict=True)]


@torch.library.custom_op("nbtorch::lattice_tangents", mutates_args=(), device_types="cpu")
def lattice_tangents(
    diffracted: Tensor,
    incident: Tensor,
    wavelength: Tensor,
    basis: Tensor,
    n_cells: Tensor,
    metric: Tensor,
    table: Tensor | None,
    weight: Tensor,
    choices: Sequence[int],
    limits: Sequence[float],
    tangents: Sequence[Tensor | None],
    n_tangents: int,
) -> tuple[Tensor, Tensor]:
    """(value [P, S], tangent [T, P, S]) for ``tangents`` of ARGUMENTS, each with a leading axis T, None for zero."""
    inputs = (diffracted, incident, wavelength, basis, n_cells, metric, table, weight)
    arguments = _arguments(inputs, choices, limits)
    arguments.give(**{f"dot_{name}": tangent for name, tangent in zip(ARGUMENTS, tangents, strict=True)})
    arguments.integers(n_tangents=n_tangents)
    value = torch.empty(len(diffracted), len(incident), dtype=torch.float64)
    tangent = torch.empty(n_tangents, *value.shape, dtype=torch.float64)
    arguments.result(value=value, tangent=tangent)
    _call(arguments, "tangents", choices)
    return value.to(diffracted.dtype), tangent.to(diffracted.dtype)


@lattice_tangents.register_fake
def _(diffracted: Tensor, incident: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    shape = (diffracted.shape[0], incident.shape[0])
    return diffracted.new_empty(shape), diffracted.new_empty(rest[-1], *shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, choices, limits = inputs
    ctx.save_for_backward(*tensors)
    ctx.choices, ctx.limits = choices, limits


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    table = ctx.needs_input_grad[ARGUMENTS.index("table")]
    gradients = lattice_gradient(grad, *ctx.saved_tensors, ctx.choices, ctx.limits, table)
    wanted = zip(gradients, ctx.needs_input_grad[: len(gradients)], strict=True)
    return (*(gradient if needed else None for gradient, needed in wanted), None, None)


lattice_value.register_autograd(_backward, setup_context=_save)
