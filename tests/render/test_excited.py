"""Which reflections are listed as excited, and where."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nbtorch.config import Exposure
from nbtorch.errors import ConfigError, DataError
from nbtorch.models import Experiment
from nbtorch.render.excited import corner_resolution, excited_reflections
from nbtorch.render.predict import predict
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
