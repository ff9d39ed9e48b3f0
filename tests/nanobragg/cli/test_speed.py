"""The command starts fast: a 1024² one-step image costs little beyond importing torch, measured in the same run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.command import split
from tests.helpers.data import ROOT, golden

IMAGE = "-cell 74 86 98 82 97 104 -lambda 1 -N 5 -misset 12 23 34 -oversample 1 -nointerpolate"
PAIRS = 5
BEYOND = 1.0  # seconds on an idle machine
TORCH = 2.7  # seconds that `import torch` takes there; a busy machine stretches both alike


def seconds(command: list[str], folder: Path) -> float:
    """How long a process takes."""
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


@pytest.mark.slow
def test_a_1024_image_takes_at_most_a_second_beyond_importing_torch(tmp_path: Path) -> None:
    simulate = [sys.executable, "-m", "nbtorch.nanobragg.cli.nanobragg", *split(IMAGE)]
    simulate += ["-hkl", str(golden("inputs", "dense.hkl")), "-floatfile", str(tmp_path / "f.bin")]
    imports, beyond = [], []
    for _ in range(PAIRS):
        imports.append(seconds([sys.executable, "-c", "import torch"], tmp_path))
        beyond.append(seconds(simulate, tmp_path) - imports[-1])
    assert (tmp_path / "f.bin").stat().st_size == 4 * 1024**2
    assert min(beyond) <= BEYOND * max(1.0, min(imports) / TORCH), (imports, beyond)
