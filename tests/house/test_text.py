"""What the repository's text must not hold: paths of one machine, and data that are not ours to give away."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from tests.helpers.data import shared
from tests.helpers.repository import project_files, relative

# Written in pieces, so that this file does not find itself.
MACHINE_PATHS = re.compile(
    r"(?<![\w.])/(?:" + "|".join(("wor" + "k", "hom" + "e/[a-z]", "roo" + "t", "User" + "s")) + r")/"
)
UNFINISHED = re.compile(r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")) + r")\b")
TEXT = {".py", ".c", ".h", ".md", ".toml", ".yaml", ".txt", ".j2", ".cfg", ".in", "", ".json", ".csv", ".sh"}


def lines_matching(pattern: re.Pattern[str], text: str) -> list[int]:
    return [number for number, line in enumerate(text.splitlines(), 1) if pattern.search(line)]


def text_files() -> list[Path]:
    return [path for path in project_files() if path.suffix in TEXT]


@pytest.mark.parametrize("pattern", [MACHINE_PATHS, UNFINISHED], ids=["machine-paths", "unfinished"])
def test_the_text_holds_no(pattern: re.Pattern[str]) -> None:
    found = {relative(path): lines_matching(pattern, path.read_text(encoding="utf-8")) for path in text_files()}
    assert not {name: lines for name, lines in found.items() if lines}


def test_the_patterns_find_what_they_are_for() -> None:
    folder = "/wor" + "k/main"
    assert lines_matching(MACHINE_PATHS, f"a\nopen('{folder}/x')") == [2]
    assert lines_matching(MACHINE_PATHS, "frame/work/x and ../work/x") == []
    assert lines_matching(UNFINISHED, "x = 1  # TO" + "DO later") == [1]


def digests(paths: list[Path]) -> dict[str, Path]:
    return {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in paths if path.stat().st_size > 0}


def test_no_measured_frame_is_committed() -> None:
    theirs = digests([path for path in shared("real").rglob("*") if path.is_file()])
    ours = digests(list(project_files()))
    copied = [relative(ours[digest]) for digest in ours.keys() & theirs.keys()]
    assert not copied
