"""The loop without Lightning, the rules with made-up measurements, and the chain from positions to pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from refine.fit.loop import Loop
from refine.fit.position_fit import refit_moved
from refine.fit.prepare import prepare
from refine.fit.problem import Problem
from refine.fit.stages import Rules
from refine.fit.state import Decision, Stage, State
from refine.parameters.kinds import SCALE
from refine.records.journal import Journal
from refine.settings.fit_settings import (
    BeamSettings,
    CrystalSettings,
    DataSettings,
    FitSettings,
    LossSettings,
    ParameterSettings,
    RenderingSettings,
    SolverSettings,
)
from tests.refine import small

FLAGS = ParameterSettings(detector_shift=True, detector_rotation=True, cell=False, fix=("*.rot_normal",))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("loop")
    small.write_stills(made, 2)
    return made


def settings_of(folder: Path, **changes: Any) -> FitSettings:
    given = {
        "data": DataSettings(str(folder / "start.expt"), amplitudes=str(folder / "F.hkl")),
        "crystal": CrystalSettings(n_cells=small.N_CELLS, mosaic_spread=0.0),
        "parameters": FLAGS,
        "render": RenderingSettings(oversample=3),
    }
    return FitSettings(**(given | changes))


def prepared(folder: Path, **changes: Any) -> Problem:
    return prepare(settings_of(folder, **changes), Journal())


@pytest.fixture(scope="module")
def problem(folder: Path) -> Problem:
    return prepared(folder)


@dataclass
class Told:
    """Measurements that are given rather than made."""

    z2: float = 1.0
    scales: tuple[float, dict[int, float]] = (9.0, {0: 2.0, 1: 3.0})
    losses_by_sampling: dict[int, float] = field(default_factory=lambda: {1: 50.0, 2: 40.0, 3: 39.0})
    rms: Callable[[Tensor], float] = lambda values: 0.3

    def spread(self, values: Tensor) -> tuple[float, float]:
        return 0.2, 0.1

    def shape_error(self, decision: Decision) -> float:
        return 0.15


def at(problem: Problem, stage: Stage, iterations: int = 0) -> State:
    values = problem.parameters.values.detach().clone()
    return State(stage, values, Rules(problem).free(stage), {}, iterations)


SPOTS = Stage("spots", sampled=True)
FRAME = Stage("frame", free_scales=False, predicted=True, sampled=True)


@pytest.mark.parametrize(
    ("stage", "told", "name"),
    [
        (SPOTS, Told(z2=1.49), None),
        (SPOTS, Told(z2=1.51), "robust"),
        (SPOTS, Told(scales=(0.24, {0: 2.0, 1: 3.0})), "frame"),
        (SPOTS, Told(scales=(0.26, {0: 2.0, 1: 3.0})), None),
        (SPOTS, Told(z2=8.1, scales=(0.24, {0: 2.0, 1: 3.0})), "robust"),
        (SPOTS, Told(scales=(float("inf"), {})), None),
        (replace(SPOTS, loose=True), Told(), "spots"),
        (FRAME, Told(z2=1.49), None),
        (FRAME, Told(z2=1.51), "again"),
        (Stage("again"), Told(z2=1.51), "robust"),
        (Stage("robust", model_error=0.1, errors=(0.2, 0.1, 0.3)), Told(), "robust"),
        (Stage("robust", model_error=0.1, errors=(0.2, 0.1, 0.3), weighed_anew=True), Told(), None),
    ],
)
def test_what_follows_is_decided_by_what_is_measured(
    problem: Problem, stage: Stage, told: Told, name: str | None
) -> None:
    decision = Rules(problem).next_stage(at(problem, stage), told)
    assert (decision.stage and decision.stage.name) == name


def test_one_scale_begins_at_the_medians_of_the_spots(problem: Problem) -> None:
    decision = Rules(problem).next_stage(at(problem, SPOTS), Told(scales=(0.1, {0: 2.0, 1: 3.0})))
    places = [problem.parameters.index_of(SCALE, number) for number in (0, 1)]
    assert decision.values[places].tolist() == [2.0, 3.0]
    assert set(places) <= set(decision.free)


@pytest.mark.parametrize(("by_pixels", "kept"), [(0.89, False), (0.91, True)])
def test_positions_keep_the_geometry_where_pixels_of_other_shapes_predict_no_better(
    problem: Problem, by_pixels: float, kept: bool
) -> None:
    stage = Stage("robust", model_error=0.1, errors=(0.2, 0.1, 0.3), weighed_anew=True)
    state = at(problem, stage)
    moved = replace(state, values=state.values + 0.01)
    told = Told(rms=lambda values: by_pixels if values.equal(moved.values) else 1.0)
    decision = Rules(problem).next_stage(moved, told)
    place = list(problem.moved_by_positions)
    assert problem.by_positions is not None
    assert decision.by_positions == kept
    assert decision.values[place].equal(problem.by_positions[place] if kept else moved.values[place])


@pytest.mark.parametrize(("iterations", "z2", "wrong"), [(4, 3.1, True), (4, 2.9, False), (3, 3.1, False)])
def test_spots_that_are_plainly_not_what_is_rendered_are_seen_early(
    problem: Problem, iterations: int, z2: float, wrong: bool
) -> None:
    assert Rules(problem).shapes_are_wrong(at(problem, SPOTS, iterations), Told(z2=z2)) is wrong


def test_a_fit_converges_without_lightning(folder: Path) -> None:
    loop = Loop(prepared(folder))
    for _ in range(40):
        loop.iterate()
        if loop.converged:
            break
    assert loop.converged
    assert [begun.stage.name for begun in loop.stages if begun.stage][:2] == ["spots", "frame"]
    found = dict(zip([row.name for row in loop.values.parameters_], loop.values.values.tolist(), strict=True))
    for axis, true in zip(("fast", "slow", "normal"), small.SHIFT, strict=True):
        assert found[f"detector.detector.shift_{axis}"] == pytest.approx(true, abs=0.002)  # mm; worst seen 0.0007


def test_what_a_checkpoint_of_an_earlier_version_lacks_is_found_again(folder: Path, tmp_path: Path) -> None:
    loop = Loop(prepared(folder))
    for _ in range(3):
        loop.iterate()
    plain, values = loop.plain(), loop.values.values.detach().clone()
    torch.save(plain, tmp_path / "plain")
    read = torch.load(tmp_path / "plain", weights_only=True)
    del read["left_out"]
    other = Loop(replace(loop.problem, parameters=loop.problem.parameters.twin(values)))
    other.restore(read)
    assert other.iterate() == loop.iterate()
    assert other.values.values.equal(loop.values.values)
    assert other.values.free == loop.values.free


def rms_at_the_beginning_of_pixels(problem: Problem) -> tuple[float, float]:
    loop = Loop(problem)
    loop.begin()
    return loop.problem.positions(fitted=True).rms(loop.values)


@pytest.mark.parametrize(
    "changes",
    [
        {"crystal": CrystalSettings()},
        {"crystal": CrystalSettings(), "parameters": replace(FLAGS, mosaic_spread=True)},
        {"crystal": CrystalSettings(), "beam": BeamSettings(((-0.01, 1.0), (0.01, 1.0)))},
    ],
)
def test_pixels_begin_with_the_predictions_that_positions_ended_with(folder: Path, changes: dict[str, Any]) -> None:
    """The sizes and spreads that are estimated in between move no prediction that is not fitted again."""
    problem = prepared(folder, **changes)
    last = problem.history[-1]
    begun = rms_at_the_beginning_of_pixels(problem)
    assert begun == pytest.approx((last.rms_fast_px, last.rms_slow_px), abs=1e-6)  # px; else up to 0.14


def test_another_size_of_a_crystal_moves_no_prediction(folder: Path) -> None:
    """With one size along all axes, as is assumed where none is stated, there is nothing to fit again."""
    problem = prepared(folder, crystal=CrystalSettings())
    values = problem.parameters.values.detach()
    larger = problem.parameters.twin(values)
    with torch.no_grad():
        for place, row in enumerate(larger.parameters_):
            if ".n_" in row.name:
                larger.values[place] *= 3
    one, two = (problem.positions().residuals(at) for at in (problem.parameters, larger))
    for a, b in zip(one, two, strict=True):
        assert torch.allclose(a.value[:, :2], b.value[:, :2], rtol=0, atol=1e-8)  # px


def test_without_a_fit_of_positions_the_geometry_is_that_of_the_pixels(folder: Path) -> None:
    problem = prepared(folder, loss=LossSettings(kind="robust"), solver=SolverSettings(coarse=False))
    assert problem.by_positions is None
    assert problem.moved_by_positions == ()
    loop = Loop(problem)
    for _ in range(60):
        loop.iterate()
        if loop.converged:
            break
    assert loop.converged
    assert loop.stage.name == "robust"
    assert not loop.by_positions
    assert "positions" not in loop.message
    moved = (loop.values.values.detach() - loop.values.start).abs() > 0
    assert bool(moved[loop.values.free].all())
    assert sum(problem.positions().rms(loop.values)) < 0.5 * sum(problem.rms_start)


def test_nothing_is_fitted_again_where_no_prediction_moves(problem: Problem) -> None:
    from refine.fit.position_fit import PositionFit

    before = PositionFit(list(problem.evidence), problem.parameters, problem.history, ran=True)
    found = refit_moved(problem.scene, list(problem.evidence), problem.stacks, problem.settings, before)
    assert found.history == before.history
