"""Parameters of many rigid bodies in few columns: the same derivatives, and the same sums of them."""

from __future__ import annotations

import pytest
import torch

from nbtorch.functional.tangents import tangents
from nbtorch.models.detector import root_group
from refine.parameters.panel_columns import Scores, directions
from refine.parameters.parameter_set import ParameterSet
from refine.pixels.objective import PixelObjective
from refine.positions.position_block import PositionBlock, Positions
from refine.scene.rigid_groups import chosen_groups
from refine.spots.observations import Observations
from tests.refine import tiny

FREE = ("detector.*", "crystal[0].rot_*", "crystal[0].scale")


@pytest.fixture(scope="module")
def made() -> tuple[PixelObjective, ParameterSet]:
    """A crystal before two panels that move as a whole and each, all of it a little off."""
    config = tiny.detector_config(2)
    groups = chosen_groups(root_group(config), 2, (0, 1))
    expts = tiny.experiments(panels=2, groups=groups)
    parameters = tiny.parameter_set(expts, FREE)
    truth = tiny.displaced(parameters, {"detector.left.rot_slow": 0.1, "detector.right.shift_fast": 0.03})
    fit = tiny.simulate(expts, parameters, truth)
    return fit.objective(free_scales=False), fit.start(truth)


def test_two_panels_need_the_six_columns_of_one(made: tuple[PixelObjective, ParameterSet]) -> None:
    objective, parameters = made
    _, few = objective.blocks[0].panel_columns(parameters)
    assert len(parameters.free) == 18 + 3 + 1
    assert few.columns.shape[-1] == 6 + 3 + 1


def test_few_columns_make_the_whole_jacobian(made: tuple[PixelObjective, ParameterSet]) -> None:
    objective, parameters = made
    spots, columns = objective.blocks[0].jacobian(parameters)
    expected_spots, expected = objective.blocks[0].forward_mode(parameters)
    assert spots.allclose(expected_spots, rtol=1e-12)
    size = expected.abs().amax((0, 1))
    assert float(((columns - expected).abs().amax((0, 1)) / size).max()) < 1e-9  # as test_jacobian.py


def test_sums_are_those_of_the_whole_scores(made: tuple[PixelObjective, ParameterSet]) -> None:
    objective, parameters = made
    (scores,) = objective.linearize(parameters).scores
    assert isinstance(scores, Scores)
    matrix, gradient = scores.total()
    assert matrix.allclose(scores.matrices.sum(0), rtol=1e-12, atol=1e-12 * float(matrix.abs().max()))
    assert gradient.allclose(scores.gradient.sum(0), rtol=1e-12, atol=1e-12 * float(gradient.abs().max()))


def test_positions_share_directions_and_keep_their_derivatives(made: tuple[PixelObjective, ParameterSet]) -> None:
    objective, parameters = made
    block = objective.blocks[0]
    count, zero = len(block.boxes), torch.zeros(len(block.boxes), dtype=torch.float64)
    seen = Observations(
        hkl=block.boxes.hkl,
        panel=block.boxes.panel,
        fast=zero,
        slow=zero,
        frame=zero + 0.5,
        counts=zero + 1,
        width=torch.ones(count, 3, dtype=torch.float64),
        whole=zero == 0,
        heldout=zero > 0,
        found=torch.arange(count),
    )
    positions = PositionBlock(0, Positions(block.experiment, seen, None, tiny.EXPOSURE, "none"))
    place = parameters.of_block(0)
    assert len(directions(parameters, place, block.experiment.detector).along) == 6 + 6 + 3 + 1
    values = parameters.values.detach()[place]
    _, (expected, _) = tangents(lambda free: positions.predicted(parameters.changes(0, free)), values)
    assert expected is not None
    found = positions.jacobian(parameters)
    assert found.allclose(expected.permute(1, 2, 0), rtol=1e-12, atol=1e-12)
