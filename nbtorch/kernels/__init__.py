"""The two fused operators, each behind one signature whatever the backend."""

from torch import Tensor

from nbtorch.kernels import reference
from nbtorch.kernels.reference import BeamFrame, PanelFrames, RaySettings, Samples, lattice_sum


def pixel_rays(
    panels: PanelFrames, beam: BeamFrame, samples: Samples, settings: RaySettings, backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    """See :func:`nbtorch.kernels.reference.pixel_rays`."""
    return reference.pixel_rays(panels, beam, samples, settings)


__all__ = ["lattice_sum", "pixel_rays"]
