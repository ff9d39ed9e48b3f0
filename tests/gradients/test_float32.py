"""Single precision: how far a float32 image and its gradients are from float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nbtorch.render import Renderer
from tests.helpers.gradients import gradients
from tests.helpers.scenes import RICH, Features, experiment, settings, spot

SCENES = [
    Features(),
    Features(shape="gauss", beam="spread"),
    RICH,
    replace(RICH, mode="cached", interpolation="nearest", beam="sources", mosaic="nanobragg"),
    replace(RICH, mode="running_polar", shape="gauss_hkl"),
]


def both(features: Features) -> tuple[Renderer, Renderer]:
    """The scene in float64, and the same scene and pixels in float32."""
    double = spot(features)
    single = experiment(features, dtype=torch.float32)
    with torch.no_grad():
        for there, here in zip(single.parameters(), double.experiment.parameters(), strict=True):
            there.copy_(here)
    return double, Renderer(single, double.pixels, settings(features))


@pytest.mark.parametrize("features", SCENES, ids=str)
def test_float32_image_is_close_to_float64(features: Features) -> None:
    double, single = both(features)
    with torch.no_grad():
        exact, image = double(), single()
    assert image.dtype == torch.float32
    # of the peak; worst seen 2.2e-5: gauss with divergence; h ≈ 10 carries 1e-6, times π·6 cells
    assert float((image - exact).abs().max() / exact.max()) < 3e-5


@pytest.mark.parametrize("features", SCENES, ids=str)
def test_float32_gradient_is_close_to_float64(features: Features) -> None:
    double, single = both(features)
    exact = gradients(double)
    for name, gradient in gradients(single).items():
        assert gradient.dtype == torch.float32
        error = (gradient - exact[name]).abs().max()
        # of each parameter's largest; worst seen 1.5e-4: spindle_axis, cached
        assert float(error) <= 5e-4 * float(exact[name].abs().max()), name
