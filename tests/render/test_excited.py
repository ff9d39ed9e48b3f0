"""Which reflections are listed as excited, and where."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nbtorch.config import Exposure
from nbtorch.errors import ConfigError, DataError
from nbtorch.models import Experiment
from nbtorch.render.excited import LOW_ORDER, corner_resolution, excited_reflections
from nbtorch.render.predict import mean_wave, predict
from tests.functional.test_prediction import BEAM, CRYSTAL, PIXELS, SCENES, DetectorConfig, experiment, tilted_panel


def test_excited_reflections_are_those_that_light_the_detector() -> None:
    scene = SCENES["plain"]()
    found = excited_reflections(scene, dmin=2.5, margin=0.4)
    everything = np.stack(np.meshgrid(*[np.arange(-36, 37)] * 3, indexing="ij"), -1).reshape(-1, 3)
    panel = torch.zeros(len(everything), dtype=torch.long)
    with torch.no_grad():
        resolution = (torch.as_tensor(everything).double() @ scene.crystal.vectors()[1]).norm(dim=-1)
        spots = predict(scene, torch.as_tensor(everything), panel)
    on = (spots.fast >= 0) & (spots.fast < PIXELS) & (spots.slow >= 0) & (spots.slow < PIXELS) & spots.valid
    bright = on & (spots.weight > 1e-3) & (resolution < 0.4) & (resolution > 0)
    missing = {tuple(h) for h in everything[bright.numpy()]} - {tuple(h) for h in found.hkl}
    assert int(bright.sum()) > 100
    assert not missing


@pytest.mark.parametrize(
    ("cell", "wavelength", "margin"),
    [
        ((30.0, 45.0, 60.0, 70.0, 100.0, 110.0), 1.0, 0.3),
        ((80.0, 80.0, 38.0, 90.0, 90.0, 90.0), 0.7, 0.1),
        ((65.0, 71.0, 58.0, 90.0, 115.0, 90.0), 4.0, 3.0),
    ],
)
def test_a_still_lists_every_reflection_near_the_sphere(
    cell: tuple[float, ...], wavelength: float, margin: float
) -> None:
    crystal = replace(CRYSTAL, cell=cell)
    beam = replace(BEAM, wavelength=wavelength)
    scene = Experiment.from_config(crystal, beam, experiment().detector.config)
    found = excited_reflections(scene, margin=margin, border=1e9)
    with torch.no_grad():
        stars = scene.crystal.vectors()[1].numpy()
        wave = mean_wave(scene).numpy()
    limit = corner_resolution(scene)
    highest = np.floor(limit * np.linalg.norm(scene.crystal.vectors()[0].detach().numpy(), axis=1)).astype(int)
    every = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in highest], indexing="ij"), -1).reshape(-1, 3)
    length = np.linalg.norm(every @ stars, axis=1)
    off = np.abs(np.linalg.norm(wave + every @ stars, axis=1) - np.linalg.norm(wave))
    reach = np.sin(np.deg2rad(margin)) * np.maximum(length, LOW_ORDER)
    near = every[(length > 0) & (length <= limit) & (off <= reach)]
    assert len(near) > 30
    assert {tuple(h) for h in found.hkl} == {tuple(h) for h in near}


def test_excited_positions_are_predictions() -> None:
    scene = SCENES["goniometer"]()
    found = excited_reflections(scene, Exposure(-20.0, 30.0), dmin=3.0, margin=0.0)
    assert len(found) > 300
    with torch.no_grad():
        spots = predict(scene, *(torch.as_tensor(x) for x in (found.hkl, found.panel, found.phi)))
    # 0.4 px, 0.03°: the crossing is interpolated between spindle angles 1° apart; worst where it is grazing
    np.testing.assert_allclose(found.fast, spots.fast, atol=0.4)
    np.testing.assert_allclose(found.phi, spots.phi, atol=0.03)


def test_the_resolution_limit_and_the_margin_choose_reflections() -> None:
    scene = experiment()
    assert corner_resolution(scene) == pytest.approx(2 * np.sin(np.arctan(50 * np.sqrt(2) / 150) / 2), rel=1e-9)
    everything = excited_reflections(scene, margin=0.2)
    fewer = excited_reflections(scene, dmin=3.0, margin=0.2)
    nearer = excited_reflections(scene, margin=0.05)
    assert 0 < len(fewer) < len(everything)
    assert 0 < len(nearer) < len(everything)
    assert everything.miss.max() <= 0.2


def test_a_border_adds_the_reflections_beside_the_panel() -> None:
    scene = experiment()
    inside, around = (excited_reflections(scene, dmin=2.2, margin=0.2, border=border) for border in (0.0, 60.0))
    beside = (around.fast < 0) | (around.fast >= PIXELS) | (around.slow < 0) | (around.slow >= PIXELS)
    assert len(around) - len(inside) == beside.sum() > 0


def test_a_reflection_that_crosses_twice_is_listed_twice() -> None:
    found = excited_reflections(SCENES["goniometer"](), Exposure(0.0, 180.0), dmin=6.0, margin=0.0)
    _, times = np.unique(found.hkl, axis=0, return_counts=True)
    assert set(times.tolist()) == {1, 2}


def test_wild_units_are_refused_before_they_fill_the_memory() -> None:
    wild = Experiment.from_config(
        CRYSTAL, replace(BEAM, wavelength=1e-3), DetectorConfig((tilted_panel(),)), exposure=Exposure()
    )
    with pytest.raises(DataError, match="units"):
        excited_reflections(wild)


def test_a_curved_detector_is_refused_here_too() -> None:
    curved = Experiment.from_config(CRYSTAL, BEAM, DetectorConfig((tilted_panel(),), curved=True))
    with pytest.raises(ConfigError, match="curved"):
        excited_reflections(curved)
