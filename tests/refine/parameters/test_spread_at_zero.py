"""Stills whose mosaic spread is 0, fitted with it free from 0.3° on: over draws of the photons."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
import torch

from nbtorch.config import MosaicConfig
from refine.least_squares.levenberg_marquardt import LevenbergMarquardt
from refine.least_squares.uncertainty import uncertainty
from refine.parameters.kinds import MOSAIC_SPREAD
from refine.parameters.parameter_set import ParameterSet, switch
from refine.parameters.physical import mosaic_parameters
from refine.settings.fit_settings import ParameterSettings
from tests.refine import tiny

FREE, HELD = ["detector.*", "crystal*"], ["*.rot_normal", "*.scale"]
MOST = 12  # iterations; worst seen 6. With spreads themselves as parameters: 9


@pytest.fixture(scope="module")
def stills() -> tiny.Tiny:
    """Three stills without mosaic spread, and everything about them free."""
    expts = tiny.experiments(3, mosaic=MosaicConfig(0.3, 14))
    rows = tiny.parameter_rows(expts, ParameterSettings(detector_shift=True, detector_rotation=True))
    for index, expt in enumerate(expts):
        rows += mosaic_parameters(index, expt.crystal, free=True)
    parameters = ParameterSet(switch(switch(rows, ["*"], FREE), HELD, []), tiny.start_tensors(expts))
    truth = torch.where(parameters.squared, parameters.column("lower"), parameters.start)
    return tiny.simulate(expts, parameters, truth)


def errors_in_sigmas(stills: tiny.Tiny, draws: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
    """Of spreads [n], and of all other determined parameters [m], over ``draws``; each fit must converge."""
    spreads, others = [], []
    for draw in draws:
        objective, parameters, solver = (
            stills.objective(np.random.default_rng(draw)),
            stills.start(),
            LevenbergMarquardt(),
        )
        steps = 0
        while steps < MOST:
            step, steps = solver.step(objective, parameters), steps + 1
            if step.move < 0.02 or step.loss_before - step.loss_after <= 3e-6 * step.loss_before:
                break
        assert steps < MOST, draw
        known = uncertainty(objective, parameters, objective.linearize(parameters))
        z = ((parameters.values.detach() - stills.truth)[parameters.free] / known.model).tolist()
        for index, value in zip(parameters.free, z, strict=True):
            if np.isfinite(value):
                (spreads if parameters.parameters_[index].kind == MOSAIC_SPREAD else others).append(value)
    return np.array(spreads), np.array(others)


def test_a_spread_that_is_zero_comes_out_within_its_sigma(stills: tiny.Tiny) -> None:
    spreads, others = errors_in_sigmas(stills, range(4))
    assert len(spreads) == 12
    # with spreads themselves as parameters draws 0 to 3 have 2.0 and 3.2; as squares 1.4
    assert spreads.max() < 2
    assert np.abs(others).max() < 4  # worst seen 2.2
    assert len(others) > 80


@pytest.mark.slow
def test_spreads_at_zero_over_many_draws(stills: tiny.Tiny) -> None:
    spreads, others = errors_in_sigmas(stills, range(16))
    # half of them lie at their bound, the others as a half of a normal distribution: 2.3 % beyond 2; one of 48 seen
    assert (spreads > 2).sum() <= 4
    assert spreads.max() < 3.5  # worst seen 2.5; with spreads themselves as parameters 5.2
    assert np.abs(others).max() < 5  # worst seen 3.1
    assert 0.85 < np.sqrt((others**2).mean()) < 1.15  # 0.98 seen
