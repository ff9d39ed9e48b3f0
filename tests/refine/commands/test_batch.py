"""Many experiments, each fitted by itself: what fails costs itself, and a batch that was broken off goes on."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nbtorch.errors import ConfigError, FileError
from refine.__main__ import main
from refine.commands.batch import members
from refine.commands.batch_table import BatchRow, Number, printed, reasons, tally
from tests.helpers.data import ROOT
from tests.refine import small

FIT = ("parameters=crystal", "parameters.cell=false", "parameters.mosaic_spread=false", "crystal.mosaic_spread=0",
       "crystal.n_cells=[12,11,9]", "render.oversample=3", "trainer.logger=none", "trainer.threads=1")  # fmt: skip
BROKEN = 1
TOO_LONG = 600  # seconds


def write_separate(folder: Path, count: int) -> None:
    """``count`` stills, each with an experiment list of its own, and F.hkl."""
    small.write_stills(folder, count)
    together = json.loads((folder / "start.expt").read_text())
    for number in range(count):
        alone = {name: [together[name][number]] for name in ("experiment", "crystal", "imageset")}
        alone["experiment"][0] |= {"crystal": 0, "imageset": 0}
        (folder / f"still_{number}.expt").write_text(json.dumps(together | alone))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_separate(folder, 3)
    (folder / f"still_{BROKEN}.whole").write_bytes((folder / f"still_{BROKEN}.cbf").read_bytes())
    (folder / f"still_{BROKEN}.cbf").write_bytes(b"")
    return folder


def command(data: Path, into: Path, *more: str) -> list[str]:
    return [
        "batch", str(data / "still_*.expt"), "--into", str(into), f"data.amplitudes={data / 'F.hkl'}", *FIT, *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("batch") / "into"
    assert main(command(data, into, "--jobs", "2")) == 0
    return into


def table(into: Path) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads((into / "batch.json").read_text())["fits"]}


def test_a_fit_that_fails_costs_itself_alone_and_says_why(done: Path) -> None:
    rows = table(done)
    assert {name: row["status"] for name, row in rows.items()} == {
        "still_0": "ok", "still_1": "failed", "still_2": "ok",
    }  # fmt: skip
    assert "still_1.cbf" in rows["still_1"]["reason"]
    assert "still_1.cbf" in (done / "still_1" / "output.txt").read_text()
    assert not (done / "still_1" / "result.json").exists()


def test_the_table_holds_what_each_result_says(done: Path) -> None:
    for name in ("still_0", "still_2"):
        row, found = table(done)[name], json.loads((done / name / "result.json").read_text())
        assert row["chi_square"] == found["goodness"]["reduced_chi_square"]
        assert [row["rms_fast_px"], row["rms_slow_px"]] == found["spots"]["rms_end_px"]
        assert row["spots"] == found["spots"]["used"]
        free = {p["name"]: p for p in found["parameters"] if p["free"] and p["tied_to"] is None}
        assert row["parameters"].keys() == free.keys()
        assert row["parameters"]["crystal[0].rot_x"]["sigma"] == free["crystal[0].rot_x"]["sigma"] > 0


def test_the_csv_is_the_same_table(done: Path) -> None:
    with (done / "batch.csv").open(newline="") as stream:
        rows = {row["name"]: row for row in csv.DictReader(stream)}
    for name, row in table(done).items():
        assert rows[name]["status"] == row["status"]
        assert rows[name]["reason"] == row["reason"]
    for column, key in (("crystal[0].rot_x", "value"), ("crystal[0].rot_x sigma", "sigma")):
        assert float(rows["still_0"][column]) == table(done)["still_0"]["parameters"]["crystal[0].rot_x"][key]
        assert rows["still_1"][column] == ""


def test_given_again_it_leaves_what_is_finished_and_tries_what_failed(
    data: Path, done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {name: (done / name / "result.json").stat().st_mtime_ns for name in ("still_0", "still_2")}
    rows = table(done)
    broken = data / f"still_{BROKEN}.cbf"
    broken.write_bytes((data / f"still_{BROKEN}.whole").read_bytes())
    try:
        assert main(command(data, done)) == 0
    finally:
        broken.write_bytes(b"")
    assert "2 of 3 fits are finished" in capsys.readouterr().out
    assert before == {name: (done / name / "result.json").stat().st_mtime_ns for name in before}
    after = table(done)
    assert after["still_1"]["status"] == "ok"
    assert {name: after[name] for name in before} == {name: rows[name] for name in before}


def test_killed_it_goes_on_without_doing_again_what_was_finished(data: Path, done: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    into = tmp_path / "into"
    process = subprocess.Popen(
        [sys.executable, "-m", "refine", *command(data, into)], env=environment, stdout=subprocess.DEVNULL
    )
    first, last = into / "still_0" / "result.json", into / "still_2" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + TOO_LONG
    while process.poll() is None and not last.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = first.stat().st_mtime_ns
    assert not (into / "still_2" / "result.json").exists()
    wait_for_the_lock(into / "still_2")
    again = subprocess.run(
        [sys.executable, "-m", "refine", *command(data, into)], env=environment, capture_output=True, text=True,
        timeout=TOO_LONG, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert "1 of 3 fits are finished" in again.stdout
    assert first.stat().st_mtime_ns == finished
    ours, whole = table(into)["still_2"], table(done)["still_2"]
    assert ours["status"] == "ok"
    assert ours["parameters"] == whole["parameters"]


def wait_for_the_lock(folder: Path) -> None:
    """The fit that ran ends with its batch: the lock of its folder, which no handle holds then, can be taken."""
    import fcntl

    lock = folder / ".nb-refine.lock"
    deadline = time.monotonic() + 20
    while lock.exists() and time.monotonic() < deadline:
        with lock.open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                time.sleep(0.05)
            else:
                return
    assert not lock.exists(), "the fit goes on though its batch was killed"


def test_asked_to_stop_it_says_what_is_left(data: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "refine", *command(data, tmp_path / "into")], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    checkpoint = tmp_path / "into" / "still_0" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + TOO_LONG
    while process.poll() is None and not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.terminate()
    _, said = process.communicate(timeout=TOO_LONG)
    assert process.returncode == 130
    assert "give the same command to go on" in said
    assert {row["status"] for row in table(tmp_path / "into").values()} == {"waiting"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("crystal.n_cells=[9,9,9]",), "begun with other settings (crystal.n_cells was [12, 11, 9])"),
        (("trainer=ddp",), "Give --jobs N"),
        (("hydra.run.dir=elsewhere",), "the batch sets that for each fit"),
        (("data.experiment=one.expt",), "the batch sets that for each fit"),
    ],
)
def test_what_a_batch_cannot_do_is_refused_before_any_fit(
    data: Path, done: Path, more: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (done / "batch.json").read_text()
    assert main(command(data, done, *more)) == 1
    assert said in capsys.readouterr().err
    assert (done / "batch.json").read_text() == before


def test_a_table_that_is_not_its_own_is_left_alone(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "batch.csv").write_text("mine")
    assert main(command(data, tmp_path)) == 1
    assert "it is no batch's" in capsys.readouterr().err
    assert (tmp_path / "batch.csv").read_text() == "mine"


@pytest.mark.parametrize("given", [("--jobs=0",), ("--nonsense",), ("solver.nonsense=1",)])
def test_a_wrong_command_line_is_told(data: Path, tmp_path: Path, given: tuple[str, ...]) -> None:
    assert main(command(data, tmp_path, *given)) == 2
    assert not (tmp_path / "batch.json").exists()


def test_help_says_how_a_batch_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["batch", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "batch.csv" in shown
    assert "the same command" in shown
    assert "--jobs N" in shown


def test_fits_are_called_after_their_files(tmp_path: Path) -> None:
    for name in ("a/one.expt", "a/two.expt", "b/one.expt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert [member.name for member in members([str(tmp_path / "a" / "*.expt")], tmp_path)] == ["one", "two"]
    both = members([str(tmp_path / "a" / "*.expt"), str(tmp_path / "b" / "one.expt")], tmp_path / "into")
    assert [member.name for member in both] == ["a_one", "a_two", "b_one"]
    assert both[2].folder == tmp_path / "into" / "b_one"
    (tmp_path / "a_one.expt").write_text("{}")
    with pytest.raises(ConfigError, match="share a folder"):
        members([str(tmp_path / "*.expt"), str(tmp_path / "*" / "one.expt")], tmp_path)
    with pytest.raises(FileError, match="no file matches"):
        members([str(tmp_path / "none*.expt")], tmp_path)


def test_the_printed_table_begins_with_what_failed_where_all_have_no_room() -> None:
    fine = [BatchRow(f"s{i}", "", "ok", spots=9, parameters={"a": Number(1.0, 0.1, "mm")}) for i in range(70)]
    rows = [*fine, BatchRow("bad", "", "failed", "it is broken")]
    shown = printed(rows, 60)
    names = list(shown.columns[0].cells)
    assert "bad" in names
    assert len(names) == 60
    assert shown.caption == "… and 11 more in batch.csv"
    assert len(printed(rows, 200).columns) == len(shown.columns) + 1  # the parameter, where there is room for it
    assert tally(rows) == "70 ok, 1 failed"
    assert reasons(rows) == ["bad: it is broken"]
