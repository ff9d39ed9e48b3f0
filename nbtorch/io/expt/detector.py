"""dxtbx detectors: a tree of groups whose leaves are panels, each frame given in the frame of its parent.

A frame is the matrix D = (fast | slow | normal | origin as columns, last row 0 0 0 1), in mm; a child's lab frame is
D(parent) · D(child). A flat detector has an identity root.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nbtorch.config import DetectorConfig, PanelConfig, PanelGroup, Vec3
from nbtorch.io.expt.node import Node

Matrix = NDArray[np.float64]
#: How dxtbx turns millimetres into pixels: whether each strategy corrects for the depth of the sensor. The strategies
#: with an offset also shift pixels by maps of the imageset (dx, dy), which are not applied here.
STRATEGIES = {
    "": False,
    "SimplePxMmStrategy": False,
    "OffsetPxMmStrategy": False,
    "ParallaxCorrectedPxMmStrategy": True,
    "OffsetParallaxCorrectedPxMmStrategy": True,
}


@dataclass(frozen=True)
class Tree:
    """The groups, and the lab frame [4, 4] of the group that each panel hangs from, by panel index."""

    root: PanelGroup
    parent_frames: dict[int, Matrix]


def read_detector(node: Node) -> DetectorConfig:
    """A detector of the document. Raises FileError for a tree that misses, repeats or invents a panel."""
    panels = node.list("panels", required=True)
    if not panels:
        node["panels"].fail("it holds no panel")
    tree = read_tree(node, len(panels))
    return DetectorConfig(
        panels=tuple(_panel(panel, tree.parent_frames[index], index) for index, panel in enumerate(panels)),
        hierarchy=tree.root,
    )


def read_tree(node: Node, n_panels: int) -> Tree:
    """The hierarchy of a detector; without one, a root that holds every panel in the lab frame."""
    if not node.has("hierarchy"):
        root = PanelGroup("detector", tuple(range(n_panels)))
        return Tree(root, {index: np.eye(4) for index in range(n_panels)})
    frames: dict[int, Matrix] = {}
    names: set[str] = set()
    root = _group(node["hierarchy"], np.eye(4), frames, names)
    absent = sorted(set(range(n_panels)) - set(frames))
    invented = sorted(set(frames) - set(range(n_panels)))
    if absent or invented:
        node["hierarchy"].fail(f"it leaves out panels {absent} and names {invented}, which do not exist")
    return Tree(root, frames)


def frame_matrix(fast: Vec3, slow: Vec3, origin: Vec3) -> Matrix:
    """The frame [4, 4] of two axes, which are normalized, and an origin."""
    f, s = np.asarray(fast, dtype=float), np.asarray(slow, dtype=float)
    f, s = f / np.linalg.norm(f), s / np.linalg.norm(s)
    matrix = np.eye(4)
    matrix[:3] = np.column_stack([f, s, np.cross(f, s), origin])
    return matrix


def panel_matrix(panel: PanelConfig) -> Matrix:
    """The lab frame [4, 4] of a panel."""
    return frame_matrix(panel.fast_axis, panel.slow_axis, panel.origin)


def local_frame(node: Node) -> Matrix:
    """The frame [4, 4] of a panel or group in its parent's frame."""
    fast, slow = node["fast_axis"].vec3(), node["slow_axis"].vec3()
    if np.linalg.norm(np.cross(fast, slow)) < 1e-6:
        node.fail("its fast and slow axes are parallel or have no length")
    return frame_matrix(fast, slow, node["origin"].vec3())


def vec3(values: NDArray[np.float64]) -> Vec3:
    """A numpy vector [3] as a tuple."""
    x, y, z = (float(value) for value in values)
    return x, y, z


def _group(node: Node, parent: Matrix, frames: dict[int, Matrix], names: set[str]) -> PanelGroup:
    frame = parent @ local_frame(node) if node.has("fast_axis") else parent
    name = _unique(node.text("name"), "detector" if not names else f"group{len(names) - 1}", names)
    panels, children = [], []
    for child in node.list("children"):
        if not child.has("panel"):
            children.append(_group(child, frame, frames, names))
            continue
        index = child["panel"].integer()
        if index in frames:
            child.fail(f"panel {index} hangs in the tree twice")
        frames[index] = frame
        panels.append(index)
    return PanelGroup(name, tuple(panels), tuple(children))


def _unique(name: str, fallback: str, taken: set[str]) -> str:
    name = name or fallback
    count, unique = 1, name
    while unique in taken:
        count += 1
        unique = f"{name}_{count}"
    taken.add(unique)
    return unique


def _panel(node: Node, parent: Matrix, index: int) -> PanelConfig:
    frame = parent @ local_frame(node)
    fast_size, slow_size = (value.integer() for value in node["image_size"].items(2))
    pixel_fast, pixel_slow = node["pixel_size"].numbers(2)
    thickness, attenuation_length = _sensor(node)
    return PanelConfig(
        fast_axis=vec3(frame[:3, 0]),
        slow_axis=vec3(frame[:3, 1]),
        origin=vec3(frame[:3, 3]),
        pixel_size=(pixel_fast, pixel_slow),
        size=(fast_size, slow_size),
        name=node.text("name") or f"panel{index}",
        thickness=thickness,
        attenuation_length=attenuation_length,
        material=node.text("material"),
        trusted_range=_trusted_range(node),
        gain=node.optional("gain", 1.0),
        pedestal=node.optional("pedestal", 0.0),
        mask=tuple(_rectangle(item) for item in node.list("mask")),
        raw_image_offset=_offset(node),
    )


def _sensor(node: Node) -> tuple[float, float]:
    """(thickness, attenuation length) in mm. Without the parallax strategy a dxtbx detector has no depth, whatever its
    thickness says; where the strategy has numbers of its own (t0, mu), they win."""
    if not node.has("px_mm_strategy"):
        return 0.0, math.inf
    strategy = node["px_mm_strategy"]
    kind = strategy.text("type")
    if kind not in STRATEGIES:
        strategy["type"].fail(f"{kind!r} is not a known strategy: {', '.join(filter(None, STRATEGIES))}")
    if not STRATEGIES[kind]:
        return 0.0, math.inf
    if strategy.has("t0") and strategy.has("mu"):
        thickness, mu = strategy["t0"].number(), strategy["mu"].number()
    else:
        thickness, mu = node.optional("thickness", 0.0), node.optional("mu", 0.0)
    if thickness <= 0 or mu <= 0:
        return 0.0, math.inf
    return thickness, 1.0 / mu


def _trusted_range(node: Node) -> tuple[float, float]:
    if not node.has("trusted_range"):
        return -math.inf, math.inf
    low, high = node["trusted_range"].numbers(2)
    # dxtbx writes (0, 0) for a panel whose range nobody stated.
    return (low, high) if low < high else (-math.inf, math.inf)


def _rectangle(node: Node) -> tuple[int, int, int, int]:
    fast0, slow0, fast1, slow1 = (value.integer() for value in node.items(4))
    return fast0, slow0, fast1, slow1


def _offset(node: Node) -> tuple[int, int]:
    if not node.has("raw_image_offset"):
        return 0, 0
    fast, slow = (value.integer() for value in node["raw_image_offset"].items(2))
    return fast, slow
