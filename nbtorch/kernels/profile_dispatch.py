"""Which way the closed form is summed: where there is light, or everywhere."""

from __future__ import annotations

from torch import Tensor

from nbtorch.errors import ConfigError
from nbtorch.kernels import profile_reference, profile_sparse, reference
from nbtorch.kernels.direct import transforming
from nbtorch.kernels.profile_reference import ProfileSettings, ProfileTensors
from nbtorch.kernels.reference import BeamFrame, PanelFrames, RaySettings, SampleGrid


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

    source_weight: [S]. Differentiable in every tensor. Backend "auto" computes what has light; "reference", and what
    ``torch.func`` transforms, computes all. Raises ConfigError for backend "native": the closed form has no C kernel.
    """
    if settings.backend == "native":
        raise ConfigError("backend='native' with averaging='closed'", "it has no C kernel", "Use backend='auto'")
    if settings.backend == "auto" and settings.culling > 0 and not transforming():
        return profile_sparse.profile_sum(panels, beam, samples, source_weight, tensors, rays, settings)
    weight, sums = profile_reference.profile_rays(panels, beam, samples, rays, tensors, settings)
    return reference.sum_in_pixels(weight * source_weight, sums, samples.layers * samples.oversample**2)
