"""A frame that cannot be used costs that frame alone, and the table says so: of seven stills two can be fitted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fabio.tifimage import TifImage

import refine.fit.surveying
from nbtorch.errors import DataError
from nbtorch.io import ExperimentList, read_expt, read_frame, write_cbf
from refine.__main__ import main
from refine.fit.loop import Loop
from refine.fit.prepare import prepare
from refine.frames.assign_frames import assign_frames
from refine.frames.frame_stack import FrameReader, FrameStack
from refine.records.journal import Journal
from refine.settings.fit_settings import (
    CrystalSettings,
    DataSettings,
    FitSettings,
    ParameterSettings,
    RenderingSettings,
)
from tests.refine import small

FIT = ("parameters=all", "parameters.cell=false", "parameters.mosaic_spread=false", "crystal.mosaic_spread=0",
       "parameters.fix=['*.rot_normal']", "crystal.n_cells=[12,11,9]", "render.oversample=3", "parameters.scale=frame",
       "trainer.progress=none", "trainer.logger=none")  # fmt: skip
CUT_SHORT, EMPTY, OTHER_SIZE, VANISHES, MISSING = 1, 2, 3, 4, 6
KEPT = (0, 5)


def fitted(folder: Path) -> dict[str, Any]:
    """result.json of a fit that ended well."""
    out = folder / "out"
    command = [f"data.experiment={folder / 'start.expt'}", f"data.amplitudes={folder / 'F.hkl'}"]
    assert main([*command, f"hydra.run.dir={out}", *FIT]) == 0
    found = json.loads((out / "result.json").read_text())
    assert isinstance(found, dict)
    return found


def worst_in_sigmas(found: dict[str, Any], crystals: int) -> tuple[int, float]:
    """How many free parameters have a known truth and a sigma, and the largest |value − truth|/sigma of them."""
    truth = small.truth(crystals)
    rows = {row["name"]: row for row in found["parameters"] if row["free"] and row["sigma"] and row["name"] in truth}
    return len(rows), max(abs(row["value"] - truth[name]) / row["sigma"] for name, row in rows.items())


def damage(folder: Path) -> None:
    """One still of each kind that cannot be read, one that is not there, and one with pixels that hold no number."""
    (folder / f"still_{MISSING}.cbf").unlink()
    short = folder / f"still_{CUT_SHORT}.cbf"
    short.write_bytes(short.read_bytes()[:2000])
    (folder / f"still_{EMPTY}.cbf").write_bytes(b"")
    (folder / f"still_{OTHER_SIZE}.cbf").unlink()
    write_cbf(folder / f"still_{OTHER_SIZE}.cbf", np.zeros((40, 50), dtype=np.int32))
    document = json.loads((folder / "start.expt").read_text())
    detector = read_expt(folder / "start.expt")[0].detector
    image = np.asarray(read_frame(folder / "still_0.cbf").panel_arrays(detector)[0], dtype=np.float32)
    image[:, 70:76] = np.nan
    image[5, 5] = np.inf
    TifImage(data=image).write(str(folder / "still_0.tif"))
    document["imageset"][0]["images"] = ["still_0.tif"]
    (folder / "start.expt").write_text(json.dumps(document))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("lost")
    small.write_stills(made, 7)
    damage(made)
    return made


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    """The result of a fit during which one still vanishes."""
    survey = refine.fit.surveying.survey

    def vanishing(expt: Any, *rest: Any) -> Any:
        if expt.index == VANISHES:
            expt.images[0].unlink()
        return survey(expt, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refine.fit.surveying, "survey", vanishing)
        return fitted(folder)


def test_the_fit_goes_on_with_the_stills_that_are_left(found: dict[str, Any]) -> None:
    assert found["converged"]
    count, worst = worst_in_sigmas(found, 7)
    assert count == 5 + 6  # of the detector, whose turn about its normal is held, and two orientations
    assert worst < 4


@pytest.mark.parametrize("number", [CUT_SHORT, EMPTY, OTHER_SIZE, VANISHES, MISSING])
def test_the_table_says_what_became_of_each_still(found: dict[str, Any], number: int) -> None:
    table = {Path(row["path"]).stem: row for row in found["frames"]}
    row = table[f"still_{number}"]
    assert not row["ok"]
    assert f"still_{number}.cbf" in row["message"]
    assert row["n_spots"] == 0
    assert row["rms_px"] is None


def test_crystals_keep_the_numbers_of_their_experiments(found: dict[str, Any]) -> None:
    crystals = {row["name"].partition(".")[0] for row in found["parameters"] if row["name"].startswith("crystal")}
    assert crystals == {f"crystal[{number}]" for number in KEPT}
    assert [row["index"] for row in found["frames"]] == list(range(7))
    assert [Path(row["path"]).stem for row in found["frames"]] == [f"still_{number}" for number in range(7)]


def test_spots_name_the_still_of_their_crystal(folder: Path, found: dict[str, Any]) -> None:
    spots = np.genfromtxt(folder / "out" / "spots.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    assert set(spots["frame"].astype(int)) == set(KEPT)


def test_a_frame_that_is_missing_from_a_scan_costs_that_frame_alone(tmp_path: Path) -> None:
    small.write(tmp_path)
    (tmp_path / "small_002.cbf").unlink()
    document = read_expt(tmp_path / "start.expt")
    frames, missing, _ = assign_frames(document, DataSettings(str(tmp_path / "start.expt")))
    assert missing == {}
    said: list[str] = []
    stack = FrameStack(frames[0], FrameReader(document.entries[0].detector), Journal(said.append))
    assert [frame is not None for frame in stack.frames()] == [True, False, True]
    assert "small_002.cbf" in said[0]


def test_the_others_are_in_the_table_with_their_spots(found: dict[str, Any]) -> None:
    rows = [row for row in found["frames"] if row["ok"]]
    assert [Path(row["path"]).stem for row in rows] == [f"still_{number}" for number in KEPT]
    assert all(row["n_spots"] > 10 and row["rms_px"] < 0.5 for row in rows)
    assert any("5 of 7 frames were left out" in text for text in found["warnings"])


def test_no_pixel_without_a_number_is_used(folder: Path, found: dict[str, Any]) -> None:
    spots = np.genfromtxt(folder / "out" / "spots.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    assert len(spots) > 40
    detail = json.dumps(found["goodness"])
    assert "NaN" not in detail
    assert "Infinity" not in detail


def test_the_crystals_of_lost_stills_stay_where_they_were(folder: Path, found: dict[str, Any]) -> None:
    def orientations(experiments: ExperimentList) -> list[np.ndarray]:
        return [np.array(entry.crystal.orientation) for entry in experiments.entries if entry.crystal is not None]

    before, after = (orientations(read_expt(path)) for path in (folder / "start.expt", folder / "out" / "refined.expt"))
    moved = [not np.allclose(a, b, atol=1e-6) for a, b in zip(after, before, strict=True)]
    assert moved == [number in KEPT for number in range(7)]


def test_where_no_still_can_be_read_the_run_ends_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small.write_stills(tmp_path, 2)
    for path in tmp_path.glob("*.cbf"):
        path.write_bytes(path.read_bytes()[:2000])
    assert main([f"data.experiment={tmp_path / 'start.expt'}", f"hydra.run.dir={tmp_path / 'out'}", *FIT]) == 1
    assert "still_" in capsys.readouterr().err
    assert not (tmp_path / "out" / "result.json").exists()


@pytest.mark.parametrize("sampling", [None, 3])
def test_stills_that_vanish_after_the_first_pass_are_left_out_and_the_others_fitted(
    tmp_path: Path, sampling: int | None
) -> None:
    """The first two of five, which are those that a trial of the sampling would ask."""
    small.write_stills(tmp_path, 5)
    flags = ParameterSettings(detector_shift=True, detector_rotation=True, cell=False, fix=("*.rot_normal",))
    settings = FitSettings(
        data=DataSettings(str(tmp_path / "start.expt")),
        crystal=CrystalSettings(n_cells=small.N_CELLS, mosaic_spread=0.0),
        parameters=flags,
        render=RenderingSettings(oversample=sampling),
    )
    problem = prepare(settings, Journal())
    for number in (0, 1):
        (tmp_path / f"still_{number}.cbf").unlink()
    loop = Loop(problem)
    loop.begin()
    assert [block.index for block in loop.objective.blocks] == [2, 3, 4]
    assert set(loop.left_out) == {0, 1}
    assert loop.stages[0].stage is not None
    assert loop.stages[0].stage.sampled  # the others were asked
    rows = loop.values.parameters_
    assert {rows[i].block for i in loop.values.free} == {None, 2, 3, 4}
    row = loop.iterate()
    assert row.damping is not None
    assert [entry.code for entry in loop.journal.entries].count("crystal_without_pixels") == 2


def test_where_every_still_vanishes_after_the_first_pass_the_fit_ends_with_the_reason(tmp_path: Path) -> None:
    small.write_stills(tmp_path, 2)
    problem = prepare(FitSettings(data=DataSettings(str(tmp_path / "start.expt"))), Journal())
    for path in tmp_path.glob("*.cbf"):
        path.unlink()
    with pytest.raises(DataError, match="masked"):
        Loop(problem).begin()


@pytest.mark.slow
def test_stills_of_several_crystals_are_fitted_to_one_detector(tmp_path: Path) -> None:
    small.write_stills(tmp_path, 3)
    found = fitted(tmp_path)
    assert found["converged"]
    count, worst = worst_in_sigmas(found, 3)
    assert count == 5 + 9
    assert worst < 4
    assert [row["ok"] for row in found["frames"]] == [True] * 3
