"""dxtbx goniometers and scans.

R(phi) = setting · rotation(axis, phi) · fixed. A goniometer of several axes lists them from the crystal to the base:
those before ``scan_axis`` make the fixed rotation (the later one on the left), those after it the setting rotation.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nbtorch.config import IDENTITY, GoniometerConfig, Mat3, ScanConfig, Vec3
from nbtorch.io.expt.node import Node, rows3


def read_goniometer(node: Node) -> GoniometerConfig:
    """A goniometer of the document, with one axis or several. Raises FileError for a scan axis it does not have."""
    if node.has("axes"):
        return _multi_axis(node)
    return GoniometerConfig(
        axis=_axis(node["rotation_axis"]),
        fixed_rotation=_rotation(node, "fixed_rotation"),
        setting_rotation=_rotation(node, "setting_rotation"),
    )


def read_scan(node: Node) -> ScanConfig:
    """A scan of the document: start and width of an image, or the list of starts that newer dxtbx writes."""
    first, last = (value.integer() for value in node["image_range"].items(2))
    if last < first:
        node["image_range"].fail(f"the last image, {last}, comes before the first, {first}")
    start, width = _oscillation(node, last - first + 1)
    return ScanConfig(start, width, last - first + 1, first)


def rotation(axis: Vec3, degrees: float) -> NDArray[np.float64]:
    """The matrix [3, 3] that turns column vectors about ``axis`` (Rodrigues)."""
    x, y, z = np.asarray(axis, dtype=float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _multi_axis(node: Node) -> GoniometerConfig:
    axes = [_axis(item) for item in node["axes"].items()]
    angles = node["angles"].numbers(len(axes))
    scan_axis = node["scan_axis"].integer()
    if not 0 <= scan_axis < len(axes):
        node["scan_axis"].fail(f"there are {len(axes)} axes, so it cannot be {scan_axis}")
    turns = [rotation(axis, angle) for axis, angle in zip(axes, angles, strict=True)]
    return GoniometerConfig(
        axis=axes[scan_axis],
        fixed_rotation=_product(turns[:scan_axis]),
        setting_rotation=_product(turns[scan_axis + 1 :]),
    )


def _product(turns: list[NDArray[np.float64]]) -> Mat3:
    total = np.eye(3)
    for turn in turns:
        total = turn @ total
    return rows3(total.ravel().tolist())


def _axis(node: Node) -> Vec3:
    x, y, z = node.vec3()
    length = math.sqrt(x * x + y * y + z * z)
    if not length > 0:
        node.fail("a rotation axis needs a length")
    return x / length, y / length, z / length  # headers round an axis to a few digits


def _rotation(node: Node, key: str) -> Mat3:
    if not node.has(key):
        return IDENTITY
    matrix = node[key].mat3()
    # 1e-5: older programs wrote seven digits.
    if not np.allclose(np.array(matrix) @ np.array(matrix).T, np.eye(3), atol=1e-5) or np.linalg.det(matrix) < 0:
        node[key].fail("it is not a rotation")
    return matrix


def _oscillation(node: Node, n_images: int) -> tuple[float, float]:
    """(start, width) in degrees of the first image."""
    properties = node["properties"] if node.has("properties") else node
    if not properties.has("oscillation"):
        return 0.0, 0.0
    listed = properties["oscillation"]
    if properties is node:
        start, width = listed.numbers(2)
        return start, width
    starts = listed.numbers(n_images)
    if n_images == 1:
        width_of_one = properties["oscillation_width"].items() if properties.has("oscillation_width") else ()
        return starts[0], width_of_one[0].number() if width_of_one else 0.0
    steps = np.diff(starts)
    # 1e-6 deg: starts are written with rounding, a scan of unequal steps is another experiment.
    if np.ptp(steps) > 1e-6:
        listed.fail("the images of the scan turn by different angles, which one scan cannot describe")
    return starts[0], float((starts[-1] - starts[0]) / (n_images - 1))
