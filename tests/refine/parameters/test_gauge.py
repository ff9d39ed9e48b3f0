"""What a whole and its parts tell twice, and what that leaves of their sigmas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbtorch.config import PanelGroup
from refine.least_squares.levenberg_marquardt import LevenbergMarquardt
from refine.least_squares.uncertainty import uncertainty
from refine.parameters.gauge import as_chosen, gauge_directions
from refine.parameters.physical import detector_parameters
from refine.positions.objective import PositionObjective
from refine.settings.fit_settings import ParameterSettings
from tests.refine import tiny
from tests.refine.positions.test_objective import measured

LEFT, RIGHT = PanelGroup("left", (0,)), PanelGroup("right", (1,))
WHOLE = PanelGroup("detector", (), (LEFT, RIGHT))
MOVES = ParameterSettings(detector_shift=True, detector_rotation=True)


def halves(free: tuple[str, ...], groups: tuple[PanelGroup, ...] = (WHOLE, LEFT, RIGHT)) -> tiny.Tiny:
    expts = tiny.experiments(2, 2, groups=groups)
    parameters = tiny.parameter_set(expts, free)
    return tiny.simulate(expts, parameters, parameters.start, 3.0)


def test_a_common_motion_of_all_parts_is_one_of_the_whole() -> None:
    made = halves(("detector.*",))
    detector = made.blocks[0].experiment.detector
    found = gauge_directions(made.parameters, detector, 0)
    assert found.shape == (18, 6)
    names = [made.parameters.parameters_[i].name for i in made.parameters.free]
    together = torch.zeros(18, dtype=torch.float64)
    for name, by in (("detector", 1.0), ("left", -1.0), ("right", -1.0)):
        together[names.index(f"detector.{name}.shift_fast")] = by
    assert (found @ (found.T @ together)).allclose(together, atol=1e-9)  # a millimetre against a millimetre


@pytest.mark.parametrize("groups", [(WHOLE,), (LEFT, RIGHT)])
def test_bodies_that_share_no_panel_have_no_gauge(groups: tuple[PanelGroup, ...]) -> None:
    made = halves(("detector.*",), groups)
    assert gauge_directions(made.parameters, made.blocks[0].experiment.detector, 0).shape[1] == 0


def test_parts_are_restrained_only_where_a_whole_moves_too() -> None:
    for groups, expected in (((WHOLE, LEFT, RIGHT), [None, 0.15, 0.15]), ((LEFT, RIGHT), [None, None])):
        (expt,) = tiny.experiments(1, 2, groups=groups)
        rows = detector_parameters(expt.detector, MOVES)
        assert [row.restraint for row in rows[::6]] == [s if s is None else pytest.approx(s) for s in expected]


def test_a_whole_and_its_parts_have_sigmas_of_what_the_restraints_choose() -> None:
    """The whole of two halves that mirror each other moves by their mean, whose sigma is what it is without parts."""
    free = ("detector.*.shift_fast",)
    made, alone = halves(free), halves(free, (LEFT, RIGHT))
    sigmas = []
    for scene in (made, alone):
        objective, parameters = scene.objective(), scene.start()
        gauge = gauge_directions(parameters, scene.blocks[0].experiment.detector, 0)
        sigmas.append(uncertainty(objective, parameters, objective.linearize(parameters), gauge))
    together, apart = (known.covariance.matrix() for known in sigmas)
    mean = torch.tensor([0.5, 0.5], dtype=torch.float64)
    # the restraint of 0.15 mm on the halves' difference is the only other thing that is known
    assert float(together[0, 0]) == pytest.approx(float(mean @ apart @ mean), rel=1e-3)
    assert sigmas[0].model[0] < 0.01  # mm; 0.1 with the restraints' own width, 0.15/√2, in it


def test_a_part_without_data_is_known_as_its_restraint_says(rng: np.random.Generator) -> None:
    made = halves(("detector.*.shift_fast",))
    objective, parameters = made.objective(rng), made.start()
    for block in objective.blocks:  # the right half sees nothing
        block.boxes.counts[block.boxes.panel == 1] = 0
    objective.box_weights = tuple((block.boxes.panel == 0).double() for block in objective.blocks)
    gauge = gauge_directions(parameters, made.blocks[0].experiment.detector, 0)
    known = uncertainty(objective, parameters, objective.linearize(parameters), gauge)
    names = list(known.names)
    right = names.index("detector.right.shift_fast")
    # right = −left by the gauge; what is seen is whole + left, so that each half is half of an unknown difference,
    # 0.15·√2 wide
    for sigma in (known.model, known.sandwich):
        assert float(sigma[right]) == pytest.approx(0.15 / 2**0.5, rel=0.02)


def test_the_variance_of_the_gauge_is_what_restraints_alone_would_leave() -> None:
    gauge = torch.tensor([[1.0], [-1.0], [-1.0]], dtype=torch.float64)
    left = as_chosen(gauge, torch.tensor([0.0, 4.0, 4.0], dtype=torch.float64))
    assert left.allclose(torch.tensor([[1 / 8]]).double())


def test_the_sandwich_of_positions_is_their_scatter_where_many_indices_are_wrong(rng: np.random.Generator) -> None:
    """Weights alone would count outliers as measurements, and make the sigmas too small."""
    block, _, truth = measured(rng)
    (expt,) = tiny.experiments()
    parameters = tiny.parameter_set([expt], ("detector.*.shift_fast", "detector.*.shift_slow"))
    with torch.no_grad():
        parameters.values.copy_(truth)
        predicted = block.target - block.residuals(parameters).value
    objective, ends, sigmas = PositionObjective([block]), [], []
    for _ in range(100):
        heavy = torch.as_tensor(rng.standard_t(2, predicted.shape)) * 0.2 / block.sharpness
        block.target, block._last = predicted + heavy, None
        with torch.no_grad():
            parameters.values.copy_(truth)
        objective.estimate_spread(parameters)
        solver = LevenbergMarquardt(1e-6)
        for _ in range(3):
            solver.step(objective, parameters)  # type: ignore[arg-type]
        ends.append(parameters.values.detach()[parameters.free].clone())
        known = uncertainty(objective, parameters, objective.linearize(parameters))  # type: ignore[arg-type]
        sigmas.append(known.sandwich)
    ratio = torch.stack(ends).std(0) / torch.stack(sigmas).square().mean(0).sqrt()
    # seen 1.13, 0.99 (1.36, 1.21 by weights); a width from 100 draws is known to 7 %
    assert ratio.sub(1).abs().max() < 0.2
