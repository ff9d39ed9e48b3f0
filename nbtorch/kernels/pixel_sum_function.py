"""The native pixel sum as an autograd function: reverse mode in one pass; what is differentiated twice, in two.

Forward mode and ``torch.func`` take the two operators from the start: :func:`nbtorch.kernels.dispatch.pixel_sum`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nbtorch.kernels.direct import direct
from nbtorch.kernels.lattice_function import LatticeStatics, LatticeSum
from nbtorch.kernels.native import pixel_sum_op
from nbtorch.kernels.native.lattice_op import flat_tensors
from nbtorch.kernels.rays_function import N_TENSORS as N_RAYS
from nbtorch.kernels.rays_function import PixelRays, RayStatics
from nbtorch.kernels.reference import sum_in_pixels


@dataclass(frozen=True)
class PixelSumStatics:
    """What of the two operators is not a tensor."""

    rays: RayStatics
    lattice: LatticeStatics

    @property
    def flat(self) -> tuple[tuple[Tensor, ...], list[int], list[float]]:
        """The operators' last arguments."""
        rays, lattice = self.rays, self.lattice
        of_rays = [int(rays.point_pixel), int(rays.polarized), rays.layers, rays.oversample]
        return rays.pixels, of_rays + lattice.choices, lattice.limits

    @staticmethod
    def inputs(source_weight: Tensor, tensors: Sequence[Tensor | None]) -> list[Tensor]:
        """Their tensors, from those of :class:`PixelSum`."""
        rays = [tensor for tensor in tensors[:N_RAYS] if tensor is not None]
        return [*rays, *flat_tensors((None, *tensors[N_RAYS:])), source_weight]


def _in_two_operators(statics: PixelSumStatics, tensors: Sequence[Any]) -> Tensor:
    """The sum [pixels] through functions that can be differentiated again."""
    source_weight, rays, lattice = tensors[0], tensors[1 : 1 + N_RAYS], tensors[1 + N_RAYS :]
    diffracted, weight = PixelRays.apply(statics.rays, *rays)
    sums = LatticeSum.apply(statics.lattice, diffracted, *lattice)
    return sum_in_pixels(weight * source_weight, sums, statics.rays.layers * statics.rays.oversample**2)


class PixelSum(torch.autograd.Function):
    """(statics, source weight, tensors of the rays, tensors of the lattice sum but ``diffracted``) → [pixels]."""

    @staticmethod
    def forward(ctx: Any, statics: PixelSumStatics, source_weight: Tensor, *tensors: Tensor | None) -> Tensor:
        ctx.statics = statics
        ctx.save_for_backward(source_weight, *tensors)
        value: Tensor = direct(pixel_sum_op.pixel_sum_value)(statics.inputs(source_weight, tensors), *statics.flat)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved, needed = ctx.saved_tensors, ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():  # the gradient will be differentiated
            wanted = [t for t, need in zip(saved, needed, strict=True) if need]
            value = _in_two_operators(ctx.statics, saved)
            found = iter(torch.autograd.grad(value, wanted, grad, create_graph=True, materialize_grads=True))
            return (None, *(next(found) if need else None for need in needed))
        wanted = [*needed[1 : 1 + N_RAYS], False, *needed[1 + N_RAYS :], needed[0]]
        inputs = ctx.statics.inputs(saved[0], saved[1:])
        gradients = direct(pixel_sum_op.pixel_sum_gradient)(grad, inputs, *ctx.statics.flat, wanted)
        ordered = (gradients[-1], *gradients[:N_RAYS], *gradients[N_RAYS + 1 : -1])
        return (None, *(g if need else None for g, need in zip(ordered, needed, strict=True)))
