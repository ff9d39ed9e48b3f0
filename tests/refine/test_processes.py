"""A fit that two processes share, each with its own stills, is the fit of one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from refine.processes import agreed, dealt, exchange, failing_together, gathered, is_first, listed, total_number
from tests.helpers.data import ROOT
from tests.refine import small

FIT = ("parameters=all", "parameters.cell=false", "parameters.mosaic_spread=false", "crystal.mosaic_spread=0",
       "parameters.fix=[*.rot_normal]", "crystal.n_cells=[12,11,9]", "render.oversample=3", "parameters.scale=frame",
       "trainer.progress=none", "trainer.logger=none")  # fmt: skip
TWO = ("trainer=ddp", "trainer.devices=2")
TOO_LONG = 600  # seconds: processes that wait for each other for ever


def command(data: Path, out: Path, *more: str) -> list[str]:
    given = [f"data.experiment={data / 'start.expt'}", f"data.amplitudes={data / 'F.hkl'}", f"hydra.run.dir={out}"]
    return [sys.executable, "-m", "refine", *given, *FIT, *more]


def environment() -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    return {**ours, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def run(data: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(data, out, *more), env=environment(), capture_output=True, text=True, timeout=TOO_LONG, check=False
    )


def result(out: Path) -> dict[str, Any]:
    found = json.loads((out / "result.json").read_text())
    assert isinstance(found, dict)
    return found


def furthest(one: dict[str, Any], two: dict[str, Any]) -> tuple[float, float]:
    """The largest difference of a value, in sigmas, and the largest relative difference of a sigma."""
    pairs = [(a, b) for a, b in zip(one["parameters"], two["parameters"], strict=True) if a["sigma"]]
    assert all(a["name"] == b["name"] for a, b in pairs)
    values = max(abs(a["value"] - b["value"]) / a["sigma"] for a, b in pairs)
    return values, max(abs(b["sigma"] / a["sigma"] - 1) for a, b in pairs)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    small.write_stills(folder, 3)
    return folder


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("alone")
    done = run(data, out)
    assert done.returncode == 0, done.stderr
    return result(out)


@pytest.fixture(scope="module")
def shared(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    out = tmp_path_factory.mktemp("shared")
    done = run(data, out, *TWO)
    assert done.returncode == 0, done.stderr
    return result(out), done.stdout


def test_two_processes_give_the_answer_of_one(alone: dict[str, Any], shared: tuple[dict[str, Any], str]) -> None:
    values, sigmas = furthest(alone, shared[0])
    assert values < 1e-8  # worst seen 4e-12 of a sigma: sums over stills are taken in another order
    assert sigmas < 1e-8  # worst seen 3e-12
    for key in ("undetermined", "choices", "warnings", "converged", "message"):
        assert shared[0][key] == alone[key]
    assert shared[0]["spots"]["used"] == alone["spots"]["used"]
    assert shared[0]["spots"]["rms_end_px"] == pytest.approx(alone["spots"]["rms_end_px"], rel=1e-8)
    assert [row["stage"] for row in shared[0]["history"]] == [row["stage"] for row in alone["history"]]


def test_each_process_renders_its_own_stills(alone: dict[str, Any], shared: tuple[dict[str, Any], str]) -> None:
    assert [share["crystals"] for share in alone["timing"]["processes"]] == [[0, 1, 2]]
    assert [share["crystals"] for share in shared[0]["timing"]["processes"]] == [[0, 2], [1]]
    assert "2 processes share 3 stills" in shared[1]


def test_one_process_writes_and_talks(shared: tuple[dict[str, Any], str]) -> None:
    assert shared[1].count("converged: ") == 1
    assert shared[1].count("with an index") == 1


def test_a_still_lost_in_one_process_is_lost_for_all(data: Path, tmp_path: Path) -> None:
    for name in ("start.expt", "F.hkl", "still_0.cbf", "still_2.cbf"):
        (tmp_path / name).write_bytes((data / name).read_bytes())
    (tmp_path / "still_1.cbf").write_bytes(b"")  # all that the second process has
    done = run(tmp_path, tmp_path / "out", *TWO)
    assert done.returncode == 0, done.stderr
    found = result(tmp_path / "out")
    assert [row["ok"] for row in found["frames"]] == [True, False, True]
    assert done.stdout.count("still_1.cbf") == 1
    assert [share["crystals"] for share in found["timing"]["processes"]] == [[0, 2], []]


def test_an_error_of_one_process_ends_both_and_is_said_once(data: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.json").write_text("{}")  # the first alone looks whether it may write there
    done = run(data, tmp_path / "out", *TWO)
    assert done.returncode == 1
    assert done.stderr.count("it holds a run") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_killed_fit_of_two_processes_goes_on_from_its_checkpoint(
    data: Path, tmp_path: Path, alone: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(data, out, *TWO), env=environment(), start_new_session=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while process.poll() is None and not (out / "checkpoints" / "last.ckpt").exists():
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "result.json").exists()
    done = run(data, out, *TWO, "resume=true")
    assert done.returncode == 0, done.stderr
    found = result(out)
    values, sigmas = furthest(alone, found)
    assert values < 1e-8  # worst seen 4e-12 of a sigma
    assert sigmas < 1e-8
    assert [row["stage"] for row in found["history"]] == [row["stage"] for row in alone["history"]]


@pytest.mark.slow
def test_a_single_scan_is_never_divided_and_that_is_said(tmp_path: Path) -> None:
    small.write_stills(tmp_path, 1)
    done = run(tmp_path, tmp_path / "out", *TWO)
    assert done.returncode == 0, done.stderr
    assert "2 processes share 1 still or scan" in done.stdout
    assert "trainer.devices=1 does the same" in done.stdout


@pytest.mark.parametrize("given", [("-m", "solver.tolerance=1e-6,1e-5"), ("--multirun", "seed=1,2")])
def test_a_sweep_takes_one_process_a_run(data: Path, tmp_path: Path, given: Sequence[str]) -> None:
    done = run(data, tmp_path / "out", *TWO, *given, f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 1
    assert "Leave trainer=ddp out" in done.stderr


def test_another_number_of_processes_than_srun_started_is_refused(data: Path, tmp_path: Path) -> None:
    given = command(data, tmp_path / "out")
    started = {**environment(), "SLURM_STEP_NUM_TASKS": "4"}
    done = subprocess.run(given, env=started, capture_output=True, text=True, timeout=TOO_LONG, check=False)
    assert done.returncode == 1
    assert "srun started 4 processes" in done.stderr


def test_without_others_every_exchange_is_what_was_given() -> None:
    assert is_first()
    assert exchange("a") == ["a"]
    assert agreed(3) == 3
    assert dealt([1, 2, 3]) == [1, 2, 3]
    assert gathered({2: "b", 1: "a"}) == {1: "a", 2: "b"}
    assert listed([1, 2]) == [1, 2]
    assert total_number(0.1) == 0.1
    with failing_together():
        pass


@pytest.mark.slow
def test_processes_that_slurm_starts_find_each_other(data: Path, tmp_path: Path, alone: dict[str, Any]) -> None:
    slurm = {"JOB_ID": str(os.getpid()), "JOB_NAME": "fit", "NODELIST": "127.0.0.1", "NODEID": "0", "NTASKS": "2"}
    slurm |= {"NTASKS_PER_NODE": "2", "STEP_NUM_TASKS": "2"}
    started = []
    for number in "01":
        given = {**slurm, "PROCID": number, "LOCALID": number}
        variables = environment() | {f"SLURM_{name}": value for name, value in given.items()}
        process = subprocess.Popen(
            command(data, tmp_path / "out", *TWO),
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
    said = [process.communicate(timeout=TOO_LONG) for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert said[0][0].count("converged: ") == 1
    assert said[1][0] == ""
    assert furthest(alone, result(tmp_path / "out"))[0] < 1e-8  # worst seen 4e-12 of a sigma


@pytest.mark.slow
def test_one_process_that_is_asked_to_stop_stops_all(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(data, out, *TWO), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not (out / "checkpoints" / "last.ckpt").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)  # the first alone
    _, error = process.communicate(timeout=TOO_LONG)
    assert process.returncode == 0, error
    assert result(out)["stopped_by"] == "SIGTERM"
