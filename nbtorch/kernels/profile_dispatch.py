"""Which way the closed form is summed: in C, in PyTorch where there is light, or everywhere."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nbtorch.functional.polarization import polarization_axes
from nbtorch.kernels import profile_reference, profile_sparse, reference
from nbtorch.kernels.direct import transforming
from nbtorch.kernels.dispatch import uses_native
from nbtorch.kernels.native import profile_op
from nbtorch.kernels.profile_function import ProfileStatics, ProfileSum
from nbtorch.kernels.profile_reference import ProfileSettings, ProfileTensors
from nbtorch.kernels.reference import BeamFrame, PanelFrames, RaySettings, SampleGrid


def profile_in_c(tensors: Sequence[Tensor], rays: RaySettings, settings: ProfileSettings) -> bool:
    """Whether the C kernel serves, whose memory is O(pixels) also with its gradient.

    Raises ConfigError where "native" is asked for and cannot be had.
    """
    return uses_native(settings.backend, tensors) and not rays.curved


def profile_sum(
    panels: PanelFrames,
    beam: BeamFrame,
    samples: SampleGrid,
    source_weight: Tensor,
    tensors: ProfileTensors,
    rays: RaySettings,
    settings: ProfileSettings,
) -> Tensor:
    """Σ over the samples and sources of each pixel of source weight·ray weight·closed form [pixels].

    source_weight: [S]. Differentiable in every tensor, in reverse and forward mode and under ``torch.func``. Backend
    "auto" takes the C kernel where it can, else PyTorch where there is light; "reference" computes all.
    """
    *of_profile, table = tensors
    values = source_weight.new_empty(0) if table is None else table.values
    floats = (*panels, *beam, samples.layer_step, source_weight, *of_profile, values)
    if profile_in_c(floats, rays, settings):
        along_e, along_b = polarization_axes(beam.incident, beam.polarization_axis)
        of_rays = (*panels, samples.layer_step, beam.incident, along_e, along_b, beam.kahn_factor)
        statics = ProfileStatics.of(samples, rays, settings, table)
        inputs = (*of_rays, source_weight, *of_profile, values)
        if torch.compiler.is_compiling():  # the compiler knows operators, not functions with a forward rule
            value: Tensor = profile_op.profile_value(inputs, *statics.flat)
            return value
        summed: Tensor = ProfileSum.apply(statics, *inputs)
        return summed
    if settings.backend != "reference" and settings.culling > 0 and not transforming():
        return profile_sparse.profile_sum(panels, beam, samples, source_weight, tensors, rays, settings)
    weight, sums = profile_reference.profile_rays(panels, beam, samples, rays, tensors, settings)
    return reference.sum_in_pixels(weight * source_weight, sums, samples.layers * samples.oversample**2)
