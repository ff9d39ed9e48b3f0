"""Names and patterns of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbtorch.errors import FileError
from refine.settings.locate import find_frames, locate, locate_frames


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def found(pattern: Path) -> list[str]:
    return [path.name for path in find_frames(pattern)]


def test_a_pattern_finds_frames_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    touch(tmp_path, "f_10.cbf", "f_2.cbf", "f_1.cbf", "other.txt")
    assert found(tmp_path / "f_*.cbf") == ["f_1.cbf", "f_2.cbf", "f_10.cbf"]


def test_brackets_of_an_existing_folder_are_literal_and_those_of_a_pattern_are_not(tmp_path: Path) -> None:
    touch(tmp_path / "run[1] (a)", "f_1.cbf", "f_2.cbf", "f_3.cbf")
    assert found(tmp_path / "run[1] (a)" / "f_[12].cbf") == ["f_1.cbf", "f_2.cbf"]
    assert found(tmp_path / "run[[]1*" / "f_3.cbf") == ["f_3.cbf"]


def test_a_file_whose_name_is_a_pattern_is_that_file(tmp_path: Path) -> None:
    touch(tmp_path, "f_[1].cbf", "f_1.cbf", "f_*.cbf")
    assert found(tmp_path / "f_[1].cbf") == ["f_[1].cbf"]
    assert found(tmp_path / "f_*.cbf") == ["f_*.cbf"]


def test_hashes_stand_for_digits(tmp_path: Path) -> None:
    touch(tmp_path, "f_0001.cbf", "f_0002.cbf", "f_00003.cbf", "f_abcd.cbf")
    assert found(tmp_path / "f_####.cbf") == ["f_0001.cbf", "f_0002.cbf"]


def test_names_are_tried_with_the_suffixes_of_compressions(tmp_path: Path) -> None:
    touch(tmp_path, "f_1.cbf.gz", "f_2.cbf.gz")
    assert found(tmp_path / "f_*.cbf") == ["f_1.cbf.gz", "f_2.cbf.gz"]
    assert found(tmp_path / "f_1.cbf") == ["f_1.cbf.gz"]
    assert locate("data.mask", "f_2.cbf", str(tmp_path)).name == "f_2.cbf.gz"


def test_nothing_matches_nothing(tmp_path: Path) -> None:
    assert find_frames(tmp_path / "f_*.cbf") == ()
    assert find_frames(tmp_path / "nowhere" / "*.cbf") == ()


def test_relative_names_are_looked_for_below_root_in_the_order_of_the_folders(tmp_path: Path) -> None:
    touch(tmp_path / "sweep", "start.expt")
    touch(tmp_path, "F.mtz")
    root = str(tmp_path / "sweep")
    assert locate("data.experiment", "start.expt", root, (".", "..")) == tmp_path / "sweep" / "start.expt"
    assert locate("data.amplitudes", "F.mtz", root, (".", "..")) == tmp_path / "F.mtz"


def test_relative_names_without_a_root_are_the_current_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a, b.expt")
    monkeypatch.chdir(tmp_path)
    assert locate("data.experiment", "a, b.expt") == tmp_path / "a, b.expt"


def test_an_absent_file_is_told_with_every_place_that_was_tried(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"data\.experiment=start\.expt.*x/start\.expt.*y/start\.expt"):
        locate("data.experiment", "start.expt", str(tmp_path), ("x", "y"))
    with pytest.raises(FileError, match="no file matches"):
        locate_frames("data.frames", "*.cbf", str(tmp_path))


def test_a_tilde_is_the_home_only_where_no_file_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "home", "a.expt")
    assert locate("data.experiment", "~/a.expt") == tmp_path / "home" / "a.expt"
    touch(tmp_path / "~", "a.expt")
    assert locate("data.experiment", "~/a.expt") == tmp_path / "~" / "a.expt"
