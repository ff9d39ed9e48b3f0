"""data.spots: a list of spots with indices from elsewhere, in the place of the fit's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nbtorch.config import DetectorConfig, PanelConfig
from nbtorch.errors import FileError
from refine.__main__ import main
from refine.spots.find_spots import Spots
from refine.spots.spot_list import ListedSpots, read_spot_list
from tests.refine import small

PANEL = PanelConfig(
    fast_axis=(1, 0, 0), slow_axis=(0, -1, 0), origin=(-5, 5, -100), pixel_size=(0.1, 0.1), size=(100, 80)
)
DETECTOR = DetectorConfig(panels=(PANEL, PANEL))


def listed(folder: Path, text: str) -> Path:
    path = folder / "spots.csv"
    path.write_text(text)
    return path


def found() -> Spots:
    """Two spots on panel 0, of different widths."""
    floats = {name: np.array([1.0, 3.0]) for name in ("counts", "peak", "background", "significance")}
    widths = {name: np.array([0.5, 1.5]) for name in ("width_fast", "width_slow", "width_frame")}
    whole = {name: np.array([0, 4]) for name in ("n_pixels", "first_frame", "last_frame")}
    place = {"fast": np.array([10.0, 50.0]), "slow": np.array([20.0, 60.0]), "frame": np.array([0.5, 4.2])}
    return Spots(panel=np.array([0, 0]), **place, **floats, **widths, **whole)


def test_a_row_takes_its_width_from_the_spot_found_there_and_a_median_one_elsewhere(tmp_path: Path) -> None:
    path = listed(tmp_path, "h,k,l,panel,fast_px,slow_px,frame\n1,2,3,0,50.4,60.2,4.1\n-4,0,6,1,50.4,60.2,4.1\n")
    spots = read_spot_list(path, DETECTOR, framed=True).of_experiment(found(), 0, still=False)
    assert spots.hkl.tolist() == [[1, 2, 3], [-4, 0, 6]]
    assert spots.fast.tolist() == [50.4, 50.4]
    assert spots.width_fast.tolist() == [1.5, 1.0]
    assert spots.first_frame.tolist() == [4, 4]


def test_rows_go_to_the_still_of_their_frame(tmp_path: Path) -> None:
    path = listed(tmp_path, "h,k,l,fast_px,slow_px,frame\n1,0,0,5,5,0\n2,0,0,6,6,1\n3,0,0,7,7,1\n")
    expts = [read_spot_list(path, DETECTOR, framed=True).of_experiment(found(), expt, still=True) for expt in (0, 1, 2)]
    assert [spots.hkl[:, 0].tolist() for spots in expts] == [[1], [2, 3], []]
    assert all(isinstance(spots, ListedSpots) for spots in expts)


def test_rows_go_to_the_scan_of_their_experiment(tmp_path: Path) -> None:
    path = listed(
        tmp_path, "h,k,l,fast_px,slow_px,frame,experiment\n1,0,0,5,5,0.5,0\n2,0,0,6,6,0.5,1\n3,0,0,7,7,1.5,1\n"
    )
    expts = [read_spot_list(path, DETECTOR, framed=True).of_experiment(found(), expt, still=False) for expt in (0, 1)]
    assert [spots.hkl[:, 0].tolist() for spots in expts] == [[1], [2, 3]]


def test_the_rejected_of_a_runs_own_list_are_left_out(tmp_path: Path) -> None:
    text = (
        "frame,panel,h,k,l,observed_fast_px,observed_slow_px,used,reason\n0,0,1,0,0,5,5,1,\n0,0,0,0,0,9,9,0,no index\n"
    )
    assert len(read_spot_list(listed(tmp_path, text), DETECTOR, framed=False).panel) == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("h,k,l,fast_px\n1,2,3,4\n", "no column slow_px"),
        ("h,k,l,fast_px,slow_px\n", "it lists no spot"),
        ("h,k,l,fast_px,slow_px\n1,2,3,4,5\n1.5,2,3,4,5\n", "spot 2"),
        ("h,k,l,fast_px,slow_px\n1,2,3,here,5\n", "not a number"),
        ("h,k,l,fast_px,slow_px\n1,2,3,4,80.5\n", "off its panel"),
        ("h,k,l,panel,fast_px,slow_px\n1,2,3,2,4,5\n", "panel is not there"),
    ],
)
def test_a_list_that_cannot_serve_is_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(FileError, match=why):
        read_spot_list(listed(tmp_path, text), DETECTOR, framed=False)


def test_a_scan_needs_the_frame_of_every_spot_and_a_single_still_does_not(tmp_path: Path) -> None:
    path = listed(tmp_path, "h,k,l,fast_px,slow_px\n1,2,3,4,5\n")
    with pytest.raises(FileError, match="no column frame"):
        read_spot_list(path, DETECTOR, framed=True)
    assert len(read_spot_list(path, DETECTOR, framed=False).of_experiment(found(), 0, still=True)) == 1


def test_a_runs_own_list_gives_the_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    command = [
        "data.experiment=start.expt",
        "data.amplitudes=F.hkl",
        "solver.max_iterations=3",
        "trainer.progress=none",
    ]
    assert main([*command, "hydra.run.dir=own"]) == 0
    assert main([*command, "data.spots=own/spots.csv", "hydra.run.dir=given"]) == 0
    own, given = (json.loads((tmp_path / run / "result.json").read_text())["spots"] for run in ("own", "given"))
    assert given["used"] == own["used"]
    assert given["rms_end_px"] == pytest.approx(own["rms_end_px"], abs=1e-3)  # worst seen 2e-4: five digits in the list
