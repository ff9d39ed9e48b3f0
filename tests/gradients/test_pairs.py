"""Gradients by finite differences, for every pair of (parameter, feature) and every pair of features."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch

from tests.helpers.gradients import NOT_ZERO, differentiable, image_of, steepest, vanishing
from tests.helpers.pairwise import all_pairs, covering, pairs_of
from tests.helpers.scenes import FEATURES, Features, allowed, spot

#: Which parameters a scene checks; one more "feature", so that every parameter meets every value of every feature.
MODELS = ("crystal", "beam", "detector structure_factors")
SCENES = covering({**FEATURES, "models": MODELS}, allowed)


def split(scene: dict[str, Any]) -> tuple[Features, tuple[str, ...]]:
    """The features of a scene, and the models whose parameters it checks."""
    chosen = dict(scene)
    models = chosen.pop("models")
    return Features(**chosen), tuple(models.split())


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: f"{split(scene)[0]}-{scene['models'].split()[0]}")
def test_gradient_equals_finite_differences(scene: dict[str, Any]) -> None:
    features, models = split(scene)
    renderer = spot(features)
    names = tuple(name for name in differentiable(renderer) if name.startswith(models))
    image, moves = image_of(renderer, names)
    assert torch.autograd.gradcheck(image, tuple(moves))


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: str(split(scene)[0]))
def test_gradient_is_zero_only_where_the_parameter_has_no_part(scene: dict[str, Any]) -> None:
    features, _ = split(scene)
    largest = steepest(spot(features))
    zero = vanishing(features) & set(largest)
    assert {name for name, value in largest.items() if value == 0} == zero
    # smallest seen 4.8e-3: rotation of a point-pixel detector under a top hat
    assert all(value > NOT_ZERO for name, value in largest.items() if name not in zero), largest


def test_scenes_hold_every_pair_that_can_be() -> None:
    covered = set().union(*map(pairs_of, SCENES))
    missing = all_pairs({**FEATURES, "models": MODELS}) - covered
    overflow = {(("mode", mode), ("detector", "point")) for mode in ("running_omega", "running_all")}
    assert missing == overflow
    assert [field.name for field in fields(Features)] == list(FEATURES)


def test_every_parameter_of_the_models_is_checked_somewhere() -> None:
    names = {name for beam in ("spread", "sources") for name in steepest(spot(Features(beam=beam, drifts=True)))}
    assert names == {
        *(f"crystal.{n}" for n in ("cell", "rotation", "misset", "mosaic_spread", "n_cells", "spindle_axis")),
        *(f"crystal.{n}" for n in ("rotation_knots", "cell_knots")),
        *(f"beam.{n}" for n in ("direction", "wavelength", "spectrum", "divergence", "kahn_factor")),
        *(f"beam.{n}" for n in ("polarization_axis", "fluence", "weight", "source_direction", "source_wavelength")),
        *(f"detector.{n}" for n in ("fast_axis", "slow_axis", "origin", "thickness", "absorption", "shift")),
        "detector.rotation",
        "structure_factors.amplitudes",
    }
