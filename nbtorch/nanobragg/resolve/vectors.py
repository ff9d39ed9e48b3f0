"""Three-vectors as plain float tuples, in double precision: what placing one detector needs, and no more."""

from __future__ import annotations

import math

from nbtorch.config import Vec3
from nbtorch.errors import GeometryError


def dot(a: Vec3, b: Vec3) -> float:
    """a·b."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Vec3, b: Vec3) -> Vec3:
    """a × b."""
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def scale(a: Vec3, factor: float) -> Vec3:
    """factor·a."""
    return a[0] * factor, a[1] * factor, a[2] * factor


def add(a: Vec3, b: Vec3) -> Vec3:
    """a + b."""
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def length(a: Vec3) -> float:
    """|a|, summed as squares: whether this is exactly 1 decides about the detector normal, and hypot rounds apart."""
    return math.sqrt(dot(a, a))


def unit(a: Vec3, name: str = "a direction") -> Vec3:
    """a/|a|. Raises GeometryError for a vector of no length."""
    size = length(a)
    if not math.isfinite(size) or size == 0:
        raise GeometryError(f"{name} {a}", "it has no direction", "Give a finite vector that is not zero")
    return a[0] / size, a[1] / size, a[2] / size


def rotate(a: Vec3, axis: Vec3, degrees: float) -> Vec3:
    """a turned about unit ``axis`` by ``degrees``, right-handed (Rodrigues)."""
    angle = math.radians(degrees)
    sine, cosine = math.sin(angle), math.cos(angle)
    along = scale(axis, dot(axis, a) * (1 - cosine))
    return add(add(scale(a, cosine), scale(cross(axis, a), sine)), along)


def rotate_xyz(a: Vec3, degrees: Vec3) -> Vec3:
    """a turned about lab x, then y, then z by ``degrees``."""
    for axis, angle in zip(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), degrees, strict=True):
        a = rotate(a, axis, angle)
    return a
