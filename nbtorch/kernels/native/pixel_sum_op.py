"""``torch.ops.nbtorch.pixel_sum_*``: rays, lattice sum and the sum over a pixel's samples and sources in one C call.

``inputs`` are the tensors of rays_op.ARGUMENTS, those of lattice_op.ARGUMENTS and the weights of the sources, in one
list; the samples are a grid, and ``diffracted`` is empty. ``choices`` = (point_pixel, polarized, layers, oversample) of
the rays and then those of the lattice sum, whose ``limits`` follow.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nbtorch.kernels.native import lattice_op, library, rays_op

KINDS = {"value": 0, "gradient": 1}
N_RAYS = len(rays_op.ARGUMENTS)
OF_RAYS, OF_LATTICE = slice(0, N_RAYS), slice(N_RAYS, N_RAYS + len(lattice_op.ARGUMENTS))


def _arguments(
    inputs: Sequence[Tensor], pixels: Sequence[Tensor], choices: Sequence[int], limits: Sequence[float]
) -> library.Arguments:
    """The C structure with every input filled in, once their shapes are known to fit."""
    rays, lattice, source_weight = inputs[OF_RAYS], inputs[OF_LATTICE], inputs[-1]
    library.check_shapes({"source_weight": source_weight}, {"source_weight": (len(rays[3]),)})
    arguments = library.Arguments(library.PixelSumArgs())
    point_pixel, polarized, layers, oversample, *of_lattice = choices
    of_rays = library.Arguments(arguments.structure.rays, arguments)
    rays_op.fill(of_rays, rays, pixels, bool(point_pixel), bool(polarized), layers, oversample)
    inside = library.Arguments(arguments.structure.lattice, arguments)
    lattice_op.fill(inside, lattice, of_lattice, limits, grid=arguments.structure.rays.n_samples)
    if len(lattice[1]) != len(rays[3]):
        raise ValueError(f"{len(rays[3])} sources light the pixels, and {len(lattice[1])} the crystal")
    arguments.give(source_weight=source_weight)
    return arguments


def _call(arguments: library.Arguments, kind: str, single: int) -> None:
    structure = arguments.structure
    if structure.rays.n_samples == 0:
        return
    failed = library.require().nbt_pixel_sum(ctypes.byref(structure), KINDS[kind], single)
    if failed == 2:
        raise IndexError(f"a pixel lies on a panel that is not one of the {structure.rays.n_panels} given")
    if failed:
        raise MemoryError("the pixel sum's C kernel could not allocate its working memory")


@torch.library.custom_op("nbtorch::pixel_sum_value", mutates_args=(), device_types="cpu")
def pixel_sum_value(
    inputs: Sequence[Tensor], pixels: Sequence[Tensor], choices: Sequence[int], limits: Sequence[float]
) -> Tensor:
    """The sum [pixels]; see :func:`nbtorch.kernels.dispatch.pixel_sum`."""
    arguments = _arguments(inputs, pixels, choices, limits)
    value = torch.zeros(len(pixels[0]), dtype=torch.float64, device="cpu")
    arguments.result(value=value)
    _call(arguments, "value", choices[6])
    return value.to(inputs[0].dtype)


@pixel_sum_value.register_fake
def _(inputs: Sequence[Tensor], pixels: Sequence[Tensor], *_: Any) -> Tensor:
    return inputs[0].new_empty(pixels[0].shape[0])


@torch.library.custom_op("nbtorch::pixel_sum_gradient", mutates_args=(), device_types="cpu")
def pixel_sum_gradient(
    grad: Tensor,
    inputs: Sequence[Tensor],
    pixels: Sequence[Tensor],
    choices: Sequence[int],
    limits: Sequence[float],
    wanted: Sequence[bool],
) -> list[Tensor]:
    """dL/d(argument) for each of ``inputs``, from ``grad`` = dL/d(value) [pixels].

    One that is not ``wanted`` is zero and costs nothing. That of ``incident`` comes in two parts, of the polarization
    and of the sum.
    """
    arguments = _arguments(inputs, pixels, choices, limits)
    library.check_shapes({"grad": grad}, {"grad": (len(pixels[0]),)})
    arguments.give(grad=grad)
    results = [torch.zeros(tensor.shape, dtype=torch.float64, device="cpu") for tensor in inputs]
    asked = [result if want else result.new_empty(0) for result, want in zip(results, wanted, strict=True)]
    structure = arguments.structure
    library.Arguments(structure.rays.grad, arguments).result(**rays_op.present(asked[OF_RAYS]))
    inside = library.Arguments(structure.lattice, arguments)
    of_lattice = zip(lattice_op.ARGUMENTS, asked[OF_LATTICE], strict=True)
    inside.result(**{f"grad_{name}": result for name, result in of_lattice if result.numel()})
    if wanted[-1]:
        arguments.result(grad_source_weight=results[-1])
    _call(arguments, "gradient", choices[6])
    return [result.to(of.dtype) for result, of in zip(results, inputs, strict=True)]


@pixel_sum_gradient.register_fake
def _(grad: Tensor, inputs: Sequence[Tensor], *_: Any) -> list[Tensor]:
    return [tensor.new_empty(tensor.shape) for tensor in inputs]


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    tensors, pixels, *statics = inputs
    ctx.save_for_backward(*pixels, *tensors)
    ctx.n_pixels, ctx.statics = len(pixels), statics
    ctx.wanted = [tensor.requires_grad for tensor in tensors]


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    pixels, tensors = ctx.saved_tensors[: ctx.n_pixels], ctx.saved_tensors[ctx.n_pixels :]
    gradients = pixel_sum_gradient(grad, tensors, pixels, *ctx.statics, ctx.wanted)
    return gradients, [None] * len(pixels), None, None


pixel_sum_value.register_autograd(_backward, setup_context=_save)
