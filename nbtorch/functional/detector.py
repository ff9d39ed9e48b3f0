"""Where a sample of a pixel lies, and the solid angle it sees. Positions in mm, lab frame."""

from __future__ import annotations

import torch
from torch import Tensor

from nbtorch.functional.rotation import rotate_about_axis
from nbtorch.units import METRES_PER_MM


def sample_position(frame: Tensor, pixel_size: Tensor, fast: Tensor, slow: Tensor, depth: Tensor) -> Tensor:
    """position: [P, 3] mm, lab frame = origin + fast·f + slow·s + depth·normal.

    frame: [P, 4, 3] rows fast, slow, normal, origin (mm). pixel_size: [P, 2] mm. fast, slow: [P] pixels, (0, 0) at
    the corner of the first pixel. depth: [P] mm into the sensor.
    """
    along = torch.stack([fast * pixel_size[:, 0], slow * pixel_size[:, 1], depth], dim=-1)
    return (along[:, :, None] * frame[:, :3]).sum(1) + frame[:, 3]


def curve(position: Tensor, frame: Tensor, beam_axis: Tensor, distance: float | None = None) -> Tensor:
    """position: [P, 3] mm of a detector bent into a sphere around the sample.

    Every pixel lies at ``distance`` along the beam, rotated about the slow axis by position_y/distance, then about
    the fast axis by position_z/distance. ``distance`` (mm) is by default where the beam meets the plane. nanoBragg:
    the second and third LAB components of the flat position are taken, whatever the axes are.
    """
    fast, slow, normal, origin = frame.unbind(1)
    radius = (origin * normal).sum(-1) / (normal * beam_axis).sum(-1)
    if distance is not None:
        radius = torch.full_like(radius, distance)
    centre = radius[:, None] * beam_axis
    turned = rotate_about_axis(centre, slow, position[:, 1] / radius)
    return rotate_about_axis(turned, fast, position[:, 2] / radius)


def solid_angle(airpath: Tensor, close_distance: Tensor, area: Tensor, *, point_pixel: bool = False) -> Tensor:
    """omega: [P] sr = area/airpath² · close_distance/airpath; airpath, close_distance: [P] mm, area: [P] mm².

    nanoBragg: a point pixel's is 1/airpath² with airpath in metres, not a solid angle.
    """
    if point_pixel:
        return 1 / (airpath * METRES_PER_MM) ** 2
    return area * close_distance / airpath**3
