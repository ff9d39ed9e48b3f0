"""A list of indexed spots and no frames: the fit ends with the positions, and everything else is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nbtorch.config import Exposure
from nbtorch.io import read_expt
from nbtorch.io.expt import ExperimentEntry
from nbtorch.io.refl import ReflectionTable, write_refl
from nbtorch.io.table import read_csv
from nbtorch.models import StructureFactors
from nbtorch.render.excited import excited_reflections
from refine.__main__ import main
from tests.helpers.data import shared
from tests.refine import small

NOISE = 0.05  # pixels, and a tenth of it in frames
FREE = ("parameters.detector_shift=true", "parameters.detector_rotation=true", "parameters.cell=false",
        "parameters.fix=[*.rot_normal]", "trainer.progress=none", "data.truth=null")  # fmt: skip


def measurement(folder: Path, *, wrong: int = 0) -> tuple[Path, Path]:
    """start.expt of small's scan over 60 frames, and the spots of its true experiment as a reflection table."""
    document = small.document()
    document["scan"][0]["image_range"] = [1, 60]
    path = folder / "start.expt"
    path.write_text(json.dumps(document))
    entry = read_expt(path)[0]
    hkl, place = seen(entry, 60)
    place[:wrong, :2] += 9.0
    return path, write_table(folder, entry, hkl, place)


def seen(entry: ExperimentEntry, frames: int, edge: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Indices [n, 3] of the spots of the true experiment, and their noisy fast, slow and frame [n, 3]."""
    assert entry.scan is not None
    truth = small.true_experiment(entry, StructureFactors(default_F=1.0))
    with torch.no_grad():
        found = excited_reflections(truth, Exposure(entry.scan.phi_start, frames * entry.scan.oscillation), dmin=2.2)
    place = np.column_stack([found.fast, found.slow, (found.phi - entry.scan.phi_start) / entry.scan.oscillation])
    inside = ((place[:, :2] > 2) & (place[:, :2] < small.SIZE - 2)).all(1)
    inside &= (place[:, 2] > edge) & (place[:, 2] < frames - edge)
    noise = np.random.default_rng(5).normal(0, 1, (inside.sum(), 3)) * (NOISE, NOISE, NOISE / 10)
    return found.hkl[inside].astype(np.int32), place[inside] + noise


def write_table(folder: Path, entry: ExperimentEntry, hkl: np.ndarray, place: np.ndarray) -> Path:
    """spots.refl of indexed spots, and one without an index."""
    rows = len(hkl) + 1
    columns = {
        "miller_index": np.vstack([hkl, np.zeros((1, 3), dtype=np.int32)]),
        "id": np.zeros(rows, dtype=np.int32),
        "panel": np.zeros(rows, dtype=np.uint64),
        "xyzobs.px.value": np.vstack([place, [[80.0, 80.0, 10.0]]]),
        "intensity.sum.value": np.full(rows, 500.0),
        "bbox": np.tile(np.array([0, 5, 0, 5, 3, 6], dtype=np.int32), (rows, 1)),
    }
    return write_refl(folder / "spots.refl", ReflectionTable(columns, {0: entry.identifier}))


def fitted(out: Path, experiment: Path, spots: Path, *options: str) -> dict[str, Any]:
    given = (f"data.experiment={experiment}", f"data.spots={spots}", f"hydra.run.dir={out}")
    assert main([*given, "parameters=crystal", *FREE, *options]) == 0
    found = json.loads((out / "result.json").read_text())
    assert isinstance(found, dict)
    return found


def test_a_table_of_reflections_alone_gives_the_geometry_with_its_sigmas(tmp_path: Path) -> None:
    expt, refl = measurement(tmp_path)
    found = fitted(tmp_path / "out", expt, refl)
    assert found["converged"]
    fits = {row["name"]: row for row in found["parameters"]}
    truth = small.truth()
    z = [(fits[n]["value"] - truth[n]) / fits[n]["sigma"] for n in fits if fits[n]["free"] and n in truth]
    assert len(z) >= 8
    assert np.abs(z).max() < 4  # seen 2.1
    assert abs(fits["detector.detector.shift_fast"]["value"] - small.SHIFT[0]) < 0.01
    codes = {entry["code"] for entry in found["journal"]}
    assert {"positions_alone", "spots_listed", "spots_without_index"} <= codes
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"report.html", "refined.expt", "spots.csv"}
    rows = read_csv(tmp_path / "out" / "spots.csv")
    used = [row for row in rows if row["used"] == "1"]
    residual = [float(row["observed_fast_px"]) - float(row["end_fast_px"]) for row in used]
    assert np.std(residual) == pytest.approx(NOISE, rel=0.2)
    assert all(row["chi_square"] == "" for row in used)  # nothing was rendered


def test_wrong_spots_are_outliers_and_do_not_pull(tmp_path: Path) -> None:
    expt, refl = measurement(tmp_path, wrong=12)
    found = fitted(tmp_path / "out", expt, refl)
    fits = {row["name"]: row["value"] for row in found["parameters"]}
    assert abs(fits["detector.detector.shift_slow"] - small.SHIFT[1]) < 0.02
    rows = read_csv(tmp_path / "out" / "spots.csv")
    assert sum("from its prediction" in row["reason"] for row in rows) >= 12


def test_a_list_in_csv_serves_too(tmp_path: Path) -> None:
    expt, refl = measurement(tmp_path)
    first = fitted(tmp_path / "out", expt, refl)
    listed = tmp_path / "out" / "spots.csv"
    second = fitted(tmp_path / "again", expt, listed)
    one, two = ({row["name"]: row for row in found["parameters"]} for found in (first, second))
    shift = "detector.detector.shift_fast"
    assert abs(one[shift]["value"] - two[shift]["value"]) < 0.5 * one[shift]["sigma"]


def test_a_table_of_another_experiment_list_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expt, _ = measurement(tmp_path)
    table = {
        "miller_index": np.ones((3, 3), dtype=np.int32),
        "id": np.array([0, 0, 7], dtype=np.int32),
        "xyzobs.px.value": np.full((3, 3), 5.0),
    }
    wrong = write_refl(tmp_path / "wrong.refl", ReflectionTable(table))
    assert main([f"data.experiment={expt}", f"data.spots={wrong}", f"hydra.run.dir={tmp_path / 'no'}"]) == 1
    said = capsys.readouterr().err
    assert "experiment 7 is not among the 1 of the .expt" in said
    assert "row 2" in said


def test_with_frames_a_table_gives_the_indices_and_the_pixels_are_fitted(tmp_path: Path) -> None:
    expt = small.write(tmp_path)
    entry = read_expt(expt)[0]
    own = fitted(tmp_path / "own", expt, write_table(tmp_path, entry, *seen(entry, small.FRAMES, edge=0.0)))
    assert "positions_alone" not in {row["code"] for row in own["journal"]}
    fits = {row["name"]: row for row in own["parameters"]}
    assert own["goodness"]["reduced_chi_square"] < 1.3
    assert abs(fits["detector.detector.shift_fast"]["value"] - small.SHIFT[0]) < 0.003


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "bounds"),
    [
        # rms (px) no larger than dials.refine's on the spots that it kept; as many of ours, but for the scan
        ("cspad_10_stills", (), (1.863, 1.908, 1104)),
        ("thaumatin_like_scan", (), (0.313, 0.350, 300)),
        ("cunir_5_stills", (), (1.00, 0.84, 340)),
    ],
)
def test_published_spots_are_fitted_as_well_as_dials_refine_fits_them(
    tmp_path: Path, name: str, options: tuple[str, ...], bounds: tuple[float, float, int]
) -> None:
    expt, refl = shared("positions", f"{name}.expt"), shared("positions", f"{name}.refl")
    given = (f"data.experiment={expt}", f"data.spots={refl}", f"hydra.run.dir={tmp_path / 'out'}", "parameters=all")
    assert main([*given, *options, "trainer.progress=none"]) == 0
    found = json.loads((tmp_path / "out" / "result.json").read_text())
    fast, slow = found["spots"]["rms_end_px"]
    assert found["converged"]
    assert fast <= bounds[0]
    assert slow <= bounds[1]
    assert found["spots"]["used"] >= bounds[2]


def test_a_panel_number_beyond_any_is_refused_though_it_wraps_to_a_negative_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expt, _ = measurement(tmp_path)
    table = {
        "miller_index": np.ones((2, 3), dtype=np.int32),
        "id": np.zeros(2, dtype=np.int32),
        "panel": np.array([0, 2**64 - 1], dtype=np.uint64),
        "xyzobs.px.value": np.full((2, 3), 5.0),
    }
    wrong = write_refl(tmp_path / "wrong.refl", ReflectionTable(table))
    assert main([f"data.experiment={expt}", f"data.spots={wrong}", f"hydra.run.dir={tmp_path / 'no'}"]) == 1
    said = capsys.readouterr().err
    assert "row 1: its panel is not there" in said
