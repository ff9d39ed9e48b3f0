"""The two fused operators, each behind one signature whatever the backend, and their Jacobian columns."""

from nbtorch.kernels.dispatch import lattice_sum, pixel_rays
from nbtorch.kernels.jacobian import LatticeTangents, RayTangents, lattice_jvp, pixel_rays_jvp

__all__ = ["LatticeTangents", "RayTangents", "lattice_jvp", "lattice_sum", "pixel_rays", "pixel_rays_jvp"]
