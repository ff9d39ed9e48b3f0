"""The two fused operators, each behind one signature whatever the backend."""

from nbtorch.kernels.dispatch import lattice_sum
from nbtorch.kernels.reference import pixel_rays

__all__ = ["lattice_sum", "pixel_rays"]
