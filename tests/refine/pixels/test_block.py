"""The Jacobian of rendered shoeboxes, column by column, against differences of the rendering itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nbtorch.config import Exposure, MosaicConfig, RenderSettings
from refine.parameters.parameter_set import ParameterSet
from refine.parameters.physical import mosaic_parameters
from refine.pixels.block import Block
from refine.settings.fit_settings import ParameterSettings
from tests.refine import tiny

EVERY = ("detector.*", "crystal[0].*", "beam.*")


def block_and_parameters(mosaic: MosaicConfig, exposure: Exposure, oversample: int) -> tuple[Block, ParameterSet]:
    """A crystal on two panels, all its parameters free and off their starts."""
    (expt,) = tiny.experiments(panels=2, mosaic=mosaic, cell=(23.0, 27.0, 31.0, 84.0, 97.0, 103.0), space_group="P 1")
    rows = [*tiny.parameter_rows([expt]), *mosaic_parameters(0, expt.crystal, free=True)]
    parameters = ParameterSet(rows, tiny.start_tensors([expt]))
    parameters.release(range(len(rows)))
    wobble = torch.sin(torch.arange(len(rows), dtype=torch.float64))
    with torch.no_grad():
        parameters.values.add_(0.02 * wobble * parameters.column("span"))
    boxes = tiny.empty_boxes(expt, tiny.plan(expt, brightest=8))
    settings = RenderSettings(oversample=oversample)
    return Block(0, expt, [exposure], boxes, settings, "constant"), parameters


def difference(block: Block, parameters: ParameterSet, index: int) -> Tensor:
    """dm/dθ [B, Q] by a five-point difference."""
    now, step = parameters.values.detach().clone(), 1e-4 * parameters.parameters_[index].span
    total = torch.zeros_like(block.boxes.counts)
    for multiple, weight in ((-2, 1 / 12), (-1, -2 / 3), (1, 2 / 3), (2, -1 / 12)):
        with torch.no_grad():
            parameters.values.copy_(now)
            parameters.values[index] += multiple * step
        total += weight / step * block.model(parameters)
    with torch.no_grad():
        parameters.values.copy_(now)
    return total


SCENES = {
    "a still": (MosaicConfig(), Exposure(), 1),
    "sub-pixels, mosaic domains and a rotation": (MosaicConfig(0.2, 6), Exposure(-0.1, 0.3, steps=3), 2),
}


@pytest.mark.parametrize("kind", SCENES)
def test_every_column_is_the_derivative_of_the_rendered_spots(kind: str) -> None:
    block, parameters = block_and_parameters(*SCENES[kind])
    model, columns = block.jacobian(parameters)
    # summed in another order, and culled in other groups of samples: up to 1e-10 of the peak
    torch.testing.assert_close(model, block.model(parameters), rtol=1e-12, atol=2e-10 * float(model.max()))
    assert columns.shape == (*model.shape, len(parameters.of_block(0)))
    worst = {}
    for column, index in enumerate(parameters.of_block(0)):
        expected = difference(block, parameters, index)
        size = float(expected.abs().max())
        name = parameters.parameters_[index].name
        assert size > 0, name
        worst[name] = float((columns[..., column] - expected).abs().max()) / size
    assert max(worst.values()) < 2e-8, worst  # worst seen 3.0e-9 (shift_fast, mosaic): of the differences


def test_held_parameters_have_no_column_and_the_rest_keep_theirs() -> None:
    block, parameters = block_and_parameters(*SCENES["a still"])
    _, whole = block.jacobian(parameters)
    place = parameters.of_block(0)
    parameters.release(place[3:9:2])
    _, some = block.jacobian(parameters)
    assert some.allclose(whole[..., 3:9:2], rtol=1e-12, atol=1e-12 * float(whole.abs().max()))
    parameters.release([])
    model, none = block.jacobian(parameters)
    assert none.shape == (*model.shape, 0)


def test_the_scale_of_a_crystal_multiplies_spots_and_their_columns() -> None:
    (expt,) = tiny.experiments()
    boxes = tiny.empty_boxes(expt, tiny.plan(expt, brightest=4))
    block = Block(0, expt, [tiny.EXPOSURE], boxes, RenderSettings(oversample=1), "constant")
    parameters = tiny.parameter_set([expt], ["crystal[0].rot_x", "crystal[0].scale"])
    one, columns = block.jacobian(parameters)
    with torch.no_grad():
        parameters.values.copy_(tiny.displaced(parameters, {"crystal[0].scale": 1.5}))
    more, scaled = block.jacobian(parameters)
    assert more.allclose(2.5 * one, rtol=1e-14)
    assert scaled[..., 0].allclose(2.5 * columns[..., 0], rtol=1e-12)
    assert scaled[..., 1].allclose(one, rtol=1e-12)


def test_the_jacobian_moves_nothing() -> None:
    block, parameters = block_and_parameters(*SCENES["a still"])
    before = {name: value.detach().clone() for name, value in block.experiment.named_parameters()}
    values = parameters.values.detach().clone()
    block.jacobian(parameters)
    assert parameters.values.equal(values)
    assert all(value.equal(before[name]) for name, value in block.experiment.named_parameters())
    assert all(value.grad is None for value in block.experiment.parameters())


def test_the_shift_of_a_panel_moves_the_spots_on_it_and_no_others() -> None:
    """A panel's own shift changes the spots on it and no others."""
    config = tiny.detector_config(panels=2)
    assert config.hierarchy is not None
    (expt,) = tiny.experiments(panels=2, groups=list(config.hierarchy.children))
    parameters = tiny.parameter_set([expt], ["detector.left.shift_*"], ParameterSettings())
    block = Block(
        0, expt, [tiny.EXPOSURE], tiny.empty_boxes(expt, tiny.plan(expt)), RenderSettings(oversample=1), "constant"
    )
    _, columns = block.jacobian(parameters)
    on_left = block.boxes.panel == 0
    assert on_left.any()
    assert not on_left.all()
    assert columns[on_left].abs().amax((1, 2)).min() > 0
    assert not columns[~on_left].any()
