"""The published models, read here and predicted with plain numpy, put spots where DIALS says they put them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nbtorch.io import ExperimentEntry, read_csv, read_expt
from nbtorch.io.expt.crystal import real_space_rows
from nbtorch.io.expt.goniometer import rotation
from tests.helpers.data import shared

Floats = NDArray[np.float64]


def crossing(entry: ExperimentEntry, hkl: Floats, near: float) -> tuple[float, Floats]:
    """The frame (from 0) nearest ``near`` at which a reflection is on the Ewald sphere, and its wavevector (1/Å) there.

    |s0 + S·R(phi)·F·q| = |s0| is a·cos(phi) + b·sin(phi) = c in the frame of the spindle.
    """
    crystal, scan = entry.crystal, entry.scan
    assert crystal is not None
    assert scan is not None
    stand = crystal.goniometer
    setting, axis = np.array(stand.setting_rotation), np.array(stand.axis)
    incident = setting.T @ np.array(entry.beam.direction) / entry.beam.wavelength
    q = np.array(stand.fixed_rotation) @ np.linalg.inv(real_space_rows(crystal)) @ hkl
    along = (axis @ q) * axis
    a, b, c = incident @ (q - along), incident @ np.cross(axis, q), -q @ q / 2 - incident @ along
    solutions = np.rad2deg(np.arctan2(b, a) + np.arccos(c / np.hypot(a, b)) * np.array([1, -1]))
    from_near = (solutions - scan.phi_start - near * scan.oscillation + 180) % 360 - 180
    frame = near + float(min(from_near, key=abs)) / scan.oscillation
    turn = rotation(stand.axis, scan.phi_start + frame * scan.oscillation)
    return frame, setting @ (incident + turn @ q)


def pixel(entry: ExperimentEntry, direction: Floats) -> tuple[float, float]:
    """Where a ray is recorded (fast, slow), with dxtbx's parallax correction (docs/physics.md §2.2)."""
    panel = entry.detector.panels[0]
    fast, slow = np.array(panel.fast_axis), np.array(panel.slow_axis)
    u, v, w = np.linalg.solve(np.column_stack([fast, slow, panel.origin]), direction)
    ray = direction / np.linalg.norm(direction)
    length, depth = panel.thickness / abs(ray @ np.cross(fast, slow)), panel.attenuation_length
    mean = depth - (length + depth) * np.exp(-length / depth)
    return (u / w + mean * ray @ fast) / panel.pixel_size[0], (v / w + mean * ray @ slow) / panel.pixel_size[1]


@pytest.mark.parametrize("sweep", ["sweep2", "sweep4"])
def test_the_published_sweep_models_reproduce_the_published_predictions(sweep: str) -> None:
    folder = shared("real", "l_cysteine", sweep)
    entry = read_expt(folder / "reference.expt")[0]
    for spot in read_csv(folder / "spots.csv"):
        hkl = np.array([float(spot[x]) for x in "hkl"])
        frame, ray = crossing(entry, hkl, float(spot["published_frame"]))
        published = [float(spot[f"published_{x}"]) for x in ("fast_px", "slow_px", "frame")]
        # 6e-5: the table is rounded to four digits; worst seen 4.99e-5
        np.testing.assert_allclose([*pixel(entry, ray), frame], published, atol=6e-5)


def test_the_indexed_single_frame_reproduces_dials_predictions() -> None:
    folder = shared("real", "in16c")
    entry = read_expt(folder / "indexed.expt")[0]
    for spot in read_csv(folder / "spots.csv"):
        _, ray = crossing(entry, np.array([float(spot[x]) for x in "hkl"]), near=0.0)
        predicted = pixel(entry, ray)
        # 6e-4: the table is rounded to three digits; worst seen 4.99e-4
        np.testing.assert_allclose(predicted, [float(spot["dials_fast_px"]), float(spot["dials_slow_px"])], atol=6e-4)


@pytest.mark.parametrize("sweep", ["sweep2", "sweep4"])
def test_the_headers_goniometer_of_two_axes_is_the_published_one(sweep: str) -> None:
    folder = shared("real", "l_cysteine", sweep)
    header, published = (read_expt(folder / name)[0].crystal for name in ("start.expt", "reference.expt"))
    assert header is not None
    assert published is not None
    # 1e-10: the header's axes have four digits in both; the published matrices went through one more program
    np.testing.assert_allclose(header.goniometer.fixed_rotation, published.goniometer.fixed_rotation, atol=1e-10)
    np.testing.assert_allclose(header.goniometer.axis, published.goniometer.axis, atol=1e-10)
    np.testing.assert_allclose(header.goniometer.setting_rotation, published.goniometer.setting_rotation, atol=1e-10)


def test_the_thermolysin_hierarchy_puts_64_panels_on_a_detector_130_mm_away() -> None:
    entry = read_expt(shared("real", "thermolysin_cspad", "401.expt"))[0]
    detector = entry.detector
    assert len(detector.panels) == 64
    assert detector.hierarchy is not None
    assert [len(node.children) for depth, node in detector.hierarchy.walk() if depth < 2] == [4, 8, 8, 8, 8]
    corners = np.array([panel.origin for panel in detector.panels])
    np.testing.assert_allclose(corners[:, 2], -130.1066, atol=0.01)
    assert entry.is_still
    for panel in detector.panels:
        assert abs(np.dot(panel.fast_axis, panel.slow_axis)) < 1e-6


def test_thermolysin_spots_agree_with_dials_on_every_panel() -> None:
    folder = shared("real", "thermolysin_cspad")
    entry = read_expt(folder / "701.expt")[0]
    crystal = entry.crystal
    assert crystal is not None
    star, incident = np.linalg.inv(real_space_rows(crystal)), np.array(entry.beam.direction) / entry.beam.wavelength
    for spot in read_csv(folder / "701_spots.csv"):
        # DIALS's still prediction: turn q by the smallest angle onto the Ewald sphere.
        q = star @ np.array([float(spot[x]) for x in "hkl"])
        onto = _onto_sphere(q, incident)
        panel = entry.detector.panels[int(spot["panel"])]
        frame = np.column_stack([panel.fast_axis, panel.slow_axis, panel.origin])
        u, v, w = np.linalg.solve(frame, incident + onto)
        predicted = (u / w / panel.pixel_size[0], v / w / panel.pixel_size[1])
        # 6e-4: the table is rounded to three digits
        np.testing.assert_allclose(predicted, [float(spot["dials_fast_px"]), float(spot["dials_slow_px"])], atol=6e-4)


def _onto_sphere(q: Floats, incident: Floats) -> Floats:
    """q turned in the plane of q and the beam until |incident + q| = |incident|."""
    along = -float(q @ q) / (2 * float(np.linalg.norm(incident)))  # component along the beam on the sphere
    beam = incident / np.linalg.norm(incident)
    across = q - (q @ beam) * beam
    across /= np.linalg.norm(across)
    return np.asarray(along * beam + np.sqrt(q @ q - along**2) * across, dtype=np.float64)
