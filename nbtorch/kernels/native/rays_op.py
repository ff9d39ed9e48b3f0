"""``torch.ops.nbtorch.rays_*``: the C ray kernel, its gradient and its tangents, known to PyTorch as operators.

The polarization enters as the unit vectors E and B of each source, which ordinary autograd makes from the axis.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nbtorch.kernels.native import library

KINDS = {"value": 0, "gradient": 1, "tangents": 2}
ARGUMENTS = (
    "frame",
    "pixel_size",
    "absorption",
    "incident",
    "along_e",
    "along_b",
    "kahn",
    "fast",
    "slow",
    "depth",
    "layer",
)


def _shapes(inputs: Sequence[Tensor], panel: Tensor) -> dict[str, tuple[int, ...]]:
    """The shapes that each of ARGUMENTS must have, from how many panels, sources and samples there are."""
    panels, sources, samples = len(inputs[0]), len(inputs[3]), len(panel)
    of_panels: list[tuple[int, ...]] = [(panels, 4, 3), (panels, 2), (panels,)]
    of_sources: list[tuple[int, ...]] = [(sources, 3)] * 3
    of_samples: list[tuple[int, ...]] = [(samples,)] * 4
    return dict(zip(ARGUMENTS, [*of_panels, *of_sources, (), *of_samples], strict=True))


def _arguments(
    inputs: Sequence[Tensor], panel: Tensor, point_pixel: bool, polarized: bool
) -> tuple[library.Arguments, library.RayArgs]:
    """The C structure with every input filled in, once their shapes are known to fit: C reads what they promise."""
    library.check_shapes(dict(zip(ARGUMENTS, inputs, strict=True)), _shapes(inputs, panel))
    structure = library.RayArgs()
    arguments = library.Arguments(structure)
    library.Arguments(structure.inputs, arguments).give(**dict(zip(ARGUMENTS, inputs, strict=True)))
    arguments.result(panel=panel.to(torch.int64).contiguous())
    arguments.integers(
        n_samples=len(panel),
        n_sources=len(inputs[3]),
        n_panels=len(inputs[0]),
        n_threads=torch.get_num_threads(),
        point_pixel=int(point_pixel),
        polarized=int(polarized),
    )
    return arguments, structure


def _call(structure: library.RayArgs, kind: str) -> None:
    if structure.n_samples == 0:
        return
    failed = library.require().nbt_rays(ctypes.byref(structure), KINDS[kind])
    if failed == 2:
        raise IndexError(f"a sample lies on a panel that is not one of the {structure.n_panels} given")
    if failed:
        raise MemoryError("the ray kernel could not allocate its working memory")


@torch.library.custom_op("nbtorch::rays_value", mutates_args=(), device_types="cpu")
def rays_value(inputs: Sequence[Tensor], panel: Tensor, point_pixel: bool, polarized: bool) -> tuple[Tensor, Tensor]:
    """(diffracted [P, 3], weight [P, S]) of ``inputs``, in the order of ARGUMENTS, and ``panel`` [P]."""
    arguments, structure = _arguments(inputs, panel, point_pixel, polarized)
    diffracted = torch.empty(len(panel), 3, dtype=torch.float64, device="cpu")
    weight = torch.empty(len(panel), len(inputs[3]), dtype=torch.float64, device="cpu")
    arguments.result(diffracted=diffracted, weight=weight)
    _call(structure, "value")
    dtype = inputs[0].dtype
    return diffracted.to(dtype), weight.to(dtype)


@rays_value.register_fake
def _(inputs: Sequence[Tensor], panel: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    n_samples = panel.shape[0]
    return inputs[0].new_empty(n_samples, 3), inputs[0].new_empty(n_samples, inputs[3].shape[0])


@torch.library.custom_op("nbtorch::rays_gradient", mutates_args=(), device_types="cpu")
def rays_gradient(
    grad_diffracted: Tensor,
    grad_weight: Tensor,
    inputs: Sequence[Tensor],
    panel: Tensor,
    point_pixel: bool,
    polarized: bool,
) -> list[Tensor]:
    """dL/d(argument) for each of ARGUMENTS."""
    arguments, structure = _arguments(inputs, panel, point_pixel, polarized)
    outputs = {"grad_diffracted": (len(panel), 3), "grad_weight": (len(panel), len(inputs[3]))}
    library.check_shapes({"grad_diffracted": grad_diffracted, "grad_weight": grad_weight}, outputs)
    arguments.give(grad_diffracted=grad_diffracted, grad_weight=grad_weight)
    results = [torch.zeros(tensor.shape, dtype=torch.float64, device="cpu") for tensor in inputs]
    library.Arguments(structure.grad, arguments).result(**dict(zip(ARGUMENTS, results, strict=True)))
    _call(structure, "gradient")
    return [result.to(of.dtype) for result, of in zip(results, inputs, strict=True)]


@rays_gradient.register_fake
def _(grad_diffracted: Tensor, grad_weight: Tensor, inputs: Sequence[Tensor], *_: Any) -> list[Tensor]:
    return [tensor.new_empty(tensor.shape) for tensor in inputs]


@torch.library.custom_op("nbtorch::rays_tangents", mutates_args=(), device_types="cpu")
def rays_tangents(
    inputs: Sequence[Tensor],
    tangents: Sequence[Tensor | None],
    n_tangents: int,
    panel: Tensor,
    point_pixel: bool,
    polarized: bool,
) -> list[Tensor]:
    """[diffracted, weight, their tangents [T, P, 3] and [T, P, S]] for ``tangents`` of ARGUMENTS, None for zero."""
    arguments, structure = _arguments(inputs, panel, point_pixel, polarized)
    moving = {name: t for name, t in zip(ARGUMENTS, tangents, strict=True) if t is not None}
    library.check_shapes(moving, {name: (n_tangents, *shape) for name, shape in _shapes(inputs, panel).items()})
    library.Arguments(structure.dot, arguments).give(**moving)
    arguments.integers(n_tangents=n_tangents)
    shapes = [(len(panel), 3), (len(panel), len(inputs[3]))]
    values = [torch.empty(shape, dtype=torch.float64, device="cpu") for shape in shapes]
    results = [*values, *(torch.empty(n_tangents, *shape, dtype=torch.float64, device="cpu") for shape in shapes)]
    names = ("diffracted", "weight", "dot_diffracted", "dot_weight")
    arguments.result(**dict(zip(names, results, strict=True)))
    _call(structure, "tangents")
    return [result.to(inputs[0].dtype) for result in results]


@rays_tangents.register_fake
def _(
    inputs: Sequence[Tensor], tangents: Sequence[Tensor | None], n_tangents: int, panel: Tensor, *_: Any
) -> list[Tensor]:
    shapes = [(panel.shape[0], 3), (panel.shape[0], inputs[3].shape[0])]
    return [inputs[0].new_empty(shape) for shape in (*shapes, *((n_tangents, *shape) for shape in shapes))]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    tensors, panel, point_pixel, polarized = inputs
    ctx.save_for_backward(panel, *tensors)
    ctx.point_pixel, ctx.polarized = point_pixel, polarized


def _backward(ctx: Any, grad_diffracted: Tensor, grad_weight: Tensor) -> tuple[Any, ...]:
    panel, *tensors = ctx.saved_tensors
    return rays_gradient(grad_diffracted, grad_weight, tensors, panel, ctx.point_pixel, ctx.polarized), None, None, None


rays_value.register_autograd(_backward, setup_context=_save)
