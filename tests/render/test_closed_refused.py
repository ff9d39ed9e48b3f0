"""What has no closed form is refused, and bad spreads are named."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from nbtorch.config import Exposure, MosaicConfig, RenderSettings
from nbtorch.errors import ConfigError
from nbtorch.models import Experiment
from nbtorch.render import Renderer
from nbtorch.spreads import SpreadConfig
from tests.helpers.closed import BOX, EVERY, POINTS, SAMPLED, Spot, around, small

REFUSED: list[tuple[dict[str, Any], RenderSettings, str]] = [
    ({"shape": "square"}, BOX, "only a Gaussian"),
    ({"shape": "round"}, BOX, "only a Gaussian"),
    ({"shape": "tophat"}, BOX, "only a Gaussian"),
    ({}, replace(BOX, mode="cached"), "parity modes"),
    ({}, replace(BOX, interpolation="tricubic"), "one number a spot"),
    ({"n_cells": 0.5}, BOX, "one cell or more"),
    ({"spreads": EVERY}, SAMPLED, "only the closed form"),
    ({"shape": "gauss", "spreads": EVERY}, BOX, "not made of N"),
    ({"spreads": SpreadConfig(bandwidth=(0.1e-2, 0.1e-2, 0.1e-2))}, BOX, "the spectrum has 1"),
    ({"spreads": SpreadConfig(coupling=(30.0, 0.0, 0.0))}, BOX, "not positive"),
    ({"n_cells": 3000.0}, BOX, "pixel_box=False"),
    ({"mosaic": 5.0, "spreads": SpreadConfig(bandwidth=0.08, cell=(0.1, 0.1, 0.1))}, POINTS, "overlap in every pixel"),
]


@pytest.mark.parametrize(("spot", "settings", "reason"), REFUSED, ids=[reason for *_, reason in REFUSED])
def test_what_has_no_closed_form_is_refused(spot: dict[str, Any], settings: RenderSettings, reason: str) -> None:
    scene = Spot(**spot)
    with pytest.raises(ConfigError, match=reason):
        Renderer(scene.experiment(), around(Spot(), half=1), settings)()


BAD: list[dict[str, Any]] = [
    {"mosaic": -0.1},
    {"mosaic": 90.0},
    {"mosaic": (0.1, 0.2)},
    {"mosaic": math.nan},
    {"bandwidth": -1e-3},
    {"bandwidth": 0.5},
    {"bandwidth": ()},
    {"bandwidth": (1e-3, math.inf)},
    {"divergence": (1.0, -1.0)},
    {"divergence": (1e3, 0.0)},
    {"cell": (0.0, 0.0, 2.0)},
    {"point_spread": -1.0},
    {"covariance": (1e-6, 1e-6, 1e-6, 2e-6, 0.0, 0.0)},
    {"covariance": (math.nan, 0.0, 0.0, 0.0, 0.0, 0.0)},
    {"coupling": (math.inf, 0.0, 0.0)},
]


@pytest.mark.parametrize("given", BAD, ids=str)
def test_bad_spreads_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        SpreadConfig(**given)


def test_settings_of_the_closed_form_are_refused_for_samples() -> None:
    for given in ({"relinearize": True}, {"pixel_box": False}):
        with pytest.raises(ConfigError, match="belong to the closed form"):
            RenderSettings(**given)
    with pytest.raises(ConfigError, match="sampled, closed"):
        RenderSettings(averaging="open")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["mosaic", "bandwidth", "divergence", "cell", "point_spread"])
@pytest.mark.parametrize("value", [-1e-6, math.nan])
def test_a_variance_that_went_wrong_is_named(name: str, value: float) -> None:
    experiment = small()
    with torch.no_grad():
        getattr(experiment.spreads, name).fill_(value)
    with pytest.raises(ConfigError, match=name):
        Renderer(experiment, settings=BOX)()


def test_other_numbers_that_are_not_finite_are_refused() -> None:
    for name in ("covariance", "coupling"):
        experiment = small()
        with torch.no_grad():
            getattr(experiment.spreads, name).fill_(math.nan)
        with pytest.raises(ConfigError):
            Renderer(experiment, settings=BOX)()


def test_nanobraggs_mosaic_set_and_its_stale_step_are_refused() -> None:
    base = small(None)
    config = replace(base.crystal.config, mosaic=MosaicConfig(0.1, 4, "nanobragg"))
    scene = Experiment.from_config(config, base.beam.config, base.detector.config)
    with pytest.raises(ConfigError, match="not normal"):
        Renderer(scene, settings=BOX)()
    base.exposure = Exposure(-0.5, 1.0, 3, "left", True)
    with pytest.raises(ConfigError, match="belongs to steps"):
        Renderer(base, settings=BOX)()
