"""``nb-refine compare A.expt B.expt``: how far two geometries are apart, in terms a beamline can act on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import gemmi
import numpy as np
from numpy.typing import NDArray

from nbtorch.config import BeamConfig, CrystalConfig, DetectorConfig, PanelGroup, Vec3
from nbtorch.errors import DataError
from nbtorch.io.expt import ExperimentList
from nbtorch.io.expt.crystal import real_space_rows
from nbtorch.models.detector import group_frame, panel_centre, root_group, start_frame

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BodyChange:
    """How a panel, or a group as a rigid body, moved from A to B, along A's fast, slow and normal axes.

    ``shift`` mm of its centre, ``rotation`` degrees (a rotation vector), ``misfit`` mm: the rms of what no rigid motion
    explains (0 for a panel), ``depth`` its level in the hierarchy.
    """

    name: str
    shift: Vec3
    rotation: Vec3
    misfit: float = 0.0
    depth: int = 0


@dataclass(frozen=True)
class CrystalChange:
    """From A to B: ``misorientation`` degrees and its rotation vector (lab, degrees), cell differences (Å, degrees).

    ``reindexed``: the smallest misorientation is that to a symmetry-equivalent indexing.
    """

    name: str
    misorientation: float
    rotation: Vec3
    cell: tuple[float, ...]
    cell_percent: Vec3
    reindexed: bool


@dataclass(frozen=True)
class Comparison:
    """All differences between two experiment lists."""

    groups: tuple[BodyChange, ...]
    panels: tuple[BodyChange, ...]
    crystals: tuple[CrystalChange, ...]
    beam_angle: float  # degrees
    wavelength: float  # Å
    distance: tuple[float, float]  # mm, along the normal of the whole detector
    warnings: tuple[str, ...]


def compare(first: ExperimentList, second: ExperimentList) -> Comparison:
    """The change from ``first`` to ``second``: of the first detector and beam, and of every crystal in order.

    Raises DataError for detectors of different numbers of panels.
    """
    a, b = first[0], second[0]
    if len(a.detector.panels) != len(b.detector.panels):
        raise DataError(
            f"{first.path} and {second.path}",
            f"their detectors have {len(a.detector.panels)} and {len(b.detector.panels)} panels",
            "Compare geometries of one detector",
        )
    crystals = [(x.crystal, y.crystal) for x, y in zip(first.entries, second.entries, strict=False)]
    notes = []
    if len(first) != len(second):
        notes.append(f"The lists hold {len(first)} and {len(second)} experiments; crystals are compared in order.")
    return Comparison(
        groups=tuple(_group(a.detector, b.detector, group, depth) for depth, group in root_group(a.detector).walk()),
        panels=tuple(_panel(a.detector, b.detector, index) for index in range(len(a.detector.panels))),
        crystals=tuple(
            crystal_change(f"crystal[{index}]", x, y)
            for index, (x, y) in enumerate(_distinct(crystals))
            if x is not None and y is not None
        ),
        beam_angle=_beam_angle(a.beam, b.beam),
        wavelength=b.beam.wavelength - a.beam.wavelength,
        distance=(_distance(a.detector), _distance(b.detector)),
        warnings=tuple(notes),
    )


def _distinct(
    pairs: Sequence[tuple[CrystalConfig | None, CrystalConfig | None]],
) -> list[tuple[CrystalConfig | None, CrystalConfig | None]]:
    """Pairs without the repeats that a crystal shared by several experiments makes."""
    kept: list[tuple[CrystalConfig | None, CrystalConfig | None]] = []
    for pair in pairs:
        if pair not in kept:
            kept.append(pair)
    return kept


def _panel(a: DetectorConfig, b: DetectorConfig, index: int) -> BodyChange:
    old, new = start_frame(a.panels[index]), start_frame(b.panels[index])
    axes = old[:3]
    shift = axes @ (panel_centre(b.panels[index]) - panel_centre(a.panels[index]))
    turn = rotation_vector(new[:3].T @ np.linalg.inv(axes.T))
    return BodyChange(a.panels[index].name, _vec3(shift), _vec3(axes @ turn))


def _group(a: DetectorConfig, b: DetectorConfig, group: PanelGroup, depth: int) -> BodyChange:
    """The rigid motion that best takes the corners of the group's panels from A to B (Kabsch)."""
    frame = group_frame(a, group)
    old, new = _points(a, group), _points(b, group)
    centre_old, centre_new = old.mean(0), new.mean(0)
    turn = _kabsch(old - centre_old, new - centre_new)
    moved = (old - centre_old) @ turn.T + centre_new
    misfit = math.sqrt(float(((moved - new) ** 2).sum(1).mean()))
    pivot = frame[3]
    shift = (pivot - centre_old) @ turn.T + centre_new - pivot
    axes = frame[:3]
    return BodyChange(group.name, _vec3(axes @ shift), _vec3(axes @ rotation_vector(turn)), misfit, depth)


def _points(detector: DetectorConfig, group: PanelGroup) -> Array:
    """Four points a panel, [4·n, 3] mm."""
    points = []
    for index in group.all_panels():
        panel = detector.panels[index]
        fast, slow, _, origin = start_frame(panel)
        width, height = np.array(panel.size) * panel.pixel_size
        points += [origin, origin + width * fast, origin + height * slow, origin + width * fast + height * slow]
    return np.array(points)


def _kabsch(old: Array, new: Array) -> Array:
    """The rotation [3, 3] with new ≈ old·Rᵀ, least squares (Kabsch, Acta Cryst. A 32, 922, 1976)."""
    left, _, right = np.linalg.svd(old.T @ new)
    handed = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    return np.asarray((left @ handed @ right).T)


def rotation_vector(matrix: Array) -> Array:
    """The rotation vector [3] (degrees) of a rotation matrix."""
    axis = np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]]) / 2
    sine, cosine = float(np.linalg.norm(axis)), (float(np.trace(matrix)) - 1) / 2
    angle = math.atan2(sine, cosine)
    if sine < 1e-12:
        return np.zeros(3) if cosine > 0 else _half_turn(matrix)
    return np.asarray(axis / sine * math.degrees(angle))


def _half_turn(matrix: Array) -> Array:
    """A rotation by 180°: its axis is the eigenvector of +1."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return np.asarray(180.0 * vectors[:, int(np.argmax(values))])


def crystal_change(name: str, a: CrystalConfig, b: CrystalConfig) -> CrystalChange:
    """The smallest rotation from ``a`` to ``b`` over the rotations of the space group."""
    old, new = real_space_rows(a), real_space_rows(b)
    best: tuple[float, Array, bool] | None = None
    for number, operation in enumerate(symmetry_rotations(a.space_group)):
        vector = rotation_vector(_between(old, operation @ new))
        angle = float(np.linalg.norm(vector))
        if best is None or angle < best[0] - 1e-6:  # an equal one is no reason to speak of reindexing
            best = (angle, vector, number > 0)
    assert best is not None  # the identity is always there
    cell = tuple(y - x for x, y in zip(a.cell, b.cell, strict=True))
    percent = tuple(100 * change / length for change, length in zip(cell[:3], a.cell[:3], strict=True))
    return CrystalChange(name, best[0], _vec3(best[1]), cell, _vec3(np.array(percent)), best[2])


def _between(old: Array, new: Array) -> Array:
    """The rotation that takes rows ``old`` into rows ``new``, their strain left out (polar decomposition)."""
    left, _, right = np.linalg.svd(new.T @ np.linalg.inv(old.T))
    return np.asarray(left @ right)


def symmetry_rotations(space_group: str) -> list[Array]:
    """Integer matrices [3, 3] that take real-space rows a, b, c to equivalent ones; the identity first."""
    found: gemmi.SpaceGroup | None = gemmi.find_spacegroup_by_name(space_group)
    operations = [np.array(op.rot) / op.DEN for op in found.operations().sym_ops] if found is not None else []
    # rows of the direct basis transform with the inverse of what acts on coordinates
    turned = [np.asarray(np.linalg.inv(matrix).T, dtype=float) for matrix in operations if np.linalg.det(matrix) > 0]
    return [np.eye(3)] + [matrix for matrix in turned if not np.allclose(matrix, np.eye(3))]


def _beam_angle(a: BeamConfig, b: BeamConfig) -> float:
    x, y = np.array(a.direction), np.array(b.direction)
    return math.degrees(math.atan2(float(np.linalg.norm(np.cross(x, y))), float(x @ y)))


def _distance(detector: DetectorConfig) -> float:
    frame = group_frame(detector, root_group(detector))
    return abs(float(frame[3] @ frame[2]))


def _vec3(values: Array) -> Vec3:
    x, y, z = (float(value) for value in values)
    return x, y, z
