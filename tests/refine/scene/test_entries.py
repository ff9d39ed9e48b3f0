"""Which frames are fitted and as what: scans, stills, ranges of frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nbtorch.errors import DataError
from nbtorch.io import read_expt
from refine.records.journal import Journal
from refine.scene.entries import Chosen, entries_to_fit
from refine.scene.scene import build_scene
from refine.settings.fit_settings import DataSettings, FitSettings
from tests.refine import small

FIT = FitSettings(data=DataSettings("start.expt"))


def chosen(folder: Path, settings: DataSettings, **changes: Any) -> Chosen:
    """What is fitted of small's scan of three frames, ``changes`` made to its document."""
    path = folder / "start.expt"
    path.write_text(json.dumps(small.document() | changes))
    document = read_expt(path)
    frames = {n: entry.images for n, entry in enumerate(document.entries)}
    return entries_to_fit(document, frames, {}, settings)


def test_a_range_of_frames_takes_its_angles_with_it(tmp_path: Path) -> None:
    found = chosen(tmp_path, DataSettings(frame_range=(1, 2)))
    scan = found.experiments[0].scan
    assert scan is not None
    assert (scan.phi_start, scan.n_frames) == (small.OSCILLATION, 2)
    assert [path.name for path in found.frames[0]] == ["small_002.cbf", "small_003.cbf"]


def test_a_range_beyond_the_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="leaves no frame"):
        chosen(tmp_path, DataSettings(frame_range=(3, 5)))


def test_all_frames_of_a_scan_leave_the_list_as_it_was(tmp_path: Path) -> None:
    found = chosen(tmp_path, DataSettings())
    assert found.experiments.document == json.loads((tmp_path / "start.expt").read_text())
    assert found.notes == ()


def test_frames_as_stills_each_stand_at_their_own_middle_angle(tmp_path: Path) -> None:
    found = chosen(tmp_path, DataSettings(still=True))
    settings = FitSettings(data=DataSettings("start.expt", still=True))
    scene = build_scene(found.experiments, found.frames, settings, Journal())
    assert all(expt.still for expt in scene.experiments)
    exposures = [expt.exposures(5)[0] for expt in scene.experiments]
    middles = [exposure.phi_start + exposure.oscillation / 2 for exposure in exposures]
    assert middles == pytest.approx([0.3, 0.9, 1.5])
    assert {exposure.steps for exposure in exposures} == {1}
    assert "share the crystal" in found.notes[0].sentence


def test_one_frame_of_a_scan_still_turns(tmp_path: Path) -> None:
    found = chosen(tmp_path, DataSettings(frame_range=(1, 1)))
    scene = build_scene(found.experiments, found.frames, FIT, Journal())
    assert not scene.experiments[0].still


def test_frames_at_one_angle_are_stills_at_that_angle(tmp_path: Path) -> None:
    scan = small.document()["scan"][0] | {"oscillation": [30.0, 0.0]}
    found = chosen(tmp_path, DataSettings(), scan=[scan])
    assert len(found.frames) == small.FRAMES
    scene = build_scene(found.experiments, found.frames, FIT, Journal())
    assert all(expt.still for expt in scene.experiments)
    assert {expt.exposures(1)[0].phi_start for expt in scene.experiments} == {30.0}


def test_without_a_goniometer_nothing_turns_whatever_the_scan_says(tmp_path: Path) -> None:
    entry = small.document()["experiment"][0]
    del entry["goniometer"]
    scan = small.document()["scan"][0] | {"image_range": [1, 1], "oscillation": [7.0, 0.1]}
    found = chosen(
        tmp_path, DataSettings(), experiment=[entry], scan=[scan | {"epochs": [0.0], "exposure_time": [1.0]}]
    )
    assert found.experiments[0].scan is None
    scene = build_scene(found.experiments, found.frames, FIT, Journal())
    assert scene.experiments[0].still
    assert "without a goniometer" in found.notes[0].sentence


def test_a_key_that_would_matter_is_said_not_to_be_used(tmp_path: Path) -> None:
    crystal = small.document()["crystal"][0] | {"ML_half_mosaicity_deg": 0.1}
    found = chosen(tmp_path, DataSettings(), crystal=[crystal])
    assert [note.code for note in found.notes] == ["key_not_used"]


def two_experiments(folder: Path, shift: float) -> Chosen:
    """Two experiments with a detector entry each, the second's ``shift`` mm further away."""
    document = small.document()
    other = json.loads(json.dumps(document["detector"][0]))
    other["panels"][0]["origin"][2] -= shift
    document["detector"].append(other)
    document["experiment"].append(document["experiment"][0] | {"detector": 1})
    return chosen(folder, DataSettings(), detector=document["detector"], experiment=document["experiment"])


def test_detectors_are_one_where_they_are_equal(tmp_path: Path) -> None:
    found = two_experiments(tmp_path, 0.0)
    assert len(build_scene(found.experiments, found.frames, FIT, Journal()).experiments) == 2


def test_detectors_that_differ_are_refused_with_what_differs(tmp_path: Path) -> None:
    found = two_experiments(tmp_path, 0.5)
    with pytest.raises(DataError, match=r"experiment 1 panels\[0\]\.origin: .*-45\.0.* and .*-45\.5"):
        build_scene(found.experiments, found.frames, FIT, Journal())
