"""Frames and a cell, no crystal in any experiment list: found, fitted, and written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbtorch.io import read_expt
from refine.__main__ import main
from tests.helpers.data import shared
from tests.refine import small

QUIET = ("trainer.progress=none", "trainer.logger=none", "data.truth=null")


def without_crystals(path: Path) -> Path:
    document = json.loads(path.read_text())
    document["crystal"] = []
    for node in document["experiment"]:
        node.pop("crystal")
    bare = path.with_name("bare.expt")
    bare.write_text(json.dumps(document))
    return bare


def fitted(out: Path, *options: str) -> dict[str, Any]:
    assert main([*options, *QUIET, f"hydra.run.dir={out}"]) == 0
    found = json.loads((out / "result.json").read_text())
    assert isinstance(found, dict)
    return found


def axes_apart(one: Path, other: Path, number: int = 0) -> float:
    """The angle (degrees) between the axes of two crystals, however the lattice names them."""
    rows = [
        np.array([json.loads(p.read_text())["crystal"][number][f"real_space_{a}"] for a in "abc"]) for p in (one, other)
    ]
    same = np.round(rows[0] @ np.linalg.inv(rows[1])) @ rows[1]
    cosine = (same * rows[0]).sum(1) / np.linalg.norm(same, axis=1) / np.linalg.norm(rows[0], axis=1)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).max())


def test_a_scan_without_a_crystal_ends_where_the_one_with_it_ends(tmp_path: Path) -> None:
    expt = small.write(tmp_path)
    options = ("parameters=all", f"data.amplitudes={tmp_path / 'F.hkl'}", "crystal.mosaic_spread=0")
    cell = "crystal.cell=[23,27,31,90,90,90]"
    known = fitted(tmp_path / "known", f"data.experiment={expt}", *options)
    found = fitted(
        tmp_path / "found", f"data.experiment={without_crystals(expt)}", cell, "crystal.space_group=P222", *options
    )
    (entry,) = [entry for entry in found["journal"] if entry["code"] == "crystal_found"]
    assert entry["numbers"]["explained"] > 0.45
    rms = [run["spots"]["rms_end_px"] for run in (known, found)]
    assert rms[1] == pytest.approx(rms[0], abs=0.02)
    assert axes_apart(tmp_path / "found" / "refined.expt", tmp_path / "known" / "refined.expt") < 0.1
    assert read_expt(tmp_path / "found" / "refined.expt")[0].crystal is not None


def test_without_a_cell_the_way_to_give_one_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = without_crystals(small.write(tmp_path))
    assert main([f"data.experiment={bare}", *QUIET, f"hydra.run.dir={tmp_path / 'out'}"]) == 1
    assert "Give crystal.cell=[a,b,c,alpha,beta,gamma]" in capsys.readouterr().err


def test_a_cell_of_another_crystal_is_not_forced_on_the_spots(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = without_crystals(small.write(tmp_path))
    wrong = "crystal.cell=[38,52,61,82,97,104]"
    assert main([f"data.experiment={bare}", wrong, *QUIET, f"hydra.run.dir={tmp_path / 'out'}"]) == 1
    assert "do not lie on a lattice of this cell" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("frames", "options", "spots", "rms"),
    [
        ("l_cysteine/sweep4/*.cbf.gz", ("data.amplitudes={real}/l_cysteine/lcyst_merged.mtz",), 15, 0.35),
        ("in16c/*.cbf", ("crystal.cell=[67.06,67.293,67.34,109.384,109.797,109.458]", "data.still=true"), 300, 0.6),
        ("ximg2701/*.cbf", ("crystal.cell=[51.58,51.58,51.58,90,90,90]", "crystal.space_group=P23"), 330, 0.27),
    ],
)
def test_real_frames_need_their_headers_and_a_cell_alone(
    tmp_path: Path, frames: str, options: tuple[str, ...], spots: int, rms: float
) -> None:
    real = shared("real")
    given = [option.replace("{real}", str(real)) for option in options]
    found = fitted(tmp_path / "out", f"data.frames={real}/{frames}", *given, "parameters=all")
    assert found["spots"]["used"] >= spots
    assert float(np.hypot(*found["spots"]["rms_end_px"])) < rms
