"""The tables of a fit: rows know their experiment, and say what their shoeboxes say."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nbtorch.config import BeamConfig, DetectorConfig, PanelConfig
from nbtorch.io.table import read_csv, read_json
from refine.__main__ import main
from refine.conclude.box_rows import BoxRows
from refine.conclude.frame_rows import used_by_frame
from refine.conclude.seen_from_the_beam import seen_from_the_beam
from refine.conclude.spot_rows import radial_rms, rms
from refine.records.outcome import SpotRow
from tests.refine import fake, small
from tests.refine.positions.test_objective import observed

FIT = ("parameters=all", "parameters.cell=false", "parameters.mosaic_spread=false", "crystal.mosaic_spread=0",
       "parameters.fix=['*.rot_normal']", "crystal.n_cells=[12,11,9]", "render.oversample=3", "data.holdout=fraction",
       "trainer.progress=none", "trainer.logger=none")  # fmt: skip
OF_BOXES = ("scale", "scale_sigma", "intensity", "intensity_sigma", "background", "chi_square")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan, fitted with one scale a crystal."""
    folder = tmp_path_factory.mktemp("tables")
    small.write(folder)
    given = [f"data.experiment={folder / 'start.expt'}", f"data.amplitudes={folder / 'F.hkl'}"]
    assert main([*given, f"hydra.run.dir={folder / 'out'}", *FIT]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def rows(run: Path) -> list[dict[str, str]]:
    return read_csv(run / "spots.csv")


@pytest.fixture(scope="module")
def result(run: Path) -> dict[str, Any]:
    found = read_json(run / "result.json")
    assert isinstance(found, dict)
    return found


def filled(rows: list[dict[str, str]], name: str) -> int:
    return sum(row[name] != "" for row in rows)


def test_used_spots_have_every_column_filled(rows: list[dict[str, str]]) -> None:
    used = [row for row in rows if row["used"] == "1"]
    assert len(used) > 20
    counts = {name: filled(used, name) for name in rows[0] if name not in (*OF_BOXES, "reason")}
    assert set(counts.values()) == {len(used)}
    # a found spot that is two reflections, or one that should be too faint, has no box of its own
    assert {filled(used, name) for name in OF_BOXES} == {filled(used, "scale")}
    assert filled(used, "scale") > 0.85 * len(used)  # seen 26 of 29


def test_spots_that_the_fit_did_not_see_have_no_box(rows: list[dict[str, str]]) -> None:
    held = [row for row in rows if row["heldout"] == "1"]
    assert len(held) > 5
    assert all(filled(held, name) == 0 for name in OF_BOXES)
    assert filled(held, "radial_px") == len(held)


def test_scales_scatter_about_the_crystals_by_their_sigmas(rows: list[dict[str, str]], result: dict[str, Any]) -> None:
    whole = next(row["value"] for row in result["parameters"] if row["name"] == "crystal[0].scale")
    known = [row for row in rows if row["scale"]]
    z = np.array([(float(row["scale"]) - whole) / float(row["scale_sigma"]) for row in known])
    assert (z**2).mean() == pytest.approx(1, abs=0.6)  # seen 0.90 of 26: its own sigma is 0.28
    assert np.abs(z).max() < 4  # seen 2.0
    assert [frame["scale"] for frame in result["frames"]] == [whole] * 3


def test_intensity_is_the_light_of_the_spot_above_its_background(rows: list[dict[str, str]]) -> None:
    known = [row for row in rows if row["scale"]]
    ratio = np.array([float(row["intensity"]) / float(row["counts"]) for row in known])
    assert np.median(ratio) == pytest.approx(1, abs=0.05)  # seen 1.003
    relative = [float(row["intensity_sigma"]) / float(row["intensity"]) for row in known]
    assert relative == pytest.approx([float(row["scale_sigma"]) / float(row["scale"]) for row in known], rel=1e-6)
    background = [float(row["background"]) for row in known]
    assert np.median(background) == pytest.approx(small.BACKGROUND, rel=0.1)  # seen 0.49 of 0.5


def test_radial_and_tangential_rms_are_those_along_fast_and_slow_turned(result: dict[str, Any]) -> None:
    goodness, spots = result["goodness"], result["spots"]
    turned = math.hypot(goodness["radial_px"], goodness["tangential_px"])
    assert turned == pytest.approx(math.hypot(*spots["rms_end_px"]), rel=1e-4)  # seen 2e-6: panels are tilted


def test_the_fixtures_of_reports_fill_what_a_run_fills(rows: list[dict[str, str]]) -> None:
    def kinds(of: list[dict[str, str]], **state: str) -> set[str]:
        chosen = [row for row in of if all(row[name] == value for name, value in state.items())]
        return {name for name in of[0] if filled(chosen, name)}

    made = [
        {f.name: "" if _is_empty(x := getattr(row, f.name)) else str(int(x) if isinstance(x, bool) else x)
         for f in fields(SpotRow)}
        for row in fake.outcome().spots
    ]  # fmt: skip
    for used, heldout in (("1", "0"), ("0", "1"), ("0", "0")):
        assert kinds(made, used=used, heldout=heldout) == kinds(rows, used=used, heldout=heldout)


def _is_empty(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def test_frames_of_two_scans_are_not_pooled() -> None:
    used = [spot for spot in fake.outcome().spots if spot.used]
    near = [replace(s, observed_fast_px=s.end_fast_px + 0.1, observed_slow_px=s.end_slow_px) for s in used]
    far = [replace(s, experiment=1, observed_fast_px=s.end_fast_px + 2.0, observed_slow_px=s.end_slow_px) for s in used]
    found = used_by_frame([*near, *far])
    assert set(found) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    for (experiment, _), spots in found.items():
        assert rms(spots, heldout=False) == (pytest.approx(2.0 if experiment else 0.1), 0.0)


def test_a_reflection_seen_twice_has_the_box_about_its_frame() -> None:
    hkl, frames = np.array([[1, 2, 3], [1, 2, 3], [4, 0, 0]]), np.array([[0, 2], [7, 9], [3, 3]])
    boxes = BoxRows(hkl, np.zeros(3, dtype=int), frames, {"scale": np.array([10.0, 20.0, 30.0])})
    indices = torch.tensor([(1, 2, 3), (1, 2, 3), (4, 0, 0), (4, 0, 0), (5, 0, 0)])
    place, frame = torch.zeros(5), torch.tensor([8.4, 1.0, 3.5, 5.0, 3.5])
    seen = observed(indices, place.long(), place, place, frame, place.bool())
    assert boxes.at(seen, still=False)["scale"].tolist()[:3] == [20.0, 10.0, 30.0]
    assert np.isnan(boxes.at(seen, still=False)["scale"][3:]).all()


def test_a_residual_away_from_the_beam_is_radial_and_one_across_it_tangential() -> None:
    panel = PanelConfig((1, 0, 0), (0, -1, 0), (-50, 50, -100), (0.1, 0.1), (1000, 1000))
    detector, beam = DetectorConfig((panel,)), BeamConfig(1.0, (0, 0, -1), (1, 0, 0))
    seen = np.array([[900.0, 500.0], [900.0, 500.0], [500.0, 100.0]])
    predicted = seen - np.array([[0.5, 0.0], [0.0, 0.5], [0.0, -0.5]])
    found = seen_from_the_beam(seen, predicted, np.zeros(3, dtype=int), detector, beam)
    assert found.radial == pytest.approx([0.5, 0.0, 0.5], abs=1e-12)
    assert np.abs(found.tangential) == pytest.approx([0.0, 0.5, 0.0], abs=1e-12)
    angle = math.atan2(40.0, 100.0)
    assert found.d == pytest.approx([1 / (2 * math.sin(angle / 2))] * 3)


def test_radial_rms_is_of_used_spots_alone() -> None:
    spots = fake.outcome().spots
    values = np.array([(s.radial_px, s.tangential_px) for s in spots if s.used], dtype=float)
    assert radial_rms(spots) == pytest.approx(tuple(np.sqrt((values**2).mean(0))))
    assert radial_rms([s for s in spots if not s.used]) is None
