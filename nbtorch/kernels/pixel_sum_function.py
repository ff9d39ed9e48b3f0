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
    def flat(self) -> tuple[Any, ...]:
        """The operators' last arguments."""
        return *self.rays.flat, *self.lattice.flat


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
        rays, lattice = tensors[:N_RAYS], flat_tensors((None, *tensors[N_RAYS:]))
        value: Tensor = direct(pixel_sum_op.pixel_sum_value)(rays, lattice, source_weight, *statics.flat)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved, needed = ctx.saved_tensors, ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():  # the gradient will be differentiated
            wanted = [t for t, need in zip(saved, needed, strict=True) if need]
            value = _in_two_operators(ctx.statics, saved)
            found = iter(torch.autograd.grad(value, wanted, grad, create_graph=True, materialize_grads=True))
            return (None, *(next(found) if need else None for need in needed))
        source_weight, rays = saved[0], saved[1 : 1 + N_RAYS]
        lattice = flat_tensors((None, *saved[1 + N_RAYS :]))
        wanted = [*needed[1 : 1 + N_RAYS], False, *needed[1 + N_RAYS :], needed[0]]
        gradients = direct(pixel_sum_op.pixel_sum_gradient)(
            grad, rays, lattice, source_weight, *ctx.statics.flat, wanted
        )
        ordered = (gradients[-1], *gradients[:N_RAYS], *gradients[N_RAYS + 1 : -1])
        return (None, *(g if need else None for g, need in zip(ordered, needed, strict=True)))
