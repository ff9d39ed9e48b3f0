"""What must be true of any image, whatever the scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from nbtorch.config import BeamConfig, CrystalConfig, DetectorConfig, Exposure, GoniometerConfig, Mat3, RenderSettings
from nbtorch.models import Experiment
from nbtorch.render import Renderer
from tests.helpers.scenes import (
    RICH,
    Features,
    beam_config,
    crystal_config,
    detector_config,
    experiment,
    settings,
    spot,
    structure_factors,
)

MODES = ("exact", "cached", "running_polar")


def image(scene: Experiment, features: Features) -> Tensor:
    with torch.no_grad():
        return torch.cat([panel.reshape(-1) for panel in Renderer(scene, settings=settings(features)).images()])


def turned_vector(turn: np.ndarray, vector: tuple[float, float, float]) -> tuple[float, float, float]:
    x, y, z = (turn @ np.array(vector)).tolist()
    return x, y, z


def as_rows(matrix: np.ndarray) -> Mat3:
    a, b, c = ((float(row[0]), float(row[1]), float(row[2])) for row in matrix)
    return a, b, c


def turned(
    turn: np.ndarray, crystal: CrystalConfig, beam: BeamConfig, detector: DetectorConfig
) -> tuple[CrystalConfig, BeamConfig, DetectorConfig]:
    """The whole experiment turned rigidly in the lab."""
    goniometer = crystal.goniometer
    spun = GoniometerConfig(
        turned_vector(turn, goniometer.axis),
        as_rows(turn @ np.array(goniometer.fixed_rotation) @ turn.T),
        as_rows(turn @ np.array(goniometer.setting_rotation) @ turn.T),
    )
    panels = []
    for panel in detector.panels:
        vectors = {name: turned_vector(turn, getattr(panel, name)) for name in ("fast_axis", "slow_axis", "origin")}
        panels.append(replace(panel, **vectors))
    names = ("direction", "polarization_axis")
    return (
        replace(crystal, orientation=as_rows(turn @ np.array(crystal.orientation)), goniometer=spun),
        replace(beam, **{name: turned_vector(turn, getattr(beam, name)) for name in names}),
        replace(detector, panels=tuple(panels)),
    )


@pytest.mark.parametrize("shape", ["square", "round", "gauss", "gauss_hkl"])
@pytest.mark.parametrize("detector", ["bare", "layers"])
def test_turning_crystal_beam_and_detector_together_leaves_the_image(shape: str, detector: str) -> None:
    """Without missets about lab axes and mosaic domains, which are stated in the lab."""
    features = Features(shape=shape, detector=detector, beam="spread")  # type: ignore[arg-type]  # a known shape
    fixed = as_rows(Rotation.from_rotvec([0.1, -0.2, 0.3]).as_matrix())
    gonio = GoniometerConfig((0.1, 0.2, 1.0), fixed, as_rows(np.array(fixed).T))
    crystal = replace(crystal_config(features), misset=(0.0, 0.0, 0.0), goniometer=gonio)
    stated = crystal, beam_config(features), detector_config(features)
    turn = Rotation.from_rotvec([0.7, -1.1, 2.0]).as_matrix()
    exposure = Exposure(20.0, 1.0, 2)
    plain, moved = (
        image(Experiment.from_config(*configs, structure_factors(), exposure), features)
        for configs in (stated, turned(turn, *stated))
    )
    # of the peak; worst seen 9.7e-14: h carries 1e-15, times N and the steepest flank
    assert float((plain - moved).abs().max()) < 1e-12 * float(plain.max())


@pytest.mark.parametrize("mode", MODES)
def test_image_is_linear_in_fluence_and_in_the_square_of_f(mode: str) -> None:
    features = replace(RICH, mode=mode, water=False)
    scene = experiment(features)
    plain = image(scene, features)
    with torch.no_grad():
        scene.beam.fluence *= 3
    # a few roundings; worst seen 8.9e-16
    torch.testing.assert_close(image(scene, features), 3 * plain, rtol=1e-14, atol=0)
    with torch.no_grad():
        scene.beam.fluence /= 3
        scene.structure_factors.amplitudes *= 5
    scene.structure_factors.default_F *= 5
    torch.testing.assert_close(image(scene, features), 25 * plain, rtol=1e-14, atol=0)


@pytest.mark.parametrize("shape", ["square", "round", "gauss", "tophat", "gauss_hkl"])
def test_peak_of_a_spot_is_f_squared_n_squared_times_the_prefactor(shape: str) -> None:
    """A pixel exactly at (0, 0, 0), the direct beam: r_e²·fluence·F²·N²·omega, with polarization 1 there."""
    features = Features(shape=shape)  # type: ignore[arg-type]  # a known shape
    panel = replace(detector_config(features).panels[0], origin=(100.0, 0.35, -0.3), size=(1, 1))
    panel = replace(panel, fast_axis=(0.0, 0.0, 1.0), slow_axis=(0.0, -1.0, 0.0))
    beam = replace(beam_config(features), direction=(1.0, 0.0, 0.0))
    scene = Experiment.from_config(crystal_config(features), beam, DetectorConfig((panel,)))
    scene.structure_factors.default_F = 20.0
    with torch.no_grad():
        (value,) = Renderer(scene, settings=RenderSettings(backend="reference"))()
    n = 5.0 * 4.0 * 6.0 * (0.723601254558268 if shape == "round" else 1.0)
    expected = 7.94079248018965e-30 * beam.fluence * 20.0**2 * n**2 * 0.6 * 0.7 / 100.0**2
    assert float(value) == pytest.approx(expected, rel=1e-15)  # worst seen 2.2e-16


def test_sources_steps_and_domains_of_one_kind_do_not_change_the_mean() -> None:
    """Four equal spindle steps, three domains of zero spread and twice the same source are the plain image."""
    features = Features()
    crystal, beam, detector = crystal_config(features), beam_config(features), detector_config(features)
    plain = Experiment.from_config(crystal, beam, detector, structure_factors(), Exposure(20.0))
    many = Experiment.from_config(
        replace(crystal, mosaic=replace(crystal.mosaic, domains=3)),
        replace(beam, spectrum=((0.0, 0.3), (0.0, 0.9))),
        detector,
        structure_factors(),
        Exposure(20.0, 0.0, 4),
    )
    expected = image(plain, features)
    # of the peak; worst seen 3.1e-14: a spread of zero is still a matrix product
    assert float((image(many, features) - expected).abs().max()) < 1e-13 * float(expected.max())


@pytest.mark.parametrize("mode", MODES)
def test_image_is_the_same_in_every_run(mode: str) -> None:
    """Bit for bit, forward and backward, in a new model and in the same one."""
    features = replace(RICH, mode=mode)
    found = []
    for renderer in (spot(features), again := spot(features), again):
        renderer.zero_grad()
        value = renderer()
        value.sum().backward()
        gradients = [p.grad for p in renderer.parameters() if p.grad is not None]
        found.append((value.detach(), torch.cat([g.reshape(-1).clone() for g in gradients])))
    for value, gradient in found[1:]:
        assert torch.equal(value, found[0][0])
        assert torch.equal(gradient, found[0][1])


@pytest.mark.parametrize("beam", ["spread", "sources"])
def test_image_moves_when_any_parameter_is_moved_in_place(beam: str) -> None:
    """Nothing derived from a parameter is kept: the next image moves, and moves back."""
    features = replace(RICH, beam=beam)
    renderer = spot(features)
    with torch.no_grad():
        start = renderer()
        for name, parameter in renderer.named_parameters():
            if beam == "sources" and name.endswith("beam.direction"):
                continue  # explicit sources take its place
            before = parameter.clone()
            parameter.add_(1e-3 * torch.randn_like(parameter) * (1 + parameter.abs()))
            assert not torch.equal(renderer(), start), name
            parameter.copy_(before)
            assert torch.equal(renderer(), start), name
