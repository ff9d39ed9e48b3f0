"""What a run leaves for other programs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nbtorch.errors import DataError
from nbtorch.io.expt import read_expt
from nbtorch.io.table import read_csv
from refine.records.outcome import Goodness, SpotRow
from refine.records.run_folder import RunFolder
from refine.report.result import Finding, change_in_sigmas, document, read_truth, truth_rows, write_results
from tests.helpers.dxtbx import system_python
from tests.refine import fake


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    experiment = fake.write_experiment(tmp_path / "start.expt")
    (tmp_path / "out").mkdir()
    found = RunFolder(tmp_path / "out")
    write_results(fake.finding(), read_expt(experiment), found)
    return found


def test_result_json_has_the_keys_that_other_programs_read(folder: RunFolder) -> None:
    result = json.loads((folder / "result.json").read_text())
    assert result["version"] == "0.1.0"
    assert result["command"].startswith("nb-refine")
    assert (result["seed"], result["converged"]) == (3, True)
    assert set(result["timing"]) == {"solve_wall_s", "solve_cpu_s", "processes"}
    parameter = result["parameters"][0]
    assert {"name", "unit", "start", "value", "sigma", "free", "at_bound"} <= set(parameter)
    assert parameter["name"] == "detector.detector.shift_fast"
    assert result["parameters"][1]["sigma"] is None
    assert set(result["undetermined"][0]) == {"combination", "reason"}
    assert result["spots"] == {
        "used": 24,
        "rejected": 1,
        "heldout": 5,
        "rms_start_px": [6.5, 3.0],
        "rms_end_px": [0.15, 0.16],
        "rms_heldout_px": [0.18, 0.15],
    }
    assert [frame["ok"] for frame in result["frames"]] == [True, False]
    assert result["provenance"]["files"][1]["sha256"] is None


def test_refined_expt_holds_the_refined_models_and_finds_its_frames(folder: RunFolder) -> None:
    refined = read_expt(folder / "refined.expt")[0]
    assert refined.detector.panels[0].origin[0] == pytest.approx(-41.2, abs=1e-12)
    assert refined.crystal is not None
    assert refined.crystal.cell[0] == pytest.approx(79.081, abs=1e-9)


def test_dxtbx_loads_refined_expt(folder: RunFolder) -> None:
    run = system_python()
    script = (
        "import sys; from dxtbx.model.experiment_list import ExperimentListFactory as F\n"
        "e = F.from_json_file(sys.argv[1], check_format=False)[0]\n"
        "print(e.detector[0].get_origin()[0], e.crystal.get_unit_cell().parameters()[0])"
    )
    origin, length = run(script, str(folder / "refined.expt")).split()
    assert float(origin) == pytest.approx(-41.2, abs=1e-9)
    assert float(length) == pytest.approx(79.081, abs=1e-6)


def test_relative_frames_of_the_experiment_are_found_from_the_run_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "data" / "frame_0001.cbf").touch()
    experiment = fake.write_experiment(tmp_path / "data" / "start.expt")
    write_results(fake.finding(), read_expt(experiment), RunFolder(tmp_path / "out"))
    assert read_expt(tmp_path / "out" / "refined.expt")[0].images == (tmp_path / "data" / "frame_0001.cbf",)


def test_spots_csv_has_a_row_a_spot_and_nothing_for_what_is_not_known(folder: RunFolder) -> None:
    rows = read_csv(folder / "spots.csv")
    assert len(rows) == 30
    assert list(rows[0])[:6] == ["experiment", "frame", "panel", "h", "k", "l"]
    assert rows[0]["chi_square"] == ""  # left out: the fit did not see it
    assert rows[7]["used"] == "0"
    assert rows[7]["reason"] == "overlaps (1 0 3)"
    assert sum(int(row["used"]) for row in rows) == 24
    assert float(rows[3]["end_fast_px"]) == pytest.approx(fake.outcome().spots[3].end_fast_px, abs=1e-5)


def test_numbers_that_are_not_finite_are_null_in_json_and_empty_in_csv(tmp_path: Path) -> None:
    found = fake.finding()
    nan = float("nan")
    odd: SpotRow = replace(found.outcome.spots[7], start_fast_px=nan, end_slow_px=nan)
    outcome = replace(found.outcome, spots=(odd,), goodness=Goodness(reduced_chi_square=nan))
    experiment = fake.write_experiment(tmp_path / "start.expt")
    write_results(replace(found, outcome=outcome), read_expt(experiment), RunFolder(tmp_path))
    assert json.loads((tmp_path / "result.json").read_text())["goodness"]["reduced_chi_square"] is None
    assert read_csv(tmp_path / "spots.csv")[0]["start_fast_px"] == ""


def test_the_warnings_tell_what_to_distrust() -> None:
    text = "\n".join(fake.finding(converged=False).warnings)
    assert "did not converge: 40 iterations were not enough" in text
    assert "At a bound" in text
    assert "crystal[0].n_a" in text
    assert "1.40 times what counting explains" in text
    assert "1 of 2 frames were left out" in text
    assert "stopped by SIGTERM" in "\n".join(fake.finding(stopped_by="SIGTERM").warnings)


def test_a_clean_fit_has_no_warnings() -> None:
    found = fake.finding()
    rows = tuple(replace(row, at_bound=False) for row in found.outcome.parameters)
    clean = replace(
        found.outcome, parameters=rows, frames=found.outcome.frames[:1], goodness=Goodness(1.0, 1.0), journal=()
    )
    assert Finding(clean, found.record, ()).warnings == ()


def test_truth_is_compared_in_the_fits_own_sigmas(tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"parameters": {"crystal[0].rot_x": -0.05, "crystal[0].b": 79.0, "unknown": 1.0}}))
    (row,) = truth_rows(fake.outcome(), read_truth(path))
    assert row.name == "crystal[0].rot_x"
    assert row.error == pytest.approx(-0.0012)
    assert row.in_sigmas == pytest.approx(-0.0012 / 0.0009)
    assert document(replace(fake.finding(), truth=(row,)))["truth"][0]["truth"] == -0.05


@pytest.mark.parametrize("content", ["[]", '{"parameters": [1]}', '{"parameters": {"a": "b"}}'])
def test_a_truth_file_of_another_form_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "truth.json"
    path.write_text(content)
    with pytest.raises(DataError, match="it does not hold"):
        truth_rows(fake.outcome(), read_truth(path))


def test_a_change_has_sigmas_only_where_the_parameter_has_one() -> None:
    moved = {row.name: change_in_sigmas(row) for row in fake.PARAMETERS}
    assert moved["detector.detector.rot_slow"] == pytest.approx(0.2991 / 0.004)
    assert moved["detector.detector.shift_normal"] is None
    assert moved["beam.wavelength"] is None
