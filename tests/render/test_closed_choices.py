"""What the closed form decides: pixels, blocks, pieces, where there is light; and that nothing becomes NaN."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from nbtorch.config import CrystalConfig, Exposure
from nbtorch.errors import ConfigError
from nbtorch.kernels import profile_dispatch
from nbtorch.models import Experiment, Spreads
from nbtorch.render import PixelSelection, Renderer, full_frame, roi, shoeboxes
from nbtorch.render import closed as choices
from nbtorch.spreads import SpreadConfig
from tests.helpers.closed import BOX, EVERY, POINTS, Spot, around, small, worst


def test_full_frame_roi_shoeboxes_and_blocks_agree() -> None:
    experiment = small()
    config = experiment.detector.config
    with torch.no_grad():
        whole = Renderer(experiment, full_frame(config), BOX).images()[0]
        part = roi(config, (8, 15), (5, 20))
        blocks = replace(BOX, block_bytes=2**20)
        boxes, _ = shoeboxes(config, np.array([[0, 12.0, 12.0], [0, 20.0, 9.0]]), 2)
        for pixels, settings in ((part, BOX), (part, blocks), (boxes, BOX), (full_frame(config), blocks)):
            found = Renderer(experiment, pixels, settings)()
            assert worst(found, whole[pixels.slow, pixels.fast]) < 1e-12  # worst seen 4e-16


def test_gradients_in_blocks_are_those_of_one() -> None:
    found = []
    for settings in (replace(BOX, block_bytes=2**20), BOX):
        experiment = small()
        renderer = Renderer(experiment, roi(experiment.detector.config, (10, 14), (9, 13)), settings)
        (renderer() ** 2).sum().backward()
        found.append({name: p.grad for name, p in experiment.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        assert torch.allclose(gradient, found[1][name], rtol=1e-9, atol=1e-12 * float(gradient.abs().max()))


def test_terms_are_those_of_the_average_that_was_asked_for() -> None:
    experiment = small()
    closed = Renderer(experiment, settings=BOX)
    with pytest.raises(ConfigError, match="profile_terms"):
        closed.terms(0, 10, 10)
    with pytest.raises(ConfigError, match="Use terms"):
        Renderer(small(None)).profile_terms(0, 10, 10)
    with torch.no_grad():
        image, terms, scene = closed.images()[0], closed.profile_terms(0, 12, 12), closed.scene()
    assert scene.profile is not None
    assert bool(torch.isfinite(terms.average).all())
    assert bool((torch.linalg.eigvalsh(terms.covariance) > 0).all())
    assert float(image[12, 12]) > 0


def test_a_long_spindle_range_is_cut_into_pieces() -> None:
    spot = Spot(20.0, oscillation=2.5)
    scene = Renderer(spot.experiment(), around(spot, half=1), POINTS).scene()
    assert len(scene.basis) == 3
    assert scene.closed is not None
    assert math.degrees(scene.closed.span) == pytest.approx(2.5 / 3)
    assert choices.PIECE >= 2.5 / 3


def test_a_drifting_crystal_is_cut_into_the_steps_of_the_exposure() -> None:
    base = small(None)
    config: CrystalConfig = replace(base.crystal.config, knots=(15.0, 25.0))
    scene = Experiment.from_config(
        config, base.beam.config, base.detector.config, None, Exposure(20.0, 0.4, 4), SpreadConfig()
    )
    assert len(Renderer(scene, settings=BOX).scene().basis) == 4


def test_an_image_is_never_nan_far_from_the_spots_or_at_any_spread() -> None:
    for spreads in (None, EVERY, SpreadConfig(bandwidth=0.02), SpreadConfig(mosaic=1.0)):
        for again in (False, True):
            experiment = small(spreads)
            row = roi(experiment.detector.config, (0, 23), (12, 12))
            renderer = Renderer(experiment, row, replace(POINTS, relinearize=again))
            image = renderer()
            assert bool(torch.isfinite(image).all())
            assert float(image.detach().max()) > 0
            image.sum().backward()
            found = [p.grad for p in experiment.parameters() if p.grad is not None]
            assert all(bool(torch.isfinite(gradient).all()) for gradient in found)


def test_spreads_of_the_experiment_are_parameters() -> None:
    names = {name for name, _ in Spreads().named_parameters()}
    assert names == {"mosaic", "bandwidth", "divergence", "cell", "covariance", "point_spread", "coupling"}
    assert isinstance(around(Spot(), half=1), PixelSelection)


@pytest.mark.parametrize("again", [False, True])
def test_where_there_is_light_is_all_that_matters(again: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no C kernel serves: what is culled has less than 1e-10 of a peak."""
    monkeypatch.setattr(profile_dispatch, "profile_in_c", lambda *_: False)
    found = []
    for backend in ("reference", "auto"):
        experiment = small()
        row = roi(experiment.detector.config, (4, 19), (11, 13))
        image = Renderer(experiment, row, replace(POINTS, relinearize=again, backend=backend))()
        (image**2).sum().backward()
        gradients = {name: p.grad for name, p in experiment.named_parameters() if p.grad is not None}
        found.append((image.detach(), gradients))
    assert worst(found[1][0], found[0][0]) < 1e-9
    for name, gradient in found[0][1].items():
        error = (gradient - found[1][1][name]).abs().max()
        assert float(error) <= 1e-7 * float(gradient.abs().max()), name
