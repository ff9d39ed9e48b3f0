"""The command nb-compare: its files, its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from PIL import Image as Pillow

from nbtorch.nanobragg.cli import compare, trace
from nbtorch.nanobragg.cli.compare import main
from nbtorch.nanobragg.compare.bundle import verify
from tests.helpers.data import ROOT, golden

FLAGS = (
    f"-cell 74 86 98 82 97 104 -hkl {golden('inputs', 'dense.hkl')} -N 5 -misset 12 23 34 -detpixels 20 -pixel 1.5 "
    "-oversample 1"
).split()


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(c_program: Path, *options: str, twice: bool = True) -> int:
    """nb-compare into the folder "out"; ``twice``: the C program stands in for the Python, which starts slower."""
    stand_in = ["--py-bin", str(c_program)] if twice else []
    return main(["--c-bin", str(c_program), *stand_in, "--outdir", "out", *options, "--", *FLAGS])


def summary() -> dict[str, object]:
    return dict(json.loads(Path("out", "summary.json").read_text()))


def test_the_python_and_the_c_program_agree_and_leave_evidence(
    c_program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(c_program, "--bundle", "--save-diff", twice=False) == 0
    found = summary()
    assert found["verdict"] == "agree"
    metrics = found["metrics"]
    assert isinstance(metrics, dict)
    assert metrics["outside_parity"] == 0
    assert metrics["sum_second"] > 0
    seconds = found["seconds"]
    assert isinstance(seconds, dict)
    assert seconds["py"] > seconds["c"] > 0
    assert "verdict: agree" in capsys.readouterr().out
    (bundle,) = (path for path in (tmp_path / "bundles").iterdir() if path.is_dir())
    assert verify(bundle) == []
    assert {path.name for path in (bundle / "outputs").iterdir()} == {path.name for path in Path("out").iterdir()}
    metadata = json.loads((bundle / "run_metadata.json").read_text())
    assert list(metadata["inputs_sha256"]) == ["dense.hkl"]
    assert len((bundle / "commands.txt").read_text().splitlines()) == 2


def test_a_difference_is_measured_mapped_and_below_the_threshold(c_program: Path) -> None:
    assert run(c_program, "--save-diff", "--c-flags", "-fluence 1.5e29") == 3
    metrics = summary()["metrics"]
    assert isinstance(metrics, dict)
    assert metrics["sum_ratio"] == pytest.approx(1.25932015286227e29 / 1.5e29, rel=1e-6)
    assert metrics["correlation"] == pytest.approx(1)
    apart = np.load(Path("out", "difference.npy"), allow_pickle=False)
    assert apart.shape == (20, 20)
    assert apart.sum() == pytest.approx(metrics["sum_first"] - metrics["sum_second"])
    with Pillow.open(Path("out", "difference.png")) as picture:
        assert picture.size == (20, 20)
        assert np.asarray(picture)[..., 2].max() == 255


def test_a_lower_threshold_lets_it_pass(c_program: Path) -> None:
    assert run(c_program, "--threshold", "0.8", "--c-flags", "-fluence 1.5e29") == 0


def test_the_region_alone_is_compared(c_program: Path) -> None:
    assert run(c_program, "--roi", "3", "9", "2", "5") == 0
    metrics = summary()["metrics"]
    assert isinstance(metrics, dict)
    assert metrics["pixels"] == 7 * 4


def test_previews_have_one_scale(c_program: Path) -> None:
    assert run(c_program, "--png-scale", "0.5", "--c-flags", "-fluence 3e29") == 3
    with Pillow.open(Path("out", "py.png")) as ours, Pillow.open(Path("out", "c.png")) as theirs:
        first, second = np.asarray(ours).astype(int), np.asarray(theirs).astype(int)
    visible = (second > 20) & (second < 255)
    assert visible.any()
    np.testing.assert_allclose(first[visible] / second[visible], 1.25932e29 / 3e29, atol=0.05)  # grey levels are whole


def test_different_shapes_have_their_own_exit_code_unless_resampled(
    c_program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(c_program, "--c-flags", "-detpixels 10 -pixel 3") == 4
    assert summary()["shapes"] == {"py": [20, 20], "c": [10, 10]}
    assert summary()["metrics"] is None
    assert "--resample" in capsys.readouterr().out
    # one sample in the middle of a pixel four times as large is not the mean of four
    assert run(c_program, "--overwrite", "--resample", "--c-flags", "-detpixels 10 -pixel 3") == 3
    assert summary()["resampled"] is True
    assert isinstance(summary()["metrics"], dict)


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_a_runner_that_fails_or_is_missing(c_program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(c_program, "--py-bin", script(tmp_path / "fails", "echo no luck >&2; exit 1")) == 2
    assert "no luck" in capsys.readouterr().err
    assert run(c_program, "--py-bin", str(tmp_path / "absent")) == 2
    assert run(c_program, "--c-flags", "-roi 30 40 30 40") == 2
    assert not Path("out").exists()


def test_files_that_are_missing_or_in_the_way(
    c_program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(c_program, "--py-bin", script(tmp_path / "silent", "exit 0")) == 5
    assert "wrote no float.bin" in capsys.readouterr().err
    assert run(c_program, "--c-flags", "-mat absent.mat") == 5
    assert run(c_program, "--roi", "0", "20", "0", "5") == 5
    assert run(c_program) == 0
    assert run(c_program) == 5
    assert "--overwrite" in capsys.readouterr().err
    assert run(c_program, "--overwrite") == 0


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--", "-bogus"],
        ["--threshold", "2", "--", *FLAGS],
        ["--png-scale", "0", "--", *FLAGS],
        ["--nonsense", "--", *FLAGS],
        ["--", "-h"],
    ],
)
def test_usage_errors(words: list[str]) -> None:
    try:
        code: object = main(words)
    except SystemExit as left:
        code = left.code
    assert code == 1


def test_without_a_name_results_go_to_a_dated_folder(c_program: Path) -> None:
    assert main(["--c-bin", str(c_program), "--py-bin", str(c_program), "--", *FLAGS]) == 0
    (made,) = Path("outputs").iterdir()
    assert made.name.startswith("nb-compare-2")


@pytest.mark.parametrize("module", [compare, trace])
def test_help_starts_at_once_and_loads_nothing_heavy(module: object, tmp_path: Path) -> None:
    name = getattr(module, "__name__", "")
    code = (
        f"import sys, time; start = time.process_time()\nimport {name} as tool\n"
        "try:\n    tool.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(time.process_time() - start, *(set(sys.modules) & {'torch', 'numpy', 'PIL'}), file=sys.stderr)"
    )
    start = perf_counter()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert perf_counter() > start
    seconds, *heavy = done.stderr.split()
    assert "exit codes" in done.stdout
    assert not heavy
    assert float(seconds) < 0.3  # CPU time, so that a busy machine does not matter; seen: 0.05
