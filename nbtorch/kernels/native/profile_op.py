"""``torch.ops.nbtorch.profile_*``: the closed form in C, its gradient and its tangents, known to PyTorch as operators.

``inputs`` are the tensors of ARGUMENTS, the table last and empty where there is none. ``pixels`` = (panel, slow, fast)
[pixels] each. ``choices`` = (layers, oversample, point_pixel, polarized, iterated, reach ×3, first ×3); ``limits`` =
(default_F, dmin, span, cut).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nbtorch.kernels.native import library

KINDS = {"value": 0, "gradient": 1, "tangents": 2}
ARGUMENTS = tuple(field[0] for field in library.ProfileInputs._fields_)
N_TENSORS = len(ARGUMENTS)
_DIVERGENCE, _PIXEL, _TABLE = (ARGUMENTS.index(name) for name in ("divergence", "pixel", "table"))


def _shapes(inputs: Sequence[Tensor]) -> list[tuple[int, ...]]:
    """The shapes that ARGUMENTS must have, from how many panels, sources and pieces there are."""
    n, s, k = len(inputs[0]), len(inputs[4]), len(inputs[ARGUMENTS.index("basis")])
    table = tuple(inputs[_TABLE].shape) if inputs[_TABLE].dim() == 3 else (0,)
    of_panels: list[tuple[int, ...]] = [(n, 4, 3), (n, 2), (n,), (n,)]
    of_sources: list[tuple[int, ...]] = [(s, 3), (s, 3), (s, 3), (), (s,), (s,), (s,), (s, 3, 3)]
    of_crystal: list[tuple[int, ...]] = [(k, 3, 3), (k, 3, 3), (3,), (3, 3), (3,), (), ()]
    return [*of_panels, *of_sources, *of_crystal, table]


def _present(tensors: Sequence[Tensor | None]) -> dict[str, Tensor]:
    return {name: t for name, t in zip(ARGUMENTS, tensors, strict=True) if t is not None and t.numel()}


def _arguments(
    inputs: Sequence[Tensor],
    pixels: Sequence[Tensor],
    choices: Sequence[int],
    limits: Sequence[float],
    wanted: Sequence[bool],
) -> library.Arguments:
    """The C structure with every input filled in, once their shapes are known to fit.

    A spread that is zero costs nothing, unless its derivative is ``wanted``.
    """
    shapes = _shapes(inputs)
    library.check_shapes(dict(zip(ARGUMENTS, inputs, strict=True)), dict(zip(ARGUMENTS, shapes, strict=True)))
    places = dict(zip(("panel", "slow", "fast"), pixels, strict=True))
    library.check_shapes(places, dict.fromkeys(places, (len(pixels[0]),)))
    structure = library.ProfileArgs()
    arguments = library.Arguments(structure)
    library.Arguments(structure.inputs, arguments).give(**_present(inputs))
    arguments.result(**{name: place.to(torch.int64).contiguous() for name, place in places.items()})
    layers, oversample, point_pixel, polarized, iterated, *triples = choices
    table = shapes[-1] if len(shapes[-1]) == 3 else (0, 0, 0)
    arguments.integers(
        n_pixels=len(pixels[0]),
        n_panels=len(inputs[0]),
        n_sources=len(inputs[4]),
        n_pieces=shapes[ARGUMENTS.index("basis")][0],
        n_threads=torch.get_num_threads(),
        layers=layers,
        oversample=oversample,
        point_pixel=point_pixel,
        polarized=polarized,
        iterated=iterated,
        divergence=int(wanted[_DIVERGENCE] or bool(inputs[_DIVERGENCE].any())),
        place=int(wanted[_PIXEL] or bool(inputs[_PIXEL] != 0)),
        reach=triples[:3],
        first=triples[3:],
        count=table,
    )
    structure.default_F, structure.dmin, structure.span, structure.cut = limits
    return arguments


def _call(structure: Any, kind: str) -> None:
    if structure.n_pixels == 0:
        return
    failed = library.require().nbt_profile(ctypes.byref(structure), KINDS[kind])
    if failed == 2:
        raise IndexError(f"a pixel lies on a panel that is not one of the {structure.n_panels} given")
    if failed:
        raise MemoryError("the closed form's C kernel could not allocate its working memory")


@torch.library.custom_op("nbtorch::profile_value", mutates_args=(), device_types="cpu")
def profile_value(
    inputs: Sequence[Tensor], pixels: Sequence[Tensor], choices: Sequence[int], limits: Sequence[float]
) -> Tensor:
    """The sum [pixels]; see :func:`nbtorch.kernels.profile_sum`."""
    arguments = _arguments(inputs, pixels, choices, limits, [False] * N_TENSORS)
    value = torch.zeros(len(pixels[0]), dtype=torch.float64, device="cpu")
    arguments.result(value=value)
    _call(arguments.structure, "value")
    return value.to(inputs[0].dtype)


@profile_value.register_fake
def _(inputs: Sequence[Tensor], pixels: Sequence[Tensor], *_: Any) -> Tensor:
    return inputs[0].new_empty(pixels[0].shape[0])


@torch.library.custom_op("nbtorch::profile_gradient", mutates_args=(), device_types="cpu")
def profile_gradient(
    grad: Tensor,
    inputs: Sequence[Tensor],
    pixels: Sequence[Tensor],
    choices: Sequence[int],
    limits: Sequence[float],
    wanted: Sequence[bool],
) -> list[Tensor]:
    """dL/d(argument) for each of ``inputs``, from ``grad`` = dL/d(value) [pixels]; zero where not ``wanted``.

    Those of the covariances are symmetric.
    """
    arguments = _arguments(inputs, pixels, choices, limits, wanted)
    library.check_shapes({"grad": grad}, {"grad": (len(pixels[0]),)})
    arguments.give(grad=grad)
    results = [torch.zeros(tensor.shape, dtype=torch.float64, device="cpu") for tensor in inputs]
    asked = [result if want else None for result, want in zip(results, wanted, strict=True)]
    library.Arguments(arguments.structure.to, arguments).result(**_present(asked))
    _call(arguments.structure, "gradient")
    return [result.to(of.dtype) for result, of in zip(results, inputs, strict=True)]


@profile_gradient.register_fake
def _(grad: Tensor, inputs: Sequence[Tensor], *_: Any) -> list[Tensor]:
    return [tensor.new_empty(tensor.shape) for tensor in inputs]


@torch.library.custom_op("nbtorch::profile_tangents", mutates_args=(), device_types="cpu")
def profile_tangents(
    inputs: Sequence[Tensor],
    tangents: Sequence[Tensor | None],
    n_tangents: int,
    pixels: Sequence[Tensor],
    choices: Sequence[int],
    limits: Sequence[float],
) -> list[Tensor]:
    """[value [pixels], its tangents [T, pixels]] for ``tangents`` [T, …] of ARGUMENTS, None for zero."""
    arguments = _arguments(inputs, pixels, choices, limits, [tangent is not None for tangent in tangents])
    moving = _present(tangents)
    shapes = {name: (n_tangents, *shape) for name, shape in zip(ARGUMENTS, _shapes(inputs), strict=True)}
    library.check_shapes(moving, shapes)
    library.Arguments(arguments.structure.dot, arguments).give(**moving)
    arguments.integers(n_tangents=n_tangents)
    value = torch.zeros(len(pixels[0]), dtype=torch.float64, device="cpu")
    columns = torch.zeros(n_tangents, len(pixels[0]), dtype=torch.float64, device="cpu")
    arguments.result(value=value, tangent=columns)
    _call(arguments.structure, "tangents")
    return [value.to(inputs[0].dtype), columns.to(inputs[0].dtype)]


@profile_tangents.register_fake
def _(
    inputs: Sequence[Tensor], tangents: Sequence[Tensor | None], n_tangents: int, pixels: Sequence[Tensor], *_: Any
) -> list[Tensor]:
    pixel_count = pixels[0].shape[0]
    return [inputs[0].new_empty(pixel_count), inputs[0].new_empty(n_tangents, pixel_count)]


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    tensors, pixels, *statics = inputs
    ctx.save_for_backward(*pixels, *tensors)
    ctx.n_pixels, ctx.statics = len(pixels), statics
    ctx.wanted = [tensor.requires_grad for tensor in tensors]


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    pixels, tensors = ctx.saved_tensors[: ctx.n_pixels], ctx.saved_tensors[ctx.n_pixels :]
    gradients = profile_gradient(grad, tensors, pixels, *ctx.statics, ctx.wanted)
    return gradients, [None] * len(pixels), None, None


profile_value.register_autograd(_backward, setup_context=_save)
