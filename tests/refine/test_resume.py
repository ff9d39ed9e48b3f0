"""A fit that was broken off after any iteration, in any stage, goes on to the very numbers of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from refine.__main__ import main
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
    return {key: found[key] for key in ("parameters", "history", "spots", "undetermined", "correlations", "choices")}


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


def test_a_fit_broken_off_in_its_last_stage_ends_at_the_same_numbers(data: Path, whole: Path, tmp_path: Path) -> None:
    names = pixel_iterations(whole)
    assert len(set(names)) > 1  # the checkpoint must bring back a stage that is not the first
    break_off_after(data, tmp_path / "out", len(names) - 1)
    assert numbers(tmp_path / "out") == numbers(whole)


@pytest.mark.slow
def test_a_fit_broken_off_after_any_iteration_ends_at_the_same_numbers(data: Path, whole: Path, tmp_path: Path) -> None:
    for iterations in range(1, len(pixel_iterations(whole)) - 1):
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


def test_two_fits_of_one_seed_are_the_same_to_the_last_digit(data: Path, whole: Path, tmp_path: Path) -> None:
    assert main(command(data, tmp_path / "out")) == 0
    assert numbers(tmp_path / "out") == numbers(whole)
