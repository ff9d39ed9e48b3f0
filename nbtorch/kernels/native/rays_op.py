"""``torch.ops.nbtorch.rays_*``: the C ray kernel, its gradient and its tangents, known to PyTorch as operators.

The polarization enters as the unit vectors E and B of each source, which ordinary autograd makes from the axis. Samples
are listed (``pixels`` = [panel [P]], ``layers`` = ``oversample`` = 0, an empty layer_step) or a grid in each pixel
(``pixels`` = [panel, slow, fast], [pixels] each; fast, slow, depth and layer are empty).
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
    "layer_step",
)


def n_samples(pixels: Sequence[Tensor], layers: int, oversample: int) -> int:
    """P."""
    return pixels[0].shape[0] * (layers * oversample**2 or 1)


def _shapes(inputs: Sequence[Tensor], pixels: Sequence[Tensor], grid: bool) -> dict[str, tuple[int, ...]]:
    """The shapes that each of ARGUMENTS must have, from how many panels, sources and samples there are."""
    panels, sources = len(inputs[0]), len(inputs[3])
    of_panels: list[tuple[int, ...]] = [(panels, 4, 3), (panels, 2), (panels,)]
    of_sources: list[tuple[int, ...]] = [(sources, 3)] * 3
    of_samples: list[tuple[int, ...]] = [(0,)] * 4 if grid else [(len(pixels[0]),)] * 4
    of_layers = (panels,) if grid else (0,)
    return dict(zip(ARGUMENTS, [*of_panels, *of_sources, (), *of_samples, of_layers], strict=True))


def fill(
    arguments: library.Arguments,
    inputs: Sequence[Tensor],
    pixels: Sequence[Tensor],
    point_pixel: bool,
    polarized: bool,
    layers: int,
    oversample: int,
) -> None:
    """Every input filled into a C structure, once their shapes are known to fit: C reads what they promise."""
    library.check_shapes(dict(zip(ARGUMENTS, inputs, strict=True)), _shapes(inputs, pixels, oversample > 0))
    names = ("panel", "slow", "fast") if oversample else ("panel",)
    places = dict(zip(names, pixels, strict=True))
    library.check_shapes(places, dict.fromkeys(names, (len(pixels[0]),)))
    library.Arguments(arguments.structure.inputs, arguments).give(**present(inputs))
    arguments.result(**{name: place.to(torch.int64).contiguous() for name, place in places.items()})
    arguments.integers(
        n_samples=n_samples(pixels, layers, oversample),
        n_sources=len(inputs[3]),
        n_panels=len(inputs[0]),
        n_threads=torch.get_num_threads(),
        point_pixel=int(point_pixel),
        polarized=int(polarized),
        layers=layers,
        oversample=oversample,
    )


def _arguments(
    inputs: Sequence[Tensor], pixels: Sequence[Tensor], point_pixel: bool, polarized: bool, layers: int, oversample: int
) -> tuple[library.Arguments, library.RayArgs]:
    structure = library.RayArgs()
    arguments = library.Arguments(structure)
    fill(arguments, inputs, pixels, point_pixel, polarized, layers, oversample)
    return arguments, structure


def present(tensors: Sequence[Tensor | None]) -> dict[str, Tensor]:
    """Those of ARGUMENTS that are there, by name."""
    return {name: t for name, t in zip(ARGUMENTS, tensors, strict=True) if t is not None and t.numel()}


def _call(structure: library.RayArgs, kind: str) -> None:
    if structure.n_samples == 0:
        return
    failed = library.require().nbt_rays(ctypes.byref(structure), KINDS[kind])
    if failed == 2:
        raise IndexError(f"a sample lies on a panel that is not one of the {structure.n_panels} given")
    if failed:
        raise MemoryError("the ray kernel could not allocate its working memory")


@torch.library.custom_op("nbtorch::rays_value", mutates_args=(), device_types="cpu")
def rays_value(
    inputs: Sequence[Tensor], pixels: Sequence[Tensor], point_pixel: bool, polarized: bool, layers: int, oversample: int
) -> tuple[Tensor, Tensor]:
    """(diffracted [P, 3], weight [P, S]) of ``inputs``, in the order of ARGUMENTS."""
    arguments, structure = _arguments(inputs, pixels, point_pixel, polarized, layers, oversample)
    diffracted = torch.empty(n_samples(pixels, layers, oversample), 3, dtype=torch.float64, device="cpu")
    weight = torch.empty(len(diffracted), len(inputs[3]), dtype=torch.float64, device="cpu")
    arguments.result(diffracted=diffracted, weight=weight)
    _call(structure, "value")
    dtype = inputs[0].dtype
    return diffracted.to(dtype), weight.to(dtype)


@rays_value.register_fake
def _(
    inputs: Sequence[Tensor], pixels: Sequence[Tensor], point_pixel: bool, polarized: bool, layers: int, oversample: int
) -> tuple[Tensor, Tensor]:
    samples = n_samples(pixels, layers, oversample)
    return inputs[0].new_empty(samples, 3), inputs[0].new_empty(samples, inputs[3].shape[0])


@torch.library.custom_op("nbtorch::rays_gradient", mutates_args=(), device_types="cpu")
def rays_gradient(
    grad_diffracted: Tensor,
    grad_weight: Tensor,
    inputs: Sequence[Tensor],
    pixels: Sequence[Tensor],
    point_pixel: bool,
    polarized: bool,
    layers: int,
    oversample: int,
) -> list[Tensor]:
    """dL/d(argument) for each of ARGUMENTS."""
    arguments, structure = _arguments(inputs, pixels, point_pixel, polarized, layers, oversample)
    samples = n_samples(pixels, layers, oversample)
    outputs = {"grad_diffracted": (samples, 3), "grad_weight": (samples, len(inputs[3]))}
    library.check_shapes({"grad_diffracted": grad_diffracted, "grad_weight": grad_weight}, outputs)
    arguments.give(grad_diffracted=grad_diffracted, grad_weight=grad_weight)
    results = [torch.zeros(tensor.shape, dtype=torch.float64, device="cpu") for tensor in inputs]
    library.Arguments(structure.grad, arguments).result(**present(results))
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
    pixels: Sequence[Tensor],
    point_pixel: bool,
    polarized: bool,
    layers: int,
    oversample: int,
) -> list[Tensor]:
    """[diffracted, weight, their tangents [T, P, 3] and [T, P, S]] for ``tangents`` of ARGUMENTS, None for zero."""
    arguments, structure = _arguments(inputs, pixels, point_pixel, polarized, layers, oversample)
    moving = present(tangents)
    shapes = {name: (n_tangents, *shape) for name, shape in _shapes(inputs, pixels, oversample > 0).items()}
    library.check_shapes(moving, shapes)
    library.Arguments(structure.dot, arguments).give(**moving)
    arguments.integers(n_tangents=n_tangents)
    samples = n_samples(pixels, layers, oversample)
    sizes = [(samples, 3), (samples, len(inputs[3]))]
    values = [torch.empty(size, dtype=torch.float64, device="cpu") for size in sizes]
    results = [*values, *(torch.empty(n_tangents, *size, dtype=torch.float64, device="cpu") for size in sizes)]
    names = ("diffracted", "weight", "dot_diffracted", "dot_weight")
    arguments.result(**dict(zip(names, results, strict=True)))
    _call(structure, "tangents")
    return [result.to(inputs[0].dtype) for result in results]


@rays_tangents.register_fake
def _(
    inputs: Sequence[Tensor],
    tangents: Sequence[Tensor | None],
    n_tangents: int,
    pixels: Sequence[Tensor],
    point_pixel: bool,
    polarized: bool,
    layers: int,
    oversample: int,
) -> list[Tensor]:
    samples = n_samples(pixels, layers, oversample)
    shapes = [(samples, 3), (samples, inputs[3].shape[0])]
    return [inputs[0].new_empty(shape) for shape in (*shapes, *((n_tangents, *shape) for shape in shapes))]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    tensors, pixels, *statics = inputs
    ctx.save_for_backward(*pixels, *tensors)
    ctx.n_pixels, ctx.statics = len(pixels), statics


def _backward(ctx: Any, grad_diffracted: Tensor, grad_weight: Tensor) -> tuple[Any, ...]:
    pixels, tensors = ctx.saved_tensors[: ctx.n_pixels], ctx.saved_tensors[ctx.n_pixels :]
    gradients = rays_gradient(grad_diffracted, grad_weight, tensors, pixels, *ctx.statics)
    return gradients, [None] * len(pixels), None, None, None, None


rays_value.register_autograd(_backward, setup_context=_save)
