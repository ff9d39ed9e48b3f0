"""Evidence bundles: complete, sealed, and checked."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nbtorch.errors import FileError
from nbtorch.nanobragg.cli.compare import main
from nbtorch.nanobragg.compare.bundle import Evidence, git_state, verify, write_bundle

EVIDENCE = Evidence("nb-test", [["a", "b c"], ["d"]], "cpu", "float64", {"worst": 0.5}, ["# Title"], {"exit_code": 0})
FILES = {
    "commands.txt",
    "env.json",
    "git_sha.txt",
    "run_metadata.json",
    "metrics.json",
    "summary.md",
    "sha256.txt",
    "outputs/deep/result.json",
}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    outputs = tmp_path / "out"
    (outputs / "deep").mkdir(parents=True)
    (outputs / "deep" / "result.json").write_text("{}")
    return write_bundle(EVIDENCE, outputs, tmp_path)


def test_a_bundle_holds_every_document_and_the_outputs(bundle: Path) -> None:
    assert {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()} == FILES
    assert (bundle / "commands.txt").read_text() == "a 'b c'\nd\n"
    environment = json.loads((bundle / "env.json").read_text())
    assert {"python", "torch", "device", "dtype", "threads"} <= set(environment)
    assert json.loads((bundle / "metrics.json").read_text()) == {"worst": 0.5}
    assert json.loads((bundle / "run_metadata.json").read_text())["exit_code"] == 0


def test_every_bundle_has_a_fresh_dated_folder_that_git_ignores(bundle: Path, tmp_path: Path) -> None:
    other = write_bundle(EVIDENCE, tmp_path / "out", tmp_path)
    assert other != bundle
    assert bundle.parent.name == "bundles"
    assert bundle.name[:8].isdigit()
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    ignored = subprocess.run(["git", "-C", str(tmp_path), "check-ignore", "-q", str(bundle / "env.json")], check=False)
    assert ignored.returncode == 0


def test_the_sums_are_those_of_sha256sum(bundle: Path) -> None:
    done = subprocess.run(["sha256sum", "-c", "--quiet", "sha256.txt"], cwd=bundle, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
    assert len((bundle / "sha256.txt").read_text().splitlines()) == len(FILES) - 1


def change(bundle: Path) -> None:
    (bundle / "metrics.json").write_text("{}")


def remove(bundle: Path) -> None:
    (bundle / "outputs" / "deep" / "result.json").unlink()


def add(bundle: Path) -> None:
    (bundle / "outputs" / "more.txt").write_text("")


def garble(bundle: Path) -> None:
    (bundle / "sha256.txt").write_text("nothing\n")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "metrics.json: changed": change,
    "outputs/deep/result.json: missing": remove,
    "outputs/more.txt: not in sha256.txt": add,
    "not a line of sha256sum": garble,
}


@pytest.mark.parametrize("said", DAMAGES)
def test_a_bundle_that_was_touched_is_found_out(bundle: Path, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(bundle) == []
    assert main(["--verify", str(bundle)]) == 0
    DAMAGES[said](bundle)
    assert any(said in line for line in verify(bundle))
    assert main(["--verify", str(bundle)]) == 5
    assert said in capsys.readouterr().out


def test_what_is_no_bundle_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--verify", str(tmp_path)]) == 5
    assert "sha256.txt" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bundles").write_text("a file in the way")
    (tmp_path / "out").mkdir()
    with pytest.raises(FileError, match="no folder can be made"):
        write_bundle(EVIDENCE, tmp_path / "out", tmp_path)


def test_sources_without_git_have_no_commit(tmp_path: Path) -> None:
    assert "no git checkout" in git_state(tmp_path)
    run = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    subprocess.run([*run, "init", "-q"], check=True)
    subprocess.run([*run, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    assert len(git_state(tmp_path)) == 40
    (tmp_path / "file").write_text("")
    assert "uncommitted" in git_state(tmp_path)
