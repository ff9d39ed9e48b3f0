"""Which backend serves the closed form."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from nbtorch.kernels import profile_reference, reference
from nbtorch.kernels.profile_reference import ProfileSettings, ProfileTensors
from nbtorch.kernels.reference import BeamFrame, PanelFrames, RaySettings, SampleGrid


def profile_fuses(tensors: Sequence[Tensor], settings: ProfileSettings) -> bool:
    """Whether :func:`profile_sum` is one pass over ``tensors``, whose memory is O(pixels) also with its gradient."""
    return False


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

    source_weight: [S]. Differentiable in every tensor.
    """
    weight, sums = profile_reference.profile_rays(panels, beam, samples, rays, tensors, settings)
    return reference.sum_in_pixels(weight * source_weight, sums, samples.layers * samples.oversample**2)
