"""Claim: memory is bounded by the block, whatever the orientations: each scene in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAM = """
from dataclasses import replace
from benchmarks.measuring import peak_megabytes
from benchmarks.scenes import SCENES, renderer
from nbtorch.config import RenderSettings
before = peak_megabytes()
model = renderer(replace(SCENES["c"], pixels={pixels}), "square", RenderSettings(precision="fast"))
model().sum().backward()
print(before, peak_megabytes())
"""


def run(sides: tuple[int, ...] = (512, 1024)) -> list[dict[str, Any]]:
    """Peak megabytes of scene c with its gradient at each detector size, PyTorch itself included."""
    rows = []
    for pixels in sides:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(pixels=pixels)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).resolve().parent.parent,
        )
        before, peak = (float(value) for value in done.stdout.split())
        rows.append({"scene": "c with gradient", "pixels": f"{pixels}²", "MB before": before, "MB at peak": peak})
    return rows
