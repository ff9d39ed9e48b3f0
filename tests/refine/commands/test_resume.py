"""A fit that was broken off after any iteration, in any stage, goes on to the very numbers of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from refine.__main__ import main
from refine.fit.module import FitModule
from refine.fit.prepare import prepare
from refine.fit.problem import Problem
from refine.records.journal import Journal
from refine.settings.fit_settings import (
    CrystalSettings,
    DataSettings,
    FitSettings,
    ParameterSettings,
    RenderingSettings,
)
from tests.helpers.data import ROOT
from tests.refine import small

FIT = ("parameters=all", "parameters.cell=false", "parameters.mosaic_spread=false", "crystal.mosaic_spread=0",
       "parameters.fix=['*.rot_normal']", "crystal.n_cells=[12,11,9]", "render.oversample=3", "data.frame_range=[0,1]",
       "trainer.progress=none", "trainer.logger=none")  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    small.write(folder)
    return folder


def command(data: Path, out: Path, *more: str) -> list[str]:
    given = [f"data.experiment={data / 'start.expt'}", f"data.amplitudes={data / 'F.hkl'}", f"hydra.run.dir={out}"]
    return [*given, *FIT, *more]


def result(out: Path) -> dict[str, Any]:
    found = json.loads((out / "result.json").read_text())
    assert isinstance(found, dict)
    return found


def numbers(out: Path) -> dict[str, Any]:
    """Everything that a fit ends with but its times and its command line."""
    found = result(out)
    return {
        key: found[key]
        for key in ("parameters", "history", "spots", "undetermined", "correlations", "choices", "journal")
    }


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a fit that was not broken off."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert main(command(data, out)) == 0
    assert result(out)["converged"]
    return out


def pixel_iterations(whole: Path) -> list[str]:
    """The stage of each iteration over pixels."""
    return [row["stage"] for row in result(whole)["history"] if row["stage"] != "positions"]


def break_off_after(data: Path, out: Path, iterations: int) -> None:
    """A fit stopped after ``iterations``, then resumed."""
    assert main(command(data, out, f"solver.max_iterations={iterations}")) == 0
    assert not result(out)["converged"]
    assert main(command(data, out, "resume=true")) == 0


@pytest.fixture(scope="module")
def problem(data: Path) -> Problem:
    given = DataSettings(str(data / "start.expt"), amplitudes=str(data / "F.hkl"), frame_range=(0, 1))
    flags = ParameterSettings(detector_shift=True, detector_rotation=True, cell=False, fix=("*.rot_normal",))
    crystal = CrystalSettings(n_cells=small.N_CELLS, mosaic_spread=0.0)
    render = RenderingSettings(oversample=3)
    return prepare(FitSettings(data=given, crystal=crystal, parameters=flags, render=render), Journal())


def module_of(problem: Problem) -> FitModule:
    """A fresh module at the start of ``problem``, which it does not share."""
    own = replace(problem, parameters=deepcopy(problem.parameters), journal=deepcopy(problem.journal))
    module = FitModule(own)
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign,assignment]
    return module


def iterate(module: FitModule, most: int = 60) -> FitModule:
    while most and not module.loop.converged:
        module.training_step(None, 0)
        most -= 1
    return module


def test_a_module_brought_back_from_a_checkpoint_of_any_stage_goes_on_as_if_it_had_not_stopped(
    problem: Problem, tmp_path: Path
) -> None:
    whole = iterate(module_of(problem))
    begun = len(problem.history)
    stages = [row.stage for row in whole.loop.history[begun:]]
    assert len(set(stages)) > 1
    for iterations in (1, stages.index(stages[-1]) + 1):  # in the first stage, and in the last
        stopped = iterate(module_of(problem), iterations)
        checkpoint: dict[str, Any] = {"state_dict": stopped.state_dict()}
        stopped.on_save_checkpoint(checkpoint)
        torch.save(checkpoint, tmp_path / "last.ckpt")
        read = torch.load(tmp_path / "last.ckpt", weights_only=True)
        resumed = module_of(problem)
        resumed.load_state_dict(read["state_dict"])
        resumed.on_load_checkpoint(read)
        iterate(resumed)
        assert resumed.loop.history == whole.loop.history
        assert resumed.loop.values.values.equal(whole.loop.values.values)
        assert resumed.loop.journal.entries == whole.loop.journal.entries
        assert resumed.loop.message == whole.loop.message


@pytest.mark.slow
def test_a_fit_broken_off_after_any_iteration_ends_at_the_same_numbers(data: Path, whole: Path, tmp_path: Path) -> None:
    for iterations in range(1, len(pixel_iterations(whole))):
        break_off_after(data, tmp_path / str(iterations), iterations)
        assert numbers(tmp_path / str(iterations)) == numbers(whole)


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0.0, 0.05, 0.2])
def test_a_fit_killed_at_any_moment_ends_at_the_same_numbers(
    data: Path, whole: Path, tmp_path: Path, moment: float
) -> None:
    """SIGKILL ``moment`` seconds after the first checkpoint: between iterations, within one, or while it writes."""
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "refine", *command(data, out, "trainer.threads=1")],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    deadline = time.monotonic() + 300
    while not (out / "checkpoints" / "last.ckpt").exists() and process.poll() is None:
        assert time.monotonic() < deadline, "no checkpoint in five minutes"
        time.sleep(0.005)
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    if (out / "result.json").exists():
        pytest.fail("the fit had ended before it was killed: give it more to do")
    assert main(command(data, out, "trainer.threads=1", "resume=true")) == 0
    ended, expected = numbers(out), numbers(whole)
    for row, other in zip(ended["parameters"], expected["parameters"], strict=True):
        assert row["value"] == pytest.approx(other["value"], rel=1e-9, abs=1e-12)  # other threads, other rounding
    assert [row["stage"] for row in ended["history"]] == [row["stage"] for row in expected["history"]]


@pytest.mark.slow
def test_two_fits_of_one_seed_are_the_same_to_the_last_digit(data: Path, whole: Path, tmp_path: Path) -> None:
    assert main(command(data, tmp_path / "out")) == 0
    assert numbers(tmp_path / "out") == numbers(whole)
