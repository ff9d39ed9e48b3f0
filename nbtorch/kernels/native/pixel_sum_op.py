"""``torch.ops.nbtorch.pixel_sum_*``: rays, lattice sum and the sum over a pixel's samples and sources in one C call.

``rays`` and ``lattice`` are the tensors of the two operators in the order of their ARGUMENTS; the samples are a grid,
and ``diffracted`` is empty. The statics are theirs too: those of rays_op from ``pixels`` on, then those of lattice_op.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nbtorch.kernels.native import lattice_op, library, rays_op

KINDS = {"value": 0, "gradient": 1}


def _arguments(
    rays: Sequence[Tensor], lattice: Sequence[Tensor], source_weight: Tensor, *statics: Any
) -> library.Arguments:
    """The C structure with every input filled in, once their shapes are known to fit."""
    library.check_shapes({"source_weight": source_weight}, {"source_weight": (len(rays[3]),)})
    arguments = library.Arguments(library.PixelSumArgs())
    rays_op.fill(library.Arguments(arguments.structure.rays, arguments), rays, *statics[:5])
    inside = library.Arguments(arguments.structure.lattice, arguments)
    lattice_op.fill(inside, lattice, statics[5], statics[6], grid=arguments.structure.rays.n_samples)
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
    rays: Sequence[Tensor],
    lattice: Sequence[Tensor],
    source_weight: Tensor,
    pixels: Sequence[Tensor],
    point_pixel: bool,
    polarized: bool,
    layers: int,
    oversample: int,
    choices: Sequence[int],
    limits: Sequence[float],
) -> Tensor:
    """The sum [pixels]; see :func:`nbtorch.kernels.reference.pixel_sum`."""
    statics = (pixels, point_pixel, polarized, layers, oversample, choices, limits)
    arguments = _arguments(rays, lattice, source_weight, *statics)
    value = torch.zeros(len(pixels[0]), dtype=torch.float64, device="cpu")
    arguments.result(value=value)
    _call(arguments, "value", choices[2])
    return value.to(rays[0].dtype)


@pixel_sum_value.register_fake
def _(
    rays: Sequence[Tensor], lattice: Sequence[Tensor], source_weight: Tensor, pixels: Sequence[Tensor], *_: Any
) -> Tensor:
    return rays[0].new_empty(pixels[0].shape[0])


@torch.library.custom_op("nbtorch::pixel_sum_gradient", mutates_args=(), device_types="cpu")
def pixel_sum_gradient(
    grad: Tensor,
    rays: Sequence[Tensor],
    lattice: Sequence[Tensor],
    source_weight: Tensor,
    pixels: Sequence[Tensor],
    point_pixel: bool,
    polarized: bool,
    layers: int,
    oversample: int,
    choices: Sequence[int],
    limits: Sequence[float],
    wanted: Sequence[bool],
) -> list[Tensor]:
    """dL/d(argument) of rays, of lattice and of source_weight, from ``grad`` = dL/d(value) [pixels].

    One that is not ``wanted`` is zero and costs nothing. That of ``incident`` comes in two parts, of the polarization
    and of the sum.
    """
    statics = (pixels, point_pixel, polarized, layers, oversample, choices, limits)
    arguments = _arguments(rays, lattice, source_weight, *statics)
    library.check_shapes({"grad": grad}, {"grad": (len(pixels[0]),)})
    arguments.give(grad=grad)
    inputs = [*rays, *lattice, source_weight]
    results = [torch.zeros(tensor.shape, dtype=torch.float64, device="cpu") for tensor in inputs]
    asked = [result if want else result.new_empty(0) for result, want in zip(results, wanted, strict=True)]
    of_rays, of_lattice = asked[: len(rays)], zip(lattice_op.ARGUMENTS, asked[len(rays) : -1], strict=True)
    structure = arguments.structure
    library.Arguments(structure.rays.grad, arguments).result(**rays_op.present(of_rays))
    inside = library.Arguments(structure.lattice, arguments)
    inside.result(**{f"grad_{name}": result for name, result in of_lattice if result.numel()})
    arguments.result(grad_source_weight=results[-1])
    _call(arguments, "gradient", choices[2])
    return [result.to(of.dtype) for result, of in zip(results, inputs, strict=True)]


@pixel_sum_gradient.register_fake
def _(grad: Tensor, rays: Sequence[Tensor], lattice: Sequence[Tensor], source_weight: Tensor, *_: Any) -> list[Tensor]:
    return [tensor.new_empty(tensor.shape) for tensor in (*rays, *lattice, source_weight)]


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    rays, lattice, source_weight, pixels, *statics = inputs
    ctx.save_for_backward(*pixels, source_weight, *rays, *lattice)
    ctx.n_pixels, ctx.n_rays, ctx.statics = len(pixels), len(rays), statics
    ctx.wanted = [tensor.requires_grad for tensor in (*rays, *lattice, source_weight)]


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    pixels, (source_weight, *tensors) = ctx.saved_tensors[: ctx.n_pixels], ctx.saved_tensors[ctx.n_pixels :]
    rays, lattice = tensors[: ctx.n_rays], tensors[ctx.n_rays :]
    found = pixel_sum_gradient(grad, rays, lattice, source_weight, pixels, *ctx.statics, ctx.wanted)
    of_tensors = found[: len(rays)], found[len(rays) : -1], found[-1]
    return (*of_tensors, [None] * len(pixels), *([None] * len(ctx.statics)))


pixel_sum_value.register_autograd(_backward, setup_context=_save)
