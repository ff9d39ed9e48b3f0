"""Gradients by finite differences over the full product of the features, every parameter in each: the long test."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.gradients import NOT_ZERO, differentiable, image_of, steepest, vanishing
from tests.helpers.scenes import FEATURES, Features, allowed, spot

PRODUCT = ("shape", "sampling", "mode", "interpolation", "panels")


def dark(scene: dict[str, Any]) -> bool:
    """Whether no sample may lie under the flat top: on a bent detector, or of a few domains that drift, its edge passes
    these few pixels by."""
    flat = scene["shape"] == "tophat" and scene["interpolation"] == "tricubic"
    drifting = scene["mosaic"] == "antithetic" and scene["drifts"]
    return bool(flat and (scene["detector"] == "curved" or drifting))


def scenes() -> list[Features]:
    """The product of ``PRODUCT``; the other features are drawn, the same ones in every run."""
    found, draw, again = [], np.random.default_rng(7), np.random.default_rng(8)
    for values in product(*(FEATURES[name] for name in PRODUCT)):
        scene: dict[str, Any] = dict(zip(PRODUCT, values, strict=True))
        rest = {name: FEATURES[name] for name in FEATURES if name not in PRODUCT}
        while True:
            drawn = {name: choices[draw.integers(len(choices))] for name, choices in rest.items()}
            if allowed(scene | drawn):
                break
        while dark(scene | drawn) or not allowed(scene | drawn):
            drawn = {name: choices[again.integers(len(choices))] for name, choices in rest.items()}
        found.append(Features(**scene, **drawn))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("features", scenes(), ids=str)
def test_every_gradient_equals_finite_differences(features: Features) -> None:
    renderer = spot(features)
    image, moves = image_of(renderer, differentiable(renderer))
    assert torch.autograd.gradcheck(image, tuple(moves))
    largest = steepest(renderer)
    assert {name for name, value in largest.items() if value == 0} == vanishing(features) & set(largest)
    assert all(value > NOT_ZERO for name, value in largest.items() if name not in vanishing(features)), largest
