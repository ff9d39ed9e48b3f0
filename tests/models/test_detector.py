"""Rigid groups of panels: what a shift and a rotation do, and in which order nested groups move."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from nbtorch.config import DetectorConfig, PanelConfig, PanelGroup
from nbtorch.errors import ConfigError
from nbtorch.models import Detector
from nbtorch.models.detector import group_frame, panel_centre, start_frame

PANEL = PanelConfig((0.0, 0.1, 1.0), (0.05, -1.0, 0.1), (100.0, 40.0, -60.0), (0.1, 0.2), (300, 150))
OTHER = replace(PANEL, name="other", origin=(98.0, 45.0, 10.0), slow_axis=(-0.05, -1.0, 0.1))
THIRD = replace(PANEL, name="third", origin=(95.0, -5.0, -20.0), fast_axis=(0.1, 0.0, 1.0))
LEFT, RIGHT = PanelGroup("left", (0,)), PanelGroup("right", (1, 2))
ROOT = PanelGroup("detector", (), (LEFT, RIGHT))
CONFIG = DetectorConfig((PANEL, OTHER, THIRD), ROOT)
SHIFT, TURN = (0.5, -0.7, 1.1), (1.0, -2.0, 3.0)  # mm and degrees along fast, slow, normal


def moved(
    groups: tuple[PanelGroup, ...], motions: dict[int, tuple[tuple[float, ...], tuple[float, ...]]]
) -> np.ndarray:
    """The frames [N, 4, 3] after the groups at the keys of ``motions`` have moved by (shift, rotation)."""
    detector = Detector(CONFIG, groups)
    with torch.no_grad():
        for group, (shift, rotation) in motions.items():
            detector.shift[group] = torch.tensor(shift, dtype=torch.float64)
            detector.rotation[group] = torch.tensor(rotation, dtype=torch.float64)
        return detector.frames().numpy()


def by_hand(frames: np.ndarray, group: PanelGroup, shift: tuple[float, ...], rotation: tuple[float, ...]) -> np.ndarray:
    """``frames`` with the panels of ``group`` turned about its pivot, then shifted, along its START axes."""
    body = group_frame(CONFIG, group)
    axes, pivot = body[:3], body[3]
    turn = Rotation.from_rotvec(np.array(rotation) @ axes, degrees=True).as_matrix()
    found = frames.copy()
    for index in group.all_panels():
        found[index, :3] = frames[index, :3] @ turn.T
        found[index, 3] = turn @ (frames[index, 3] - pivot) + pivot + np.array(shift) @ axes
    return found


def start() -> np.ndarray:
    return np.stack([start_frame(panel) for panel in CONFIG.panels])


def test_a_detector_at_rest_is_where_its_config_puts_it() -> None:
    np.testing.assert_allclose(moved((ROOT, LEFT, RIGHT), {}), start(), rtol=0, atol=1e-14)


def test_motion_of_the_root_equals_moving_every_origin_and_axis_by_hand() -> None:
    expected = by_hand(start(), ROOT, SHIFT, TURN)
    np.testing.assert_allclose(moved((ROOT,), {0: (SHIFT, TURN)}), expected, rtol=0, atol=1e-13)  # worst seen 2.8e-14


def test_a_rigid_body_keeps_the_distances_between_its_panels() -> None:
    before, after = start(), moved((ROOT,), {0: (SHIFT, TURN)})
    for i, j in ((0, 1), (1, 2), (0, 2)):
        distances = [np.linalg.norm(frames[i, 3] - frames[j, 3]) for frames in (before, after)]
        assert distances[0] == pytest.approx(distances[1], rel=1e-14)


def test_nested_groups_move_deepest_first_whatever_order_they_are_listed_in() -> None:
    expected = by_hand(start(), RIGHT, SHIFT, TURN)
    expected = by_hand(expected, ROOT, (1.0, 2.0, -3.0), (-4.0, 1.0, 2.0))
    root_motion, right_motion = ((1.0, 2.0, -3.0), (-4.0, 1.0, 2.0)), (SHIFT, TURN)
    first = moved((ROOT, RIGHT), {0: root_motion, 1: right_motion})
    second = moved((RIGHT, ROOT), {1: root_motion, 0: right_motion})
    np.testing.assert_allclose(first, expected, rtol=0, atol=1e-13)  # worst seen 2.8e-14
    np.testing.assert_array_equal(first, second)


def test_a_group_moves_its_own_panels_alone() -> None:
    after = moved((LEFT, RIGHT), {1: (SHIFT, TURN)})
    np.testing.assert_array_equal(after[0], moved((), {})[0])
    assert (after[1:] != start()[1:]).any(axis=(1, 2)).all()


def test_rotation_about_the_pivot_leaves_the_pivot_where_it_is() -> None:
    pivot = group_frame(CONFIG, ROOT)[3]
    np.testing.assert_allclose(pivot, np.mean([panel_centre(panel) for panel in CONFIG.panels], axis=0), atol=1e-13)
    after = moved((ROOT,), {0: ((0.0, 0.0, 0.0), TURN)})
    width, height = np.array([300, 150]) * np.array([0.1, 0.2])
    centres = after[:, 3] + after[:, 0] * width / 2 + after[:, 1] * height / 2
    np.testing.assert_allclose(centres.mean(0), pivot, rtol=0, atol=1e-12)  # worst seen 2.8e-14


def test_group_axes_are_orthonormal_along_the_first_panels() -> None:
    fast, slow, normal, _ = group_frame(CONFIG, ROOT)
    axes = np.stack([fast, slow, normal])
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-15)
    first = start_frame(PANEL)
    assert all(axis @ along > 0.9 for axis, along in zip(axes, first[:3], strict=True))


def test_derived_normal_leads_away_from_the_sample_and_a_given_one_is_kept() -> None:
    for panel in (PANEL, replace(PANEL, slow_axis=(0.05, 1.0, 0.1))):
        _, _, normal, origin = start_frame(panel)
        assert normal @ origin > 0
    frame = Detector(DetectorConfig((replace(PANEL, normal=(2.0, 0.0, 0.2)),))).frames()[0]
    np.testing.assert_allclose(frame[2].detach().numpy(), np.array([2.0, 0.0, 0.2]) / np.hypot(2, 0.2), atol=1e-15)


def test_derived_normal_follows_the_axes_when_they_are_refined() -> None:
    detector = Detector(DetectorConfig((PANEL,)))
    with torch.no_grad():
        detector.fast_axis += torch.tensor([0.1, 0.0, 0.0])
        fast, slow, normal, _ = detector.frames()[0]
    assert abs(float(normal @ fast)) < 1e-15
    assert abs(float(normal @ slow)) < 1e-15


def test_length_of_an_axis_does_not_matter() -> None:
    long = replace(PANEL, fast_axis=(0.0, 0.3, 3.0))
    a, b = (Detector(DetectorConfig((panel,))).frames() for panel in (PANEL, long))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-15)


def test_groups_of_one_depth_must_not_share_a_panel() -> None:
    with pytest.raises(ConfigError, match="shares panels"):
        Detector(CONFIG, (PanelGroup("one", (0, 1)), PanelGroup("two", (1, 2))))
