"""Rotations of vectors in the lab frame: axis and angle, rotation vector, misset. Angles in radians."""

from __future__ import annotations

import torch
from torch import Tensor

from nbtorch.functional.lattice import sinc


def skew(vector: Tensor) -> Tensor:
    """The matrix [..., 3, 3] of the cross product: skew(v) @ x = v × x, for v [..., 3]."""
    eye = torch.eye(3, dtype=vector.dtype, device=vector.device)
    columns = torch.linalg.cross(vector[..., None, :].expand(*vector.shape[:-1], 3, 3), eye.expand(*vector.shape, 3))
    return columns.transpose(-1, -2)


def rotation_matrix(rotation_vector: Tensor) -> Tensor:
    """R [..., 3, 3] for column vectors, from rotation vectors [..., 3] (radians). Rodrigues' formula.

    Written with sin θ/θ and ½(sin ½θ/½θ)², so that value and gradient are regular at zero rotation.
    """
    squared = (rotation_vector**2).sum(-1)
    # sqrt has no derivative at 0; below 1e-12 the two factors are their limits to double precision
    tiny = squared < 1e-12
    angle = torch.sqrt(torch.where(tiny, 1, squared))
    whole, half = sinc(torch.stack([angle, angle / 2]))
    first = torch.where(tiny, 1 - squared / 6, whole)
    second = torch.where(tiny, 0.5 - squared / 24, 0.5 * half**2)
    k = skew(rotation_vector)
    eye = torch.eye(3, dtype=k.dtype, device=k.device)
    return eye + first[..., None, None] * k + second[..., None, None] * (k @ k)


def axis_rotation(axis: Tensor, angle: Tensor) -> Tensor:
    """R [..., 3, 3] about unit ``axis`` [..., 3] by ``angle`` [...] (radians), right-handed."""
    k = skew(axis)
    sine, versine = torch.sin(angle)[..., None, None], (1 - torch.cos(angle))[..., None, None]
    eye = torch.eye(3, dtype=k.dtype, device=k.device)
    return eye + sine * k + versine * (k @ k)


def rotate_about_axis(vector: Tensor, axis: Tensor, angle: Tensor) -> Tensor:
    """``vector`` [..., 3] turned about unit ``axis`` [..., 3] by ``angle`` [...] (radians)."""
    cosine, sine = torch.cos(angle)[..., None], torch.sin(angle)[..., None]
    along = (axis * vector).sum(-1, keepdim=True)
    axis = axis.expand_as(vector)
    return vector * cosine + torch.linalg.cross(axis, vector) * sine + axis * along * (1 - cosine)


def misset_matrix(angles: Tensor) -> Tensor:
    """R [3, 3] of rotations about lab x, then y, then z by ``angles`` [3] (radians)."""
    eye = torch.eye(3, dtype=angles.dtype, device=angles.device)
    x, y, z = axis_rotation(eye, angles)
    return z @ y @ x


def unit(vector: Tensor) -> Tensor:
    """``vector`` [..., 3] scaled to length 1."""
    return vector / vector.norm(dim=-1, keepdim=True)
