"""The native closed form as an autograd function, like :mod:`nbtorch.kernels.rays_function`.

Reverse mode, dual numbers and ``torch.func``; ``jacfwd`` hands all its tangents to one kernel call. What is
differentiated twice goes through the definition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nbtorch.functional import detector
from nbtorch.functional.structure_factor import StructureFactorTable
from nbtorch.kernels import profile_reference
from nbtorch.kernels.batching import apply_one_by_one, batch_size, leading
from nbtorch.kernels.direct import direct
from nbtorch.kernels.native import profile_op
from nbtorch.kernels.native.profile_op import N_TENSORS
from nbtorch.kernels.profile_reference import ProfileSettings, ProfileTensors
from nbtorch.kernels.rays_function import RayStatics, rays_from_axes
from nbtorch.kernels.reference import PanelFrames, RaySettings, SampleGrid, sum_in_pixels


@dataclass(frozen=True)
class ProfileStatics:
    """What of the closed form cannot be differentiated. Not a tuple: ``vmap`` would look inside."""

    rays: RayStatics
    settings: ProfileSettings
    first: tuple[int, int, int] | None  # of the table; None without one

    @classmethod
    def of(
        cls, samples: SampleGrid, rays: RaySettings, settings: ProfileSettings, table: StructureFactorTable | None
    ) -> ProfileStatics:
        """Statics of ``samples``."""
        return cls(RayStatics.of(samples, rays), settings, None if table is None else table.first)

    @property
    def flat(self) -> tuple[tuple[Tensor, ...], list[int], list[float]]:
        """The operators' last arguments."""
        rays, chosen = self.rays, self.settings
        choices = [rays.layers, rays.oversample, rays.point_pixel, rays.polarized, chosen.iterated]
        limits = [chosen.default_F, chosen.dmin, chosen.span, chosen.cut]
        return rays.pixels, [*map(int, choices), *chosen.reach, *(self.first or (0, 0, 0))], limits


def _definition(statics: ProfileStatics, tensors: Sequence[Tensor]) -> Tensor:
    """The sum [pixels] of the operators' arguments in PyTorch, for derivatives of derivatives."""
    of_rays, (weight, *profile, table) = tensors[:8], tensors[8:]
    frame, pixel_size, absorption, layer_step, incident, along_e, along_b, kahn = of_rays
    none = layer_step.new_empty(0)
    places = (none, none, none, none, layer_step)
    ordered = (frame, pixel_size, absorption, incident, along_e, along_b, kahn, *places)
    of_samples = rays_from_axes(statics.rays, ordered)[1]
    panel, fast, slow, depth, _ = statics.rays.listed(*places)
    position = detector.sample_position(frame[panel], pixel_size[panel], fast, slow, depth)
    amplitudes = None if statics.first is None else StructureFactorTable(table, statics.first)
    given = ProfileTensors(*profile, table=amplitudes)  # type: ignore[misc, arg-type]
    spread = profile_reference.place_covariance(PanelFrames(frame, pixel_size, absorption), panel, given.pixel)
    terms = profile_reference.profile_terms(position, spread, incident, given, statics.settings)
    sums = profile_reference.profile_intensities(terms, given.scale)
    return sum_in_pixels(of_samples * weight, sums, statics.rays.layers * statics.rays.oversample**2)


class ProfileSum(torch.autograd.Function):
    """(statics, tensors of profile_op.ARGUMENTS) → [pixels]."""

    @staticmethod
    def forward(statics: ProfileStatics, *tensors: Tensor) -> Tensor:
        value: Tensor = direct(profile_op.profile_value)(tensors, *statics.flat)
        return value

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.statics = inputs[0]
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved, needed = ctx.saved_tensors, ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():  # the gradient will be differentiated
            wanted = [t for t, need in zip(saved, needed, strict=True) if need]
            value = _definition(ctx.statics, saved)
            found = iter(torch.autograd.grad(value, wanted, grad, create_graph=True, materialize_grads=True))
            return (None, *(next(found) if need else None for need in needed))
        gradients = direct(profile_op.profile_gradient)(grad, saved, *ctx.statics.flat, list(needed))
        return (None, *(g if need else None for g, need in zip(gradients, needed, strict=True)))

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor) -> Tensor:
        moved: Tensor = ProfileTangent.apply(ctx.statics, *ctx.saved_tensors, *tangents)
        return moved

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
        return apply_one_by_one(ProfileSum, in_dims, arguments)


class ProfileTangent(torch.autograd.Function):
    """(statics, tensors…, tangents…) → the tangent [pixels]. A batch at one point is one kernel call."""

    @staticmethod
    def forward(statics: ProfileStatics, *arguments: Tensor) -> Tensor:
        single = [tangent[None] for tangent in arguments[N_TENSORS:]]
        _, columns = direct(profile_op.profile_tangents)(arguments[:N_TENSORS], single, 1, *statics.flat)
        tangent: Tensor = columns[0]
        return tangent

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        return None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
        statics, tensors = arguments[0], arguments[1 : N_TENSORS + 1]
        if any(dim is not None for dim in in_dims[: N_TENSORS + 1]):
            return apply_one_by_one(ProfileTangent, in_dims, arguments)
        size = batch_size(in_dims, arguments)
        moved = zip(arguments[N_TENSORS + 1 :], in_dims[N_TENSORS + 1 :], strict=True)
        tangents = [leading(tangent, dim, size) for tangent, dim in moved]
        _, columns = direct(profile_op.profile_tangents)(tensors, tangents, size, *statics.flat)
        return columns, 0
