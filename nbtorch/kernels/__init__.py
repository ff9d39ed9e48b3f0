"""The fused operators, each behind one signature whatever the backend, and their Jacobian columns."""

from nbtorch.kernels.dispatch import fuses, lattice_sum, pixel_rays, pixel_sum
from nbtorch.kernels.jacobian import LatticeTangents, RayTangents, lattice_jvp, pixel_rays_jvp
from nbtorch.kernels.profile_dispatch import profile_in_c, profile_sum

__all__ = [
    "LatticeTangents",
    "RayTangents",
    "fuses",
    "lattice_jvp",
    "lattice_sum",
    "pixel_rays",
    "pixel_rays_jvp",
    "pixel_sum",
    "profile_in_c",
    "profile_sum",
]
