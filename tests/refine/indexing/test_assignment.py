"""What was measured for an experiment: spots on frames of which some are lost, indices, and the spots left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nbtorch.io import read_expt
from refine.fit.fit_parameters import parameter_set
from refine.frames.frame_stack import FrameReader, FrameStack
from refine.indexing.assignment import assign
from refine.parameters.moved_experiment import moved_experiment
from refine.records.journal import Journal
from refine.scene.scene import Scene, build_scene
from refine.settings.fit_settings import DataSettings, FitSettings, ParameterSettings
from refine.spots.survey import find
from tests.refine import small


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("evidence")
    small.write(made)
    return made


def settings_of(folder: Path, **data: object) -> FitSettings:
    given = DataSettings(str(folder / "start.expt"), **data)  # type: ignore[arg-type]
    return FitSettings(data=given, parameters=ParameterSettings(detector_shift=True))


@pytest.fixture(scope="module")
def scene(folder: Path) -> Scene:
    document = read_expt(folder / "start.expt")
    return build_scene(document, {0: document.entries[0].images}, settings_of(folder), Journal())


@pytest.fixture(scope="module")
def stack(scene: Scene) -> FrameStack:
    return FrameStack(scene.experiments[0].images, FrameReader(scene.experiments[0].entry.detector), Journal())


def test_a_lost_frame_costs_its_own_spots_alone(folder: Path, scene: Scene, stack: FrameStack) -> None:
    frames = [*stack.frames()]
    whole, part = find(scene.experiments[0], frames), find(scene.experiments[0], [*frames[:2], None])
    early = whole.last_frame < 2
    assert 0 < early.sum() < len(whole)
    assert part.last_frame.max() == 1
    apart = np.hypot(whole.fast[early, None] - part.fast, whole.slow[early, None] - part.slow)
    assert np.mean(apart.min(1) < 0.5) > 0.8  # seen 0.89: local backgrounds over two frames are not those over three


def test_moving_the_parameters_moves_a_copy(folder: Path, scene: Scene) -> None:
    parameters = parameter_set(scene, settings_of(folder))
    with torch.no_grad():
        parameters.values[0] += 0.25
    moved = moved_experiment(scene.experiments[0], parameters)
    assert float(moved.detector.shift[0, 0].detach()) == pytest.approx(0.25)
    assert not scene.experiments[0].model.detector.shift.detach().any()


def test_spots_get_the_indices_of_the_experiment_that_predicts_them(
    folder: Path, scene: Scene, stack: FrameStack
) -> None:
    expt, settings = scene.experiments[0], settings_of(folder)
    spots = find(expt, stack.frames())
    parameters = parameter_set(scene, settings)
    names = [row.name for row in parameters.parameters_]
    with torch.no_grad():
        for name, value in small.truth().items():
            parameters.values[names.index(name)] = value
    truth = assign(expt, spots, settings, moved_experiment(expt, parameters), near=True)
    start = assign(expt, spots, settings, expt.model)
    sure = {int(f): tuple(h) for f, h in zip(truth.observed.found, truth.observed.hkl.tolist(), strict=True)}
    given = {int(f): tuple(h) for f, h in zip(start.observed.found, start.observed.hkl.tolist(), strict=True)}
    both = sure.keys() & given.keys()
    assert len(both) > 25
    assert np.mean([sure[f] == given[f] for f in both]) > 0.95


def test_every_spot_has_an_index_or_a_reason(folder: Path, scene: Scene, stack: FrameStack) -> None:
    expt, settings = scene.experiments[0], settings_of(folder)
    spots = find(expt, stack.frames())
    evidence = assign(expt, spots, settings, expt.model)
    told = sorted([*evidence.observed.found.tolist(), *(place for place, _ in evidence.rejected)])
    assert told == list(range(len(spots)))
    assert all(reason for _, reason in evidence.rejected)
    seen = evidence.observed
    assert np.array_equal(seen.fast.numpy(), spots.fast[seen.found.numpy()])
    last = len(expt.images) - 1
    first_and_last = spots.first_frame[seen.found.numpy()], spots.last_frame[seen.found.numpy()]
    assert np.array_equal(seen.whole.numpy(), (first_and_last[0] > 0) & (first_and_last[1] < last))


def test_spots_are_held_out_as_asked(folder: Path, scene: Scene, stack: FrameStack) -> None:
    expt = scene.experiments[0]
    spots = find(expt, stack.frames())
    held = [
        assign(expt, spots, settings_of(folder, holdout="frame", holdout_index=i), expt.model).observed.heldout
        for i in range(3)
    ]
    assert torch.stack(held).sum(0).eq(1).all()


def test_a_still_has_no_neighbours_in_time(folder: Path, scene: Scene, stack: FrameStack) -> None:
    expt = replace(scene.experiments[0], still=True)
    one = find(expt, stack.frames())
    assert np.array_equal(one.first_frame, one.last_frame)
    assert len(one) > len(find(scene.experiments[0], stack.frames()))
