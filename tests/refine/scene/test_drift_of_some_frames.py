"""A crystal that drifts and a range of frames: knots and the scan points written are those of the frames used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nbtorch.io import read_expt, write_expt
from nbtorch.io.expt import ExptUpdates
from refine.conclude.refined_models import scan_points
from refine.records.journal import Journal
from refine.scene.entries import entries_to_fit
from refine.scene.scene import build_scene
from refine.settings.fit_settings import DataSettings, FitSettings, ParameterSettings
from tests.refine import small

FRAMES, WIDTH = 6, 10.0  # degrees a frame: the scan begins at 0
FIRST, LAST = 2, 4


def test_a_drifting_crystal_has_the_knots_and_scan_points_of_its_frames(tmp_path: Path) -> None:
    path, given = tmp_path / "start.expt", small.document()
    ones = [1.0] * FRAMES
    given["scan"][0] |= {"image_range": [1, FRAMES], "oscillation": [0.0, WIDTH], "exposure_time": ones, "epochs": ones}
    path.write_text(json.dumps(given))
    data = DataSettings(str(path), frame_range=(FIRST, LAST))
    settings = FitSettings(data=data, parameters=ParameterSettings(scan_varying=("orientation",), knot_spacing=10.0))
    document = read_expt(path)
    chosen = entries_to_fit(document, {0: document[0].images}, {}, data)
    (expt,) = build_scene(chosen.experiments, chosen.frames, settings, Journal()).experiments
    crystal = expt.model.crystal
    assert crystal.config.knots == pytest.approx((20, 30, 40, 50))
    with torch.no_grad():
        crystal.rotation_knots[:, 2] = torch.tensor([0.0, 0.1, 0.3, 0.2], dtype=torch.float64)
        expected = crystal.vectors_at(torch.tensor([20.0, 30.0, 40.0, 50.0], dtype=torch.float64))[0]
    points = scan_points(crystal, expt)
    assert torch.allclose(torch.tensor(points, dtype=torch.float64), expected)
    assert expt.entry.crystal is not None
    moved = replace(expt.entry.crystal, scan_points=points)
    out = write_expt(tmp_path / "out.expt", chosen.experiments, ExptUpdates(crystals={0: moved}))
    written = json.loads(out.read_text())
    assert written["scan"][0]["image_range"] == [FIRST + 1, LAST + 1]
    assert written["scan"][0]["oscillation"] == pytest.approx([20.0, WIDTH])
    assert len(written["crystal"][0]["A_at_scan_points"]) == LAST - FIRST + 2
