"""Which files belong to which experiment: by name, by as much of the path as is needed, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nbtorch.errors import DataError
from nbtorch.io import ExperimentList, read_expt
from refine.frames.assign_frames import assign_frames, unused_files
from refine.settings.fit_settings import DataSettings


def stills(folder: Path, *images: str) -> ExperimentList:
    """An experiment list of a still for each of ``images``."""
    from tests.refine import small

    document = small.document()
    places = {"beam": 0, "detector": 0, "crystal": 0}
    document["experiment"] = [
        {"__id__": "Experiment", "identifier": ""} | places | {"imageset": n} for n in range(len(images))
    ]
    document["imageset"] = [{"__id__": "ImageSet", "images": [image]} for image in images]
    path = folder / "start.expt"
    path.write_text(json.dumps(document))
    return read_expt(path)


def touched(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_the_stated_path_wins_over_a_file_of_that_name_beside_the_list(tmp_path: Path) -> None:
    touched(tmp_path, "run1/a.cbf", "a.cbf")
    chosen, *_ = assign_frames(stills(tmp_path, "run1/a.cbf"), DataSettings())
    assert chosen[0] == (tmp_path / "run1/a.cbf",)


def test_frames_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    touched(tmp_path, "run1/a.cbf", "run2/a.cbf")
    document = stills(tmp_path, "/elsewhere/run2/a.cbf", "/elsewhere/run1/a.cbf")
    chosen, *_ = assign_frames(document, DataSettings(frames=str(tmp_path / "run*" / "a.cbf")))
    assert [images[0].parent.name for _, images in sorted(chosen.items())] == ["run2", "run1"]


def test_frames_that_no_path_tells_apart_are_refused(tmp_path: Path) -> None:
    touched(tmp_path, "x/a.cbf", "y/a.cbf")
    with pytest.raises(DataError, match="they have one name"):
        assign_frames(stills(tmp_path, "/gone/a.cbf"), DataSettings(frames=str(tmp_path / "?" / "a.cbf")))


def test_two_experiments_of_one_image_both_get_it(tmp_path: Path) -> None:
    touched(tmp_path, "a.cbf", "b.cbf")
    chosen, *_ = assign_frames(stills(tmp_path, "a.cbf", "a.cbf"), DataSettings(frames=str(tmp_path / "*.cbf")))
    assert [images[0].name for _, images in sorted(chosen.items())] == ["a.cbf", "a.cbf"]


def test_several_experiments_with_other_names_are_refused(tmp_path: Path) -> None:
    touched(tmp_path, "a.cbf", "b.cbf")
    with pytest.raises(DataError, match="which file belongs to which experiment is not known"):
        assign_frames(stills(tmp_path, "c.cbf", "d.cbf"), DataSettings(frames=str(tmp_path / "*.cbf")))


def test_files_of_no_experiment_are_told(tmp_path: Path) -> None:
    touched(tmp_path, "a.cbf", "b.cbf", "c.cbf")
    found = assign_frames(stills(tmp_path, "a.cbf"), DataSettings(frames=str(tmp_path / "*.cbf")))
    assert [path.name for path in found.unused] == ["b.cbf", "c.cbf"]
    assert unused_files(found.unused).sentence.startswith("2 files of data.frames belong to no experiment")
