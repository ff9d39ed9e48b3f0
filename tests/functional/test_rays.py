"""Rotation, polarization, absorption, solid angle, curvature and sources: each against an independent formula."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from nbtorch.functional.absorption import capture, dxtbx_depth, mean_depth
from nbtorch.functional.beam import divergent_directions
from nbtorch.functional.detector import curve, sample_position, solid_angle
from nbtorch.functional.polarization import polarization
from nbtorch.functional.rotation import axis_rotation, misset_matrix, rotate_about_axis, rotation_matrix, unit

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("length", [0.0, 1e-9, 1e-7, 9.9e-7, 1.1e-6, 1e-3, 0.09, 0.11, 1.0, math.pi, 20.0])
def test_rotation_matrix_of_a_rotation_vector(length: float) -> None:
    vector = length * unit(torch.tensor([0.3, -0.5, 0.8]))
    expected = torch.from_numpy(Rotation.from_rotvec(vector.numpy()).as_matrix())
    torch.testing.assert_close(rotation_matrix(vector), expected, rtol=0, atol=5e-16)  # worst seen 2.2e-16


def test_misset_turns_about_lab_x_then_y_then_z() -> None:
    angles = torch.tensor([0.3, -0.5, 0.8])
    expected = torch.from_numpy(Rotation.from_euler("xyz", angles.numpy()).as_matrix())
    torch.testing.assert_close(misset_matrix(angles), expected, rtol=0, atol=1e-15)


def test_rotating_a_vector_equals_the_matrix() -> None:
    axis, angle, vector = unit(torch.randn(5, 3)), torch.randn(5), torch.randn(5, 3)
    expected = (axis_rotation(axis, angle) @ vector[..., None])[..., 0]
    torch.testing.assert_close(rotate_about_axis(vector, axis, angle), expected, rtol=0, atol=2e-15)


def test_polarization_equals_kahns_formula_with_its_azimuth() -> None:
    """½(1 + cos²2θ − K·cos 2ψ·sin²2θ), ψ = −atan2(d·B, d·E): nanoBragg's form, with the division and the atan2."""
    incident, axis = unit(torch.randn(4, 3)), torch.tensor([0.1, 0.3, 1.0])
    diffracted, kahn = unit(torch.randn(50, 3)), 0.6
    b = unit(torch.linalg.cross(axis.expand(4, 3), incident))
    e = torch.linalg.cross(incident, b)
    cosine = diffracted @ incident.T
    psi = -torch.atan2(diffracted @ b.T, diffracted @ e.T)
    expected = 0.5 * (1 + cosine**2 - kahn * torch.cos(2 * psi) * (1 - cosine**2))
    value = polarization(diffracted, incident, axis, torch.tensor(kahn))
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-15)  # worst seen 2.2e-16


@pytest.mark.parametrize(("kahn", "along_e", "along_b"), [(1.0, 0.0, 1.0), (-1.0, 1.0, 0.0), (0.0, 0.5, 0.5)])
def test_fully_polarized_light_does_not_scatter_along_its_electric_vector(
    kahn: float, along_e: float, along_b: float
) -> None:
    directions = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    beam, axis = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0.0, 0.0, 1.0])
    value = polarization(directions, beam, axis, torch.tensor(kahn))[:, 0]
    assert value.tolist() == pytest.approx([along_e, along_b, 1.0], abs=1e-15)


def test_layers_capture_together_what_one_thick_layer_does() -> None:
    diffracted = unit(torch.randn(20, 3) * 0.3 + torch.tensor([1.0, 0.0, 0.0]))
    normal, one = torch.tensor([[1.0, 0.0, 0.0]]).expand(20, 3), torch.ones(20)
    layers = [capture(diffracted, normal, 0.1 * t * one, 0.1 * one, 2.5 * one) for t in range(5)]
    whole = capture(diffracted, normal, 0 * one, 0.5 * one, 2.5 * one)
    torch.testing.assert_close(torch.stack(layers).sum(0), whole, rtol=2e-15, atol=0)
    torch.testing.assert_close(whole, 1 - torch.exp(-0.5 * 2.5 / diffracted[:, 0]), rtol=2e-15, atol=0)


def test_without_a_sensor_all_light_is_captured() -> None:
    ray = torch.tensor([[1.0, 0.0, 0.0]])
    assert capture(ray, ray, torch.zeros(1), torch.zeros(1), torch.zeros(1)).tolist() == [1.0]


def test_a_very_thin_layer_keeps_its_digits() -> None:
    ray, thin = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([1e-12])
    assert float(capture(ray, ray, torch.zeros(1), thin, torch.ones(1))) == pytest.approx(1e-12, rel=1e-11)


def test_mean_depth_is_the_mean_over_the_absorbed_photons() -> None:
    """Against numerical integration of x·µe^(−µx); and 0.169 mm in 0.32 mm of silicon at 18 keV and 30°."""
    mu, thickness, parallax = torch.tensor(2.17), torch.tensor(0.32), torch.tensor(math.cos(math.radians(30)))
    x = (torch.arange(200_000) + 0.5) / 200_000 * thickness / parallax
    density = torch.exp(-mu * x)
    expected = (x * density).sum() / density.sum()
    assert float(mean_depth(parallax, thickness, mu)) == pytest.approx(float(expected), rel=1e-9)
    assert float(mean_depth(parallax, thickness, torch.tensor(1.41))) == pytest.approx(0.169, abs=5e-4)
    assert float(mean_depth(parallax, thickness, torch.tensor(0.0))) == 0


def test_dxtbx_depth_leaves_out_the_division() -> None:
    """0.069 mm where the mean is 0.169 (docs/physics.md §2.2)."""
    mu, thickness, parallax = torch.tensor(1.41), torch.tensor(0.32), torch.tensor(math.cos(math.radians(30)))
    assert float(dxtbx_depth(parallax, thickness, mu)) == pytest.approx(0.069, abs=5e-4)
    captured = 1 - math.exp(-1.41 * 0.32 / math.cos(math.radians(30)))
    assert float(dxtbx_depth(parallax, thickness, mu) / mean_depth(parallax, thickness, mu)) == pytest.approx(captured)


def test_solid_angles_of_a_plane_add_up_to_half_the_sphere() -> None:
    """∫ omega over a plane is 2π: to a radius R it is 2π(1 − z/√(R² + z²))."""
    z, pixel, half = 10.0, 0.5, 400
    along = (torch.arange(-half, half) + 0.5) * pixel
    y, x = torch.meshgrid(along, along, indexing="ij")
    radius = torch.sqrt(x**2 + y**2)
    airpath = torch.sqrt(radius**2 + z**2).reshape(-1)
    omega = solid_angle(airpath, torch.tensor(z), torch.tensor(pixel**2))
    within = omega[radius.reshape(-1) < 190].sum()
    assert float(within) == pytest.approx(2 * math.pi * (1 - z / math.hypot(190, z)), rel=1e-5)  # worst seen 1.3e-6


def test_point_pixel_is_one_over_the_airpath_in_metres_squared() -> None:
    value = solid_angle(torch.tensor([250.0]), torch.tensor([200.0]), torch.tensor([0.01]), point_pixel=True)
    assert float(value) == pytest.approx(16.0)


def test_sample_position_runs_along_the_axes_and_into_the_sensor() -> None:
    frame = torch.randn(1, 4, 3)
    position = sample_position(
        frame, torch.tensor([[0.1, 0.2]]), torch.tensor([10.5]), torch.tensor([3.25]), torch.tensor([0.3])
    )
    expected = frame[0, 3] + 1.05 * frame[0, 0] + 0.65 * frame[0, 1] + 0.3 * frame[0, 2]
    torch.testing.assert_close(position[0], expected, rtol=0, atol=1e-15)


def test_curved_detector_lies_on_a_sphere_and_keeps_its_centre() -> None:
    axes = torch.tensor([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [100.0, 30.0, -30.0]])
    frame = axes.expand(9, 4, 3)
    grid = torch.cartesian_prod(torch.tensor([0.0, 30.0, 60.0]), torch.tensor([0.0, 30.0, 60.0]))
    flat = sample_position(frame, torch.ones(9, 2), grid[:, 0], grid[:, 1], torch.zeros(9))
    bent = curve(flat, frame, torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(bent.norm(dim=-1), torch.full((9,), 100.0), rtol=1e-15, atol=0)
    torch.testing.assert_close(bent[4], torch.tensor([100.0, 0.0, 0.0]), rtol=0, atol=1e-13)
    # lengths along the flat detector become angles
    across = torch.arccos(bent[7] @ bent[4] / 100.0**2)
    assert float(across) == pytest.approx(0.3, rel=1e-12)


def test_divergence_turns_about_the_polarization_vector_then_across_it() -> None:
    axis, polar = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    angles = torch.tensor([[0.0, 0.0], [0.0, 0.01], [0.02, 0.0]])
    central, vertical, horizontal = divergent_directions(axis, polar, angles)
    assert torch.equal(central, axis)
    # the source −x turned about z by +v moves to −y, the beam from it travels to +y
    expected = torch.tensor([math.cos(0.01), math.sin(0.01), 0.0])
    torch.testing.assert_close(vertical, expected, rtol=0, atol=1e-15)
    # and about unit(beam × polar) = −y by +h
    expected = torch.tensor([math.cos(0.02), 0.0, math.sin(0.02)])
    torch.testing.assert_close(horizontal, expected, rtol=0, atol=1e-15)
