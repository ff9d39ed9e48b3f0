"""The command, end to end, on a small simulated measurement."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from nbtorch.io.expt import read_expt
from refine.__main__ import main
from refine.commands.compare import compare
from refine.records.run_folder import AMPLITUDES, OUTPUTS
from tests.helpers.data import ROOT
from tests.refine import small

# The cell, and the rotation about the beam, which goes with it, are not what these tests are about.
FIT = ("parameters=all", "parameters.cell=false", "parameters.mosaic_spread=false", "crystal.mosaic_spread=0",
       "parameters.fix=['*.rot_normal']", "crystal.n_cells=[12,11,9]", "trainer.progress=lines")  # fmt: skip
QUICK = (
    *FIT,
    "parameters=detector",
    "parameters.fix=[]",
    "debug=fast",
    "data.frame_range=[0,1]",
    "trainer.logger=none",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose name holds all that Hydra's grammar would trip over."""
    folder = tmp_path_factory.mktemp("data") / "a [b] (c), d=e #1 ~{f}"
    small.write(folder)
    return folder


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NBTORCH_TRACEBACK", raising=False)


def arguments(data: Path, out: Path, *more: str) -> list[str]:
    return [
        f"data.experiment={data / 'start.expt'}",
        f"data.frames={data / 'small_*.cbf'}",
        f"data.amplitudes={data / 'F.hkl'}",
        f"hydra.run.dir={out}",
        *more,
    ]


def result(out: Path) -> dict[str, Any]:
    found = json.loads((out / "result.json").read_text())
    assert isinstance(found, dict)
    return found


def values(out: Path) -> dict[str, float]:
    return {row["name"]: row["value"] for row in result(out)["parameters"]}


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a fit that went to its end; it holds blanks and brackets too."""
    out = tmp_path_factory.mktemp("runs") / "out [1], x=2 {y}"
    truth = data / "truth.json"
    truth.write_text(json.dumps({"parameters": small.truth()}))
    assert main(arguments(data, out, *FIT, f"data.truth={truth}")) == 0
    return out


def test_a_run_leaves_everything_that_it_promises(finished: Path) -> None:
    missing = {name for name in OUTPUTS if not (finished / name).is_file()}
    assert missing == {AMPLITUDES}  # which are not refined here
    assert list(finished.glob("logs/version_*/metrics.csv"))
    assert not list(finished.rglob("*.part"))
    assert (finished / "report.html").read_text().startswith("<!doctype html>")


def test_the_fit_ends_at_the_truth_within_its_own_sigmas(finished: Path) -> None:
    found = result(finished)
    assert found["converged"]
    assert found["spots"]["used"] > 30
    rows = {row["name"]: row for row in found["truth"]}
    assert {f"detector.detector.shift_{axis}" for axis in ("fast", "slow", "normal")} <= set(rows)
    assert max(abs(row["in_sigmas"]) for row in rows.values()) < 4.0  # worst seen 0.7 of nine
    assert max(row["sigma"] for name, row in rows.items() if "shift" in name) < 0.005  # mm; worst seen 0.0012


def test_the_refined_experiment_is_where_the_parameters_say(finished: Path, data: Path) -> None:
    found = values(finished)
    moved = compare(read_expt(data / "start.expt"), read_expt(finished / "refined.expt"))
    axes = ("fast", "slow", "normal")
    assert moved.groups[0].shift == pytest.approx([found[f"detector.detector.shift_{axis}"] for axis in axes], abs=1e-9)
    assert moved.groups[0].rotation == pytest.approx(
        [found[f"detector.detector.rot_{axis}"] for axis in axes], abs=1e-9
    )
    assert moved.crystals[0].rotation == pytest.approx([found[f"crystal[0].rot_{axis}"] for axis in "xyz"], abs=1e-7)
    assert read_expt(finished / "refined.expt")[0].images[0].is_file()


def test_the_checkpoint_holds_plain_data_alone(finished: Path) -> None:
    import torch

    checkpoint = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["nbtorch"]["history"]
    assert "hyper_parameters" not in checkpoint


def test_a_finished_run_resumed_ends_at_the_same_numbers(finished: Path, data: Path) -> None:
    before = values(finished)
    assert main(arguments(data, finished, *FIT, f"data.truth={data / 'truth.json'}", "resume=true")) == 0
    assert values(finished) == before


def test_the_threads_asked_for_are_those_of_the_fit(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr("refine.commands.app.fit", lambda *given: None)
    assert main(arguments(data, tmp_path / "out", *FIT, "trainer.threads=3")) == 0
    assert asked == [3]


def test_a_folder_that_holds_a_run_is_left_alone(
    finished: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "result.json").read_bytes()
    assert main(arguments(data, finished, *FIT)) == 1
    assert "resume=true to go on with it, overwrite=true to start again" in capsys.readouterr().err
    assert (finished / "result.json").read_bytes() == before


def test_a_run_is_not_resumed_with_other_settings(
    finished: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(data, finished, *FIT, "parameters.cell=true", "resume=true")) == 1
    assert "begun with other settings (data.truth" in (error := capsys.readouterr().err)
    assert "parameters.cell was False" in error


def test_out_of_iterations_is_told_and_its_results_are_kept(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()  # an existing empty folder is used
    assert main(arguments(data, out, *FIT, "solver.max_iterations=1")) == 0
    found = result(out)
    assert not found["converged"]
    assert any("1 iterations were not enough" in text for text in found["warnings"])


def test_two_runs_of_one_seed_are_identical(data: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert main(arguments(data, tmp_path / name, *QUICK)) == 0
    assert values(tmp_path / "one") == values(tmp_path / "two")


def test_the_presets_free_their_parameters_and_no_more(data: Path, tmp_path: Path) -> None:
    assert main(arguments(data, tmp_path / "out", *QUICK)) == 0
    free = {row["name"] for row in result(tmp_path / "out")["parameters"] if row["free"]}
    assert {name for name in free if not name.endswith(".scale")} == {
        f"detector.detector.{kind}_{axis}" for kind in ("shift", "rot") for axis in ("fast", "slow", "normal")
    }


def test_a_sweep_runs_each_and_one_that_fails_does_not_end_it(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sweep, all"
    assert main(["--multirun", *arguments(data, out, *QUICK, "data.dmin=0.0,0.0001,1.5")]) in (0, 1)
    assert result(out / "0")["converged"] in (True, False)
    assert result(out / "2")["spots"]["used"] > 0
    assert not [line for line in capsys.readouterr().err.splitlines() if "Traceback" in line]


def test_check_draws_the_predictions_and_fits_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "checked"
    assert main(["--check", *arguments(data, out)]) == 0
    page = (out / "check.html").read_text()
    assert page.count("<circle") > 30
    assert page.count('<img src="data:image/png;base64,') == small.FRAMES
    assert not (out / "result.json").exists()
    printed = capsys.readouterr().out
    assert "reflections predicted on the detector" in printed
    assert main(["--check", *arguments(data, out)]) == 1  # not overwritten unasked


@pytest.mark.parametrize("text", ["parameters=crystal|detector|all", "overwrite=true", "experiment: default, in16c"])
def test_help_is_worth_reading_and_leaves_nothing(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--help"]) == 0
    assert text in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("nb-refine 0.")


def started(command: Sequence[str], out: Path) -> subprocess.Popen[str]:
    """A run in a process of its own, which has written a first checkpoint."""
    process = subprocess.Popen(
        [sys.executable, "-m", "refine", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not (out / "checkpoints" / "last.ckpt").exists() and process.poll() is None:
        assert time.monotonic() < deadline, "no checkpoint in five minutes"
        time.sleep(0.02)
    return process


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_numbers_of_one_that_was_not(data: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = arguments(data, out, *FIT, f"data.truth={data / 'truth.json'}")
    process = started(command, out)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert not (out / "result.json").exists()
    assert main([*command, "resume=true"]) == 0
    again, whole = values(out), values(finished)
    assert again == pytest.approx(whole, rel=1e-9, abs=1e-12)
    assert len(result(out)["history"]) == len(result(finished)["history"])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_stop_keeps_what_it_has(data: Path, tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "out"
    process = started(arguments(data, out, *FIT), out)
    process.send_signal(number)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    found = result(out)
    if not found["converged"]:  # the signal may come in the last iteration
        assert found["stopped_by"] == number.name
        assert any("partial results" in text for text in found["warnings"])
    assert (out / "refined.expt").is_file()
