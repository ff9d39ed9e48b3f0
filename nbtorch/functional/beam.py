"""Point sources of a divergent, polychromatic beam."""

from __future__ import annotations

import torch
from torch import Tensor

from nbtorch.functional.rotation import rotate_about_axis, unit


def divergent_directions(axis: Tensor, polarization_axis: Tensor, angles: Tensor) -> Tensor:
    """incident: [D, 3] unit vectors of travel for divergence ``angles`` [D, 2] = (horizontal, vertical), radians.

    nanoBragg: the source, at −axis, is turned about the polarization vector by the vertical angle, then about
    unit(axis × polarization) by the horizontal one. axis, polarization_axis: [3] unit.
    """
    vertical = unit(torch.linalg.cross(axis, polarization_axis))
    horizontal_angle, vertical_angle = angles.unbind(-1)
    source = -axis.expand(len(angles), 3)
    source = rotate_about_axis(source, polarization_axis, vertical_angle)
    return -rotate_about_axis(source, vertical, horizontal_angle)


def sources(directions: Tensor, wavelengths: Tensor) -> tuple[Tensor, Tensor]:
    """incident [D·W, 3] and wavelength [D·W]: every direction [D, 3] at every wavelength [W], wavelength innermost."""
    count = len(wavelengths)
    return directions.repeat_interleave(count, dim=0), wavelengths.repeat(len(directions))
