"""The two fused operators, each behind one signature whatever the backend."""

from nbtorch.kernels.reference import lattice_sum, pixel_rays

__all__ = ["lattice_sum", "pixel_rays"]
