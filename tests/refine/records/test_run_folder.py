"""The run folder: claimed before anything is written, and nothing in it lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nbtorch.errors import ConfigError, FileError
from refine.records.run_folder import CHECKPOINT, OUTPUTS, RESULT, claim, claim_output, holds_a_run
from tests.helpers.data import ROOT


def leave_a_run(folder: Path) -> None:
    for name in OUTPUTS:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"old {name}")


@pytest.mark.parametrize("made", [True, False], ids=["existing", "absent"])
def test_an_empty_or_absent_folder_is_used(tmp_path: Path, *, made: bool) -> None:
    folder = tmp_path / "out"
    if made:
        folder.mkdir()
    with claim(folder) as claimed:
        assert claimed.checkpoint is None
    assert list(folder.iterdir()) == []


def test_a_folder_with_foreign_files_is_used_and_they_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with claim(tmp_path, overwrite=True) as claimed:
        claimed.clear()
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_folder_that_holds_any_output_needs_resume_or_overwrite(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("kept")
    with pytest.raises(ConfigError, match=r"resume=true.*overwrite=true"), claim(tmp_path):
        pass
    assert (tmp_path / name).read_text() == "kept"
    with claim(tmp_path, resume=True), claim_twice_fails(tmp_path):
        pass


class claim_twice_fails:
    """A second claim of a held folder is refused."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        with pytest.raises(FileError, match="another run is going on"), claim(self.folder, overwrite=True):
            pass

    def __exit__(self, *error: object) -> None:
        return


def test_resume_and_overwrite_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Give one of them"), claim(tmp_path, resume=True, overwrite=True):
        pass


def test_only_a_resumed_run_gets_the_checkpoint(tmp_path: Path) -> None:
    leave_a_run(tmp_path)
    with claim(tmp_path, resume=True) as claimed:
        assert claimed.checkpoint == tmp_path / CHECKPOINT
    with claim(tmp_path, overwrite=True) as claimed:
        assert claimed.checkpoint is None


def test_claiming_to_overwrite_keeps_the_run_before_until_the_new_one_clears_it(tmp_path: Path) -> None:
    leave_a_run(tmp_path)
    with claim(tmp_path, overwrite=True) as claimed:
        assert all((tmp_path / name).exists() for name in OUTPUTS)
        claimed.clear()
        assert not holds_a_run(tmp_path)


def test_resuming_where_nothing_ran_begins_a_run(tmp_path: Path) -> None:
    with claim(tmp_path / "new", resume=True) as claimed:
        assert claimed.checkpoint is None


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"file/out: it cannot be written"), claim(tmp_path / "file" / "out"):
        pass


def test_the_lock_of_a_process_that_was_killed_does_not_hold_the_folder(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from refine.records.run_folder import claim\n"
        "with claim(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, timeout=60)
    assert done.returncode == -9
    with claim(tmp_path):
        pass


def test_a_single_output_is_not_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "check.html").write_text("kept")
    with pytest.raises(ConfigError, match="overwrite=true"), claim_output(tmp_path, "check.html"):
        pass
    with claim_output(tmp_path, "check.html", overwrite=True) as path:
        assert path.read_text() == "kept"
    assert not (tmp_path / RESULT).exists()
