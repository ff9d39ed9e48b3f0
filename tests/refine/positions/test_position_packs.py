"""Stills whose spots are predicted together: the numbers are those of one still after the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbtorch.config import CrystalConfig, Exposure, ScanConfig
from nbtorch.models import Crystal, Experiment
from nbtorch.render.excited import excited_reflections
from nbtorch.render.predict import predict
from refine.parameters.parameter_set import ParameterSet
from refine.positions.objective import PositionObjective
from refine.positions.position_block import PositionBlock, Positions
from refine.positions.position_packs import packs_of
from tests.refine import tiny
from tests.refine.positions.test_objective import observed

FREE = ("detector*", "crystal*rot_*", "crystal*.?", "crystal*.b*", "beam.tilt_*")


def still(number: int, expt: Experiment, scan: ScanConfig | None = None) -> PositionBlock:
    """The spots of ``expt`` where it predicts them itself, but for half a pixel."""
    exposure = Exposure() if scan is None else Exposure(0.0, scan.oscillation * scan.n_frames)
    seen = excited_reflections(expt, exposure, margin=0.3 if scan is None else 0.0)
    hkl, panel = torch.as_tensor(seen.hkl), torch.as_tensor(seen.panel)
    with torch.no_grad():
        spot = predict(expt, hkl, panel, None if scan is None else torch.as_tensor(seen.phi), Exposure())
    frame = torch.full_like(spot.fast, 0.5) if scan is None else torch.as_tensor(seen.phi) / scan.oscillation
    rng = np.random.default_rng(number)
    off = torch.as_tensor(0.5 * rng.standard_normal((2, len(hkl))))
    whole = torch.ones(len(hkl), dtype=torch.bool)
    spots = observed(hkl, panel, spot.fast + off[0], spot.slow + off[1], frame, whole)[spot.valid]
    return PositionBlock(number, Positions(expt, spots, scan, exposure, "layers"))


def scene(panels: int = 1, *, other: CrystalConfig | None = None) -> tuple[list[Experiment], ParameterSet]:
    """Four crystals, of which the last is as ``other`` says; a whole of ``panels`` that can move."""
    expts = tiny.experiments(4, panels)
    if other is not None:
        expts[3] = Experiment(Crystal(other), expts[0].beam, expts[0].detector, expts[0].structure_factors)
    return expts, tiny.parameter_set(expts, FREE)


def monoclinic() -> CrystalConfig:
    """A crystal with one free number more than the others."""
    return tiny.crystal_config(3, cell=(23.0, 27.0, 31.0, 90.0, 97.0, 90.0), space_group="P 1 2 1")


@pytest.mark.parametrize("panels", [1, 2])
def test_a_pack_of_stills_is_the_stills_one_by_one(panels: int) -> None:
    expts, parameters = scene(panels, other=monoclinic())
    together = [still(number, expt) for number, expt in enumerate(expts)]
    alone = [still(number, expt) for number, expt in enumerate(expts)]
    sizes = {len(block.target) for block in together}
    assert len(sizes) > 1
    (pack,) = packs_of(together)
    columns = pack.jacobians(parameters)
    for one, packed, jacobian in zip(alone, together, columns, strict=True):
        expected = one.jacobian(parameters)
        assert jacobian.shape == expected.shape
        # rtol: of the largest; worst seen 4e-15, since batched products add in another order
        assert torch.allclose(jacobian, expected, rtol=0, atol=1e-13 * float(expected.abs().max()))
        assert torch.allclose(packed.residuals(parameters).value, one.residuals(parameters).value, rtol=0, atol=1e-11)
    assert all(bool(block.abs().amax((0, 1)).gt(0).all()) for block in columns)


def test_a_loss_and_its_equations_are_the_same_in_a_pack() -> None:
    expts, parameters = scene()
    blocks = [still(number, expt) for number, expt in enumerate(expts)]
    joint = PositionObjective(blocks)
    joint.estimate_spread(parameters)
    here = joint.linearize(parameters)
    losses, matrices = 0.0, []
    for number, expt in enumerate(expts):
        one = PositionObjective([still(number, expt)])
        one.spread = [joint.spread[number]]
        linear = one.linearize(parameters)
        losses, matrices = losses + linear.loss, [*matrices, linear.arrow.local[0]]
    assert here.loss == pytest.approx(losses, rel=1e-12)
    for of_pack, of_one in zip(here.arrow.local, matrices, strict=True):
        assert torch.allclose(of_pack, of_one, rtol=1e-10, atol=1e-10 * float(of_one.abs().max()))


def test_a_moved_still_is_predicted_anew() -> None:
    expts, parameters = scene()
    objective = PositionObjective([still(number, expt) for number, expt in enumerate(expts)])
    before = objective.residuals(parameters)
    place = next(i for i in parameters.free if parameters.parameters_[i].name == "crystal[2].rot_x")
    with torch.no_grad():
        parameters.values[place] += 0.1
    changed = [not torch.equal(a.value, b.value) for a, b in zip(before, objective.residuals(parameters), strict=True)]
    assert changed == [False, False, True, False]


def test_what_cannot_be_predicted_alike_is_not_packed() -> None:
    scan = ScanConfig(0.0, 0.5, 8)
    expts, parameters = scene(other=tiny.crystal_config(3, shape="gauss"))
    blocks = [still(0, expts[0]), still(1, expts[1], scan), still(2, expts[2]), still(3, expts[3])]
    packs = packs_of(blocks)
    assert sorted(sorted(block.index for block in pack.blocks) for pack in packs) == [[0, 2], [1], [3]]
    found = PositionObjective(blocks).residuals(parameters)
    assert [len(residual.value) for residual in found] == [len(block.target) for block in blocks]


def test_a_still_without_spots_has_no_columns_and_harms_no_other() -> None:
    expts, parameters = scene()
    blocks = [still(number, expt) for number, expt in enumerate(expts)]
    seen = blocks[1].positions.observed
    none = Positions(expts[1], seen[torch.zeros(len(seen), dtype=torch.bool)], None, Exposure(), "layers")
    blocks[1] = PositionBlock(1, none)
    objective = PositionObjective(blocks)
    objective.estimate_spread(parameters)
    arrow = objective.linearize(parameters).arrow
    spans = parameters.column("span", parameters.local[1])
    assert torch.allclose(arrow.local[1], torch.diag(spans**-2), rtol=1e-12)  # its header is all that is known
    assert not arrow.mixed[1].any()
    assert len(objective.residuals(parameters)[1].value) == 0
    assert bool(arrow.local[0].any())
