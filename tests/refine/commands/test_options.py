"""Options that choose frames and reflections change what is fitted, not what comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbtorch.io.table import read_csv
from refine.__main__ import main
from tests.refine import small

CRYSTAL = ("parameters=crystal", "parameters.cell=false", "crystal.mosaic_spread=0", "crystal.n_cells=[12,11,9]",
           "render.oversample=3", "trainer.progress=none", "trainer.logger=none", "data.truth=null")  # fmt: skip


@pytest.fixture(scope="module")
def measurement(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """small's scan, whose detector stands where start.expt of the folder says."""
    folder = tmp_path_factory.mktemp("small")
    small.write(folder)
    return folder


def fitted(folder: Path, name: str, *options: str) -> dict[str, Any]:
    out = folder / name
    given = (f"data.experiment={folder / 'start.expt'}", f"data.amplitudes={folder / 'F.hkl'}", f"hydra.run.dir={out}")
    assert main([*given, *CRYSTAL, *options]) == 0
    found = json.loads((out / "result.json").read_text())
    assert isinstance(found, dict)
    return found


def rotation(found: dict[str, Any]) -> np.ndarray:
    rows = {row["name"]: row["value"] for row in found["parameters"]}
    return np.array([rows[f"crystal[0].rot_{axis}"] for axis in "xyz"])


FREE_DETECTOR = ("parameters.detector_shift=true", "parameters.detector_rotation=true", "parameters.fix=[*.rot_normal]")


def test_later_frames_of_a_scan_give_the_orientation_at_goniometer_zero(measurement: Path) -> None:
    found = fitted(measurement, "later", "data.frame_range=[1,2]", *FREE_DETECTOR)
    # the first frame's width, 0.6 deg, was the error once; worst seen 0.012 deg
    assert np.abs(rotation(found) - small.MISSET).max() < 0.05


def test_no_spot_beyond_dmin_is_used(measurement: Path) -> None:
    fitted(measurement, "coarse", "data.dmin=3.2", "parameters.scale=spot", *FREE_DETECTOR)
    rows = read_csv(measurement / "coarse" / "spots.csv")
    hkl = np.array([[float(row[name]) for name in ("h", "k", "l")] for row in rows])
    used = np.array([row["used"] == "1" for row in rows])
    inverse = np.sqrt(((hkl / np.array(small.CELL[:3])) ** 2).sum(1))
    assert used.sum() >= 5
    assert (inverse[used] <= 1 / 3.2).all()
    assert any("beyond data.dmin" in row["reason"] for row in rows)


def test_a_list_that_ends_early_leaves_its_pixels_out_and_the_geometry_right(measurement: Path) -> None:
    rows = np.loadtxt(measurement / "F.hkl")
    inverse = np.sqrt(((rows[:, :3] / np.array(small.CELL[:3])) ** 2).sum(1))
    np.savetxt(measurement / "cut.hkl", rows[inverse < 1 / 2.8], fmt="%d %d %d %.4f")
    cut = f"data.amplitudes={measurement / 'cut.hkl'}"
    found = fitted(measurement, "cut", cut, *FREE_DETECTOR)
    (entry,) = [entry for entry in found["journal"] if entry["code"] == "amplitudes_not_listed"]
    assert entry["numbers"]["unlisted"] >= 5
    fits = {row["name"]: row for row in found["parameters"]}
    shift = [fits[f"detector.detector.shift_{axis}"]["value"] for axis in ("fast", "slow")]
    off = np.array(shift) - small.SHIFT[:2]
    assert np.abs(off).max() < 0.0015  # mm, five sigmas; seen 0.0002
