"""The native pixel rays as an autograd function, like :mod:`nbtorch.kernels.lattice_function`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nbtorch.functional import absorption, detector
from nbtorch.kernels.batching import apply_one_by_one, batch_size, leading
from nbtorch.kernels.direct import direct
from nbtorch.kernels.native import rays_op
from nbtorch.kernels.reference import RaySettings, SampleGrid, Samples

N_TENSORS = len(rays_op.ARGUMENTS)


@dataclass(frozen=True)
class RayStatics:
    """What of the rays cannot be differentiated. Not a tuple: ``vmap`` would look inside."""

    pixels: tuple[Tensor, ...]  # panel [P], or panel, slow, fast [pixels] of a grid
    point_pixel: bool
    polarized: bool
    layers: int = 0  # of a grid
    oversample: int = 0

    @property
    def flat(self) -> tuple[tuple[Tensor, ...], bool, bool, int, int]:
        """The operators' last arguments."""
        return self.pixels, self.point_pixel, self.polarized, self.layers, self.oversample

    @classmethod
    def of(cls, samples: Samples | SampleGrid, settings: RaySettings) -> RayStatics:
        """Statics of ``samples``."""
        choices = settings.point_pixel, settings.polarized
        if isinstance(samples, SampleGrid):
            return cls((samples.panel, samples.slow, samples.fast), *choices, samples.layers, samples.oversample)
        return cls((samples.panel,), *choices)

    def listed(self, fast: Tensor, slow: Tensor, depth: Tensor, layer: Tensor, layer_step: Tensor) -> Samples:
        """The samples written out, from the last of the operators' tensors."""
        if self.oversample:
            panel, of_slow, of_fast = self.pixels
            return SampleGrid(panel, of_slow, of_fast, layer_step, self.layers, self.oversample).listed()
        return Samples(self.pixels[0], fast, slow, depth, layer)


def sample_tensors(samples: Samples | SampleGrid) -> tuple[Tensor, ...]:
    """fast, slow, depth, layer and layer_step of ``samples`` as the operators take them."""
    if isinstance(samples, SampleGrid):
        none = samples.layer_step.new_empty(0)
        return none, none, none, none, samples.layer_step
    return (*samples[1:], samples.fast.new_empty(0))


def rays_from_axes(statics: RayStatics, tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """(diffracted [P, 3], weight [P, S]) in PyTorch, of the operators' arguments; for derivatives of derivatives."""
    frames, sizes, absorptions, incident, along_e, along_b, kahn, *places = tensors
    panel, fast, slow, depth, layer = statics.listed(*places)
    frame, size = frames[panel], sizes[panel]
    position = detector.sample_position(frame, size, fast, slow, depth)
    airpath = position.norm(dim=-1)
    diffracted = position / airpath[:, None]
    close = (frame[:, 3] * frame[:, 2]).sum(-1)
    omega = detector.solid_angle(airpath, close, size.prod(-1), point_pixel=statics.point_pixel)
    capture = absorption.capture(diffracted, frame[:, 2], depth, layer, absorptions[panel])
    weight = (capture * omega)[:, None].expand(-1, len(incident))
    if statics.polarized:
        cosine, e, b = (diffracted @ axes.transpose(-1, -2) for axes in (incident, along_e, along_b))
        weight = weight * (0.5 * (1 + cosine**2 - kahn * (e**2 - b**2)))
    return diffracted, weight


class PixelRays(torch.autograd.Function):
    """(statics, frame, …, layer) → (diffracted, weight)."""

    @staticmethod
    def forward(statics: RayStatics, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        diffracted, weight = direct(rays_op.rays_value)(tensors, *statics.flat)
        return diffracted, weight

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.statics = inputs[0]
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gradients = RayGradient.apply(ctx.statics, *grads, *ctx.saved_tensors)
        return (None, *(g if needed else None for g, needed in zip(gradients, ctx.needs_input_grad[1:], strict=True)))

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor) -> tuple[Tensor, Tensor]:
        moved: tuple[Tensor, Tensor] = RayTangent.apply(ctx.statics, *ctx.saved_tensors, *tangents)
        return moved

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
        return apply_one_by_one(PixelRays, in_dims, arguments)


class RayGradient(torch.autograd.Function):
    """(statics, dL/d(diffracted), dL/d(weight), tensors…) → dL/d(tensors). Its own derivative is PyTorch's."""

    @staticmethod
    def forward(
        statics: RayStatics, grad_diffracted: Tensor, grad_weight: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        return tuple(direct(rays_op.rays_gradient)(grad_diffracted, grad_weight, tensors, *statics.flat))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.statics = inputs[0]
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        live = [t.detach().requires_grad_() for t in ctx.saved_tensors]
        with torch.enable_grad():
            outputs = rays_from_axes(ctx.statics, live[2:])
            firsts = torch.autograd.grad(outputs, live[2:], live[:2], create_graph=True, materialize_grads=True)
        outputs, weights = zip(*((f, w) for f, w in zip(firsts, grads, strict=True) if f.requires_grad), strict=True)
        return (None, *torch.autograd.grad(outputs, live, weights, materialize_grads=True))

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
        return apply_one_by_one(RayGradient, in_dims, arguments)


class RayTangent(torch.autograd.Function):
    """(statics, tensors…, tangents…) → tangents of (diffracted, weight). A batch at one point is one kernel call."""

    @staticmethod
    def forward(statics: RayStatics, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        single = [tangent[None] for tangent in arguments[N_TENSORS:]]
        _, _, diffracted, weight = direct(rays_op.rays_tangents)(arguments[:N_TENSORS], single, 1, *statics.flat)
        return diffracted[0], weight[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        return None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
        statics, tensors = arguments[0], arguments[1 : N_TENSORS + 1]
        if any(dim is not None for dim in in_dims[: N_TENSORS + 1]):
            return apply_one_by_one(RayTangent, in_dims, arguments)
        size = batch_size(in_dims, arguments)
        moved = zip(arguments[N_TENSORS + 1 :], in_dims[N_TENSORS + 1 :], strict=True)
        tangents = [leading(tangent, dim, size) for tangent, dim in moved]
        _, _, diffracted, weight = direct(rays_op.rays_tangents)(tensors, tangents, size, *statics.flat)
        return (diffracted, weight), (0, 0)
