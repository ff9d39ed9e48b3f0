"""The C reference, built once a session outside the checkout, and its images and traces of a command."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.data import ROOT


def build(folder: Path, *arguments: str) -> None:
    """Run the C reference's Makefile with its products in ``folder``; skips without a compiler."""
    if shutil.which("make") is None or shutil.which("cc") is None:
        pytest.skip("a C compiler and make build the C reference")
    command = ["make", "-j2", "-C", str(ROOT / "c_reference"), f"BUILD={folder}", "WERROR=1", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def c_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built program."""
    folder = tmp_path_factory.mktemp("c_reference")
    build(folder)
    return folder / "nanoBragg_c"


@dataclass(frozen=True)
class Answer:
    """What a program answered: exit code, complaint, and the float image [pixels] when it wrote one."""

    code: int
    complaint: str
    image: np.ndarray | None


def answer_of(program: Path, folder: Path, words: Sequence[str]) -> Answer:
    """The C program's answer to the flags ``words``, run in ``folder``."""
    path = folder / "c.bin"
    path.unlink(missing_ok=True)
    done = subprocess.run(
        [str(program), *words, "-floatfile", path.name], cwd=folder, capture_output=True, text=True, timeout=120
    )
    image = np.fromfile(path, "<f4").astype(np.float64) if path.exists() else None
    return Answer(done.returncode, done.stderr, image)
