"""The crystal: orientation, misset, spindle and mosaic domains."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from nbtorch.config import CrystalConfig, Exposure, GoniometerConfig, Mat3, MosaicConfig, PhiSampling
from nbtorch.errors import ConfigError
from nbtorch.functional.cell import cell_of
from nbtorch.functional.rotation import rotation_matrix
from nbtorch.functional.spline import spline_weights
from nbtorch.models import Crystal
from nbtorch.models.crystal import mosaic_vectors, spindle_angles
from nbtorch.units import DEGREES

U: Mat3 = ((0.36, 0.48, -0.8), (-0.8, 0.6, 0.0), (0.48, 0.64, 0.6))
CONFIG = CrystalConfig(cell=(40.0, 50.0, 60.0, 80.0, 95.0, 105.0), orientation=U, misset=(10.0, -20.0, 30.0))
STILL = Exposure()


def rows(matrix: Rotation | np.ndarray) -> Mat3:
    values = matrix.as_matrix() if isinstance(matrix, Rotation) else matrix
    a, b, c = (tuple(float(x) for x in row) for row in values)
    return a, b, c  # type: ignore[return-value]  # three numbers each


def test_model_has_the_cell_it_was_given_whatever_its_orientation() -> None:
    crystal = Crystal(CONFIG)
    direct, reciprocal = crystal.vectors()
    cell = torch.cat([cell_of(direct)[:3], torch.rad2deg(cell_of(direct)[3:])])
    torch.testing.assert_close(cell, crystal.cell, rtol=1e-14, atol=0)  # worst seen 4.4e-16
    torch.testing.assert_close(direct @ reciprocal.T, torch.eye(3).double(), rtol=0, atol=2e-15)


def test_lab_rotation_is_misset_after_rotation_vector_after_orientation() -> None:
    crystal = Crystal(CONFIG)
    with torch.no_grad():
        crystal.rotation.copy_(torch.tensor([3.0, -4.0, 5.0]))
    misset = Rotation.from_euler("xyz", CONFIG.misset, degrees=True)  # lab x, then y, then z
    about_start = Rotation.from_rotvec([3.0, -4.0, 5.0], degrees=True)
    expected = misset.as_matrix() @ about_start.as_matrix() @ np.array(U)
    np.testing.assert_allclose(crystal.lab_rotation().detach().numpy(), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("sampling", "expected"), [("left", [20.0, 20.5, 21.0, 21.5]), ("midpoint", [20.25, 20.75, 21.25, 21.75])]
)
def test_spindle_angles_are_left_edges_or_midpoints(sampling: PhiSampling, expected: list[float]) -> None:
    exposure = Exposure(phi_start=20.0, oscillation=2.0, steps=4, sampling=sampling)
    assert spindle_angles(exposure, torch.zeros(1, dtype=torch.float64)).tolist() == expected


def test_a_step_at_zero_keeps_the_vectors_of_the_step_before_when_asked_to() -> None:
    """The first step those of the last one, which nanoBragg left over from the pixel before."""
    zero = torch.zeros(1)
    for start, plain, stale in ((-1.0, [-1.0, 0.0, 1.0], [-1.0, -1.0, 1.0]), (0.0, [0.0, 1.0, 2.0], [2.0, 1.0, 2.0])):
        exposure = Exposure(start, 3.0, 3, "left")
        assert spindle_angles(exposure, zero).tolist() == plain
        assert spindle_angles(replace(exposure, reuse_stale_at_zero=True), zero).tolist() == stale


def test_spindle_turns_between_fixed_and_setting_rotation() -> None:
    """R(phi) = setting · rotation(axis, phi) · fixed."""
    axis = np.array([0.2, -0.3, 1.5])
    fixed, setting = Rotation.from_rotvec([0.1, 0.2, 0.3]), Rotation.from_rotvec([-0.2, 0.5, 0.1])
    goniometer = GoniometerConfig((0.2, -0.3, 1.5), rows(fixed), rows(setting))
    crystal = Crystal(replace(CONFIG, goniometer=goniometer))
    spin = Rotation.from_rotvec(math.radians(37.0) * axis / np.linalg.norm(axis))
    turn = (setting * spin * fixed).as_matrix()
    start = crystal.vectors()[0].detach().numpy()
    found = crystal.basis(Exposure(phi_start=37.0)).detach().numpy()
    np.testing.assert_allclose(found, [start @ turn.T], rtol=0, atol=1e-13)  # worst seen 1.4e-14, in 60 Å


@pytest.mark.parametrize("kind", ["antithetic", "nanobragg"])
def test_antithetic_domains_turn_before_the_spindle_and_nanobraggs_after(kind: str) -> None:
    mosaic = MosaicConfig(2.0, 5, kind)  # type: ignore[arg-type]  # one of the two
    crystal = Crystal(replace(CONFIG, mosaic=mosaic))
    exposure = Exposure(30.0, 2.0, 2)
    found = crystal.basis(exposure).detach().numpy().reshape(2, 5, 3, 3)
    start = crystal.vectors()[0].detach().numpy()
    for step, angle in enumerate((30.5, 31.5)):
        spin = Rotation.from_rotvec([0, 0, angle], degrees=True)
        for domain, vector in enumerate(mosaic_vectors(mosaic)):
            u = Rotation.from_rotvec(2.0 * vector, degrees=True)
            turn = (u * spin if kind == "nanobragg" else spin * u).as_matrix()
            np.testing.assert_allclose(found[step, domain], start @ turn.T, rtol=0, atol=1e-13)  # worst seen 2.2e-14


def test_antithetic_spread_is_the_rms_rotation_about_every_axis() -> None:
    crystal = Crystal(replace(CONFIG, mosaic=MosaicConfig(0.5, 12)))
    rotations = Rotation.from_matrix(crystal.mosaic_rotations().detach().numpy())
    vectors = np.degrees(rotations.as_rotvec())
    np.testing.assert_allclose(vectors.mean(0), 0, atol=1e-14)
    np.testing.assert_allclose(np.sqrt((vectors**2).mean(0)), 0.5, rtol=1e-12)


def test_anisotropic_spread_is_the_rms_rotation_about_the_axes_of_the_crystal() -> None:
    crystal = Crystal(replace(CONFIG, mosaic=MosaicConfig((0.5, 0.1, 0.3), 12)))
    with torch.no_grad():
        crystal.rotation.copy_(torch.tensor([3.0, -4.0, 5.0]))
    direct, reciprocal = (rows.detach().numpy() for rows in crystal.vectors())
    axes = np.array([reciprocal[0], np.cross(direct[2], reciprocal[0]), direct[2]])
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), rtol=0, atol=1e-14)
    vectors = np.degrees(Rotation.from_matrix(crystal.mosaic_rotations().detach().numpy()).as_rotvec()) @ axes.T
    np.testing.assert_allclose(vectors.mean(0), 0, atol=1e-14)
    np.testing.assert_allclose(np.sqrt((vectors**2).mean(0)), (0.5, 0.1, 0.3), rtol=1e-12)


def test_an_isotropic_spread_makes_the_domains_that_it_always_made() -> None:
    crystal = Crystal(replace(CONFIG, mosaic=MosaicConfig(0.5, 12)))
    expected = rotation_matrix(
        torch.tensor(0.5).double() * DEGREES * torch.tensor(mosaic_vectors(MosaicConfig(0.5, 12)))
    )
    assert torch.equal(crystal.mosaic_rotations(), expected)


@pytest.mark.parametrize(
    ("mosaic", "told"),
    [
        (((0.1, 0.2, 0.3), 8, "nanobragg"), "isotropic"),
        (((0.1, 0.2), 8), "neither one number nor three"),
        (((0.0, 0.1, 0.0), 1), "one domain cannot spread"),
        (((0.0, -0.1, 0.0), 8), "zero or more"),
    ],
)
def test_a_spread_that_cannot_be_is_refused(mosaic: tuple[Any, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        MosaicConfig(*mosaic)


def drifting() -> Crystal:
    crystal = Crystal(replace(CONFIG, knots=(0.0, 10.0, 25.0, 40.0), mosaic=MosaicConfig(0.4, 6)))
    with torch.no_grad():
        crystal.rotation_knots.copy_(torch.linspace(-0.3, 0.4, 12).reshape(4, 3).sin())
        crystal.cell_knots.copy_(0.1 * torch.linspace(0, 9, 24).reshape(4, 6).cos())
    return crystal


def test_a_drifting_crystal_is_at_every_step_the_crystal_of_that_angle() -> None:
    crystal, exposures = drifting(), [Exposure(3.0, 4.0, 2), Exposure(25.0, 0.0, 1)]
    for found, exposure in zip(crystal.bases(exposures, crystal.vectors()[0]), exposures, strict=True):
        steps = found.detach().reshape(exposure.steps, 6, 3, 3)
        for basis, phi in zip(steps, spindle_angles(exposure, crystal.cell), strict=True):
            weights = spline_weights(phi[None], crystal.knots, crystal.curvatures)[0]
            still = Crystal(replace(CONFIG, mosaic=MosaicConfig(0.4, 6)))
            with torch.no_grad():
                still.rotation.copy_(weights @ crystal.rotation_knots)
                still.cell.add_(weights @ crystal.cell_knots)
            expected = still.basis(Exposure(float(phi))).detach()
            torch.testing.assert_close(basis, expected, rtol=0, atol=1e-12)  # Å


def test_a_drifting_crystal_is_named_by_its_mean() -> None:
    crystal = drifting()
    expected = torch.tensor(CONFIG.cell).double() + crystal.cell_knots.detach().mean(0)
    torch.testing.assert_close(cell_of(crystal.vectors()[0])[:3].detach(), expected[:3], rtol=1e-13, atol=0)
    turn = Rotation.from_rotvec(crystal.rotation_knots.detach().mean(0).numpy(), degrees=True).as_matrix()
    expected_turn = Rotation.from_euler("xyz", CONFIG.misset, degrees=True).as_matrix() @ turn @ np.array(U)
    np.testing.assert_allclose(crystal.lab_rotation().detach(), expected_turn, rtol=0, atol=1e-14)


def test_knots_that_do_not_move_make_the_constant_crystal() -> None:
    still, drifts = (Crystal(replace(CONFIG, knots=knots)) for knots in ((), (0.0, 10.0, 20.0)))
    exposure = Exposure(3.0, 8.0, 5)
    torch.testing.assert_close(drifts.basis(exposure), still.basis(exposure), rtol=0, atol=1e-14)


@pytest.mark.parametrize("knots", [(3.0,), (3.0, 3.0), (5.0, 4.0, 6.0)])
def test_knots_that_are_no_curve_are_refused(knots: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="two angles or more, rising"):
        replace(CONFIG, knots=knots)


def test_domains_of_zero_spread_are_one_crystal() -> None:
    crystal = Crystal(replace(CONFIG, mosaic=MosaicConfig(0.0, 6)))
    assert torch.equal(crystal.mosaic_rotations(), torch.eye(3).double().expand(6, 3, 3))


def test_models_make_the_same_numbers_in_every_dtype_they_are_asked_for() -> None:
    single = Crystal(CONFIG, dtype=torch.float32)
    assert {p.dtype for p in (*single.parameters(), *single.buffers())} == {torch.float32}
    torch.testing.assert_close(single.vectors()[0].double(), Crystal(CONFIG).vectors()[0], rtol=0, atol=1e-4)
