"""The command nb-trace: its files, its exit codes, and C programs that know less."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from nbtorch.nanobragg.cli.trace import main
from nbtorch.nanobragg.compare.bundle import verify
from tests.helpers.data import golden

CASE = (
    f"-cell 74 86 98 82 97 104 -hkl {golden('inputs', 'dense.hkl')} -N 5 -misset 12 23 34 -detpixels 40 -pixel 0.75 "
    "-oversample 2 -phi 2 -osc 1 -phisteps 3"
)
FILES = {"trace_py.log", "trace_c.log", "comparison.json", "comparison.txt", "per_phi.log"}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(c_program: Path | str, *options: str, case: str = CASE) -> int:
    return main(["--case", case, "--pixel", "12", "17", "--out", "out", "--c-bin", str(c_program), *options])


def comparison() -> dict[str, Any]:
    return dict(json.loads(Path("out", "comparison.json").read_text()))


def test_every_factor_of_every_sample_agrees(c_program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(c_program) == 0
    assert {path.name for path in Path("out").iterdir()} == FILES
    found = comparison()
    assert found["first_divergence"] == "none"
    assert found["pixel"] == {"slow": 12, "fast": 17}
    assert {factor["sample"] for factor in found["factors"]} == {0, 1, 2, 3, None}
    assert found["worst_of_tolerance"] < 0.1
    assert len(found["per_phi"]) == 3
    assert "first_divergence: none" in capsys.readouterr().out
    assert "differs" not in Path("out", "comparison.txt").read_text()


def test_the_table_and_the_bundle_are_written_when_asked_for(c_program: Path, tmp_path: Path) -> None:
    assert run(c_program, "--emit-table", "--bundle") == 0
    with Path("out", "comparison.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == comparison()["compared"]
    assert {row["status"] for row in rows} == {"agrees"}
    (bundle,) = (path for path in (tmp_path / "bundles").iterdir() if path.is_dir())
    assert verify(bundle) == []
    assert json.loads((bundle / "metrics.json").read_text())["first_divergence"] == "none"


def test_one_pixel_alone_is_rendered_unless_the_frame_is_asked_for(c_program: Path) -> None:
    run(c_program)
    one = comparison()
    assert run(c_program, "--full-frame", "--overwrite") == 0
    assert "-roi" in one["commands"]["c"]
    assert "-roi" not in comparison()["commands"]["c"]
    assert [factor["py"] for factor in comparison()["factors"]] == [factor["py"] for factor in one["factors"]]


PARTED = {
    "-detector_thick 300 -detector_abs 400 -thicksteps 1": ("pix0_vector_meters", "the sensor layers"),
    "-distance 101": ("pix0_vector_meters", "the distance"),
    "-lambda 1.01": ("lambda_meters", "the wavelength"),
    "-exact_cell": ("rot_a_angstroms", "-exact_cell"),
    "-N 6": ("F_latt_a", "-N 6"),
    "-detector_thick 300 -detector_abs 400 -oversample 1 -thicksteps 2": ("pixel_pos_meters", "the sub-pixel"),
    "-dmin 50": ("pix0_vector_meters", "a sample that the other has not"),
    "-fluence 1e28": ("fluence_photons_per_m2", "-fluence"),
    "-phi_midpoint": ("rot_a_angstroms", "half a step"),
    "-phi 2 -osc 1 -phisteps 4": ("I_before_scaling", "per_phi.log"),
}


@pytest.mark.parametrize("flags", PARTED)
def test_a_flag_of_one_program_is_found_where_it_first_matters(
    c_program: Path, flags: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(c_program, f"--c-flags={flags}") == 3
    name, said = PARTED[flags]
    found = comparison()
    assert found["first_divergence"] == name
    assert said in found["why"]
    assert f"first_divergence: {name}" in capsys.readouterr().out


def test_float32_is_compared_to_its_own_bounds(c_program: Path) -> None:
    assert run(c_program, "--dtype", "float32", "--device", "cpu") == 0
    found = comparison()
    assert "float32" in found["commands"]["py"]
    assert "float32" not in found["commands"]["c"]
    assert any(factor["absolute"] > 1e-10 * abs(factor["c"][0]) for factor in found["factors"])


def wrapper(path: Path, c_program: Path, condition: str) -> Path:
    """A C program under another name that fails, or leaves its trace out, on some words."""
    path.write_text(f'#!/bin/sh\ncase " $* " in {condition}\nesac\nexec {shlex.quote(str(c_program))} "$@"\n')
    path.chmod(0o755)
    return path


def test_a_program_without_trace_all_still_traces(c_program: Path, tmp_path: Path) -> None:
    foreign = wrapper(tmp_path / "nanoBragg", c_program, '*" -trace_all "*) exit 1;;')
    assert run(foreign) == 0
    assert "does not know -trace_all" in Path("out", "per_phi.log").read_text()
    assert "not compared" in Path("out", "per_phi.log").read_text()


def test_a_program_without_traces_is_said_to_have_none(
    c_program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = wrapper(tmp_path / "nanoBragg", c_program, "*) exit 0;;")
    assert run(silent) == 2
    assert "no TRACE_C line" in capsys.readouterr().err
    assert not Path("out").exists()


def test_stale_vectors_of_a_foreign_program_are_explained(c_program: Path, tmp_path: Path) -> None:
    """The original needs no flag for its faults: here the C reference plays it, under another name."""
    original = tmp_path / "nanoBragg"
    original.write_text(f'#!/bin/sh\nexec {shlex.quote(str(c_program))} "$@" -compat nanobragg\n')
    original.chmod(0o755)
    assert run(original, case=CASE.replace("-phi 2", "-phi 0")) == 3
    assert "C is nanoBragg, which skips the rotation" in comparison()["why"]


def test_pixels_with_very_many_terms_are_traced_without_the_list(
    c_program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbtorch.nanobragg.cli.trace.MAX_TERMS", 11)  # four sub-pixels, three steps
    assert run(c_program) == 0
    assert "more than 11 terms" in Path("out", "per_phi.log").read_text()
    assert "I_term" not in Path("out", "trace_c.log").read_text()


def test_what_cannot_be_traced_has_its_exit_code(c_program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(c_program, case=CASE + " -bogus") == 1
    assert run(c_program, case=CASE + " -mat absent.mat") == 5
    assert run(c_program, case=CASE + " -roi 50 60 50 60 -detector_roty 90") == 2
    assert run(c_program, case=CASE.replace("40", "10")) == 1
    assert "outside" in capsys.readouterr().err
    Path("out").mkdir()
    Path("out", "mine.txt").write_text("")
    assert run(c_program) == 5
    with pytest.raises(SystemExit) as left:
        main(["--case", CASE])
    assert left.value.code == 1
