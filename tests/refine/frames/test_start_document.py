"""What a fit starts from without an experiment list: headers, what is stated, images of files that hold many."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from nbtorch.errors import ConfigError, FileError
from nbtorch.io.frames import FrameRef
from refine.frames.frame_stack import FrameReader, FrameStack
from refine.frames.start_document import start_document
from refine.records.journal import Journal
from refine.settings.fit_settings import DataSettings, FitSettings
from refine.settings.geometry_settings import GeometrySettings
from tests.io.test_header_geometry import mini
from tests.io.test_nexus_incomplete import plain


def of_frames(pattern: Path, **stated: object) -> FitSettings:
    return FitSettings(data=DataSettings(frames=str(pattern)), geometry=GeometrySettings(**stated))  # type: ignore[arg-type]


def test_frames_alone_start_from_their_headers_and_say_each_number(tmp_path: Path) -> None:
    for n in (1, 2, 10):
        mini(tmp_path / f"a_{n}.cbf", Start_angle=f"{n * 0.25:.4f} deg.")
    start = start_document(of_frames(tmp_path / "a_*.cbf", distance=199.0))
    assert [len(start.assigned.frames[n]) for n in range(2)] == [2, 1]  # 10 does not follow 2
    assert start.assigned.frames[1] == (tmp_path / "a_10.cbf",)
    said = {note.numbers.get("name"): note for note in start.notes}
    assert said["distance"].numbers["origin"] == "geometry.distance, as stated"
    assert (said["fast_axis"].code, said["fast_axis"].level) == ("geometry_assumed", "assumption")
    assert said["wavelength"].sentence == "geometry: wavelength 1.0332 Å: # Wavelength"
    assert start.notes[-1].sentence.startswith("the frames are 2 scans (2 frames from 0.25° in steps of 0.25°")


def test_an_experiment_list_is_a_geometry_of_its_own() -> None:
    with pytest.raises(ConfigError, match=r"geometry\.distance with data\.experiment"):
        FitSettings(data=DataSettings(experiment="a.expt"), geometry=GeometrySettings(distance=100.0))
    with pytest.raises(ConfigError, match=r"neither data\.experiment nor data\.frames"):
        FitSettings()


def test_what_neither_header_nor_user_states_is_refused(tmp_path: Path) -> None:
    mini(tmp_path / "a_1.cbf", Detector_distance=None)
    with pytest.raises(FileError, match=r"Give geometry\.distance=MM"):
        start_document(of_frames(tmp_path / "a_1.cbf"))


def test_images_of_a_master_are_read_one_by_one_with_its_mask(tmp_path: Path) -> None:
    path = plain(tmp_path / "run_master.h5")
    with h5py.File(path, "a") as file:
        file["/entry/data/data_000001"][1, 7, 3] = 500
    start = start_document(of_frames(path))
    images = start.assigned.frames[0]
    assert images == tuple(FrameRef(path, n) for n in range(3))
    stack = FrameStack(images, FrameReader(start.experiments[0].detector, None), Journal())
    frames = [frame for frame in stack.frames() if frame is not None]
    assert [int(frame.counts[0][7, 3]) for frame in frames] == [1, 500, 1]
    assert not frames[0].valid[0][4].any()  # the row that the file's mask leaves out
    assert frames[0].valid[0][5].all()


def test_an_experiment_list_says_which_image_of_a_file_each_frame_is(tmp_path: Path) -> None:
    """single_file_indices, as dials.import and dials.slice_sequence write them; and the mask is the file's."""
    path = plain(tmp_path / "run_master.h5", count=4)
    document = dict(start_document(of_frames(path)).experiments.document)
    document["imageset"] = [{**document["imageset"][0], "single_file_indices": [2, 3]}]
    document["scan"] = [{**document["scan"][0], "image_range": [3, 4]}]
    (tmp_path / "cut.expt").write_text(json.dumps(document))
    for frames in (None, str(path)):
        settings = FitSettings(data=DataSettings(experiment=str(tmp_path / "cut.expt"), frames=frames))
        assert start_document(settings).assigned.frames == {0: (FrameRef(path, 2), FrameRef(path, 3))}
    del document["imageset"][0]["single_file_indices"]
    (tmp_path / "cut.expt").write_text(json.dumps(document))
    settings = FitSettings(data=DataSettings(experiment=str(tmp_path / "cut.expt")))
    # image 3 of the scan is number 2 of the file, counted from 0
    assert start_document(settings).assigned.frames == {0: (FrameRef(path, 2), FrameRef(path, 3))}


def test_a_lost_image_of_a_file_is_told_with_its_number(tmp_path: Path) -> None:
    path = plain(tmp_path / "run_master.h5")
    start = start_document(of_frames(path))
    with h5py.File(path, "a") as file:
        del file["/entry/data/data_000001"]
        file["/entry/data/data_000001"] = np.ones((2, 30, 20), dtype=np.uint16)
    stack = FrameStack(start.assigned.frames[0], FrameReader(start.experiments[0].detector, None), Journal())
    assert [frame is None for frame in stack.frames()] == [False, False, True]
    assert stack.lost[0].startswith(f"{path} //2: ")
