"""Claim: an image through the public Renderer costs a fraction of nanoBragg's loop, and a gradient less than its image.

Both run on one thread by default, in turn, and are compared by CPU time per evaluation (one sample × source ×
orientation). nanoBragg is ``c_reference`` built with -O3, or the program that NB_C_BIN names.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring import timed
from benchmarks.scenes import SCENES, BenchmarkScene, command, renderer
from nbtorch.config import Precision, RenderSettings, Shape
from nbtorch.render.renderer import Renderer

ROOT = Path(__file__).resolve().parent.parent
REFINED = ("crystal.cell", "crystal.misset", "detector.shift", "detector.rotation", "detector.origin")
SHAPES: tuple[Shape, ...] = ("square", "gauss_hkl")
PRECISIONS: tuple[Precision, ...] = ("double", "fast")


def nanobragg() -> str:
    """The program to compare with; ``c_reference`` is built when it is not there."""
    if given := os.environ.get("NB_C_BIN"):
        return given
    program = ROOT / "c_reference" / "nanoBragg_c"
    if not program.exists():
        subprocess.run(["make", "-s", "-C", str(program.parent), "CFLAGS=-O3"], check=True)
    return str(program)


def nanobragg_seconds(scene: BenchmarkScene, shape: Shape) -> float:
    """CPU seconds of the program, of all its threads: nearly all of it is the loop; files are the system's time."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    before = os.times().children_user
    with tempfile.TemporaryDirectory() as scratch:
        arguments = [*command(scene, shape, nanobragg()), "-floatfile", "image.bin"]
        subprocess.run(arguments, cwd=scratch, env=environment, capture_output=True, check=True)
    return os.times().children_user - before


def refine_only(model: Renderer, names: tuple[str, ...] = REFINED) -> None:
    """Leave ``names`` as the parameters that take gradients."""
    for name, parameter in model.experiment.named_parameters():
        parameter.requires_grad_(name in names)


def measure(scene: BenchmarkScene, shape: Shape, precision: Precision, repeats: int = 3) -> dict[str, Any]:
    """Nanoseconds per evaluation of an image and of an image with its gradient."""
    model = renderer(scene, shape, RenderSettings(precision=precision, oversample=scene.oversample))
    refine_only(model)

    def image() -> None:
        with torch.no_grad():
            model()

    def gradient() -> None:
        model().sum().backward()

    nano = 1e9 / scene.evaluations
    return {
        "scene": scene.name,
        "shape": shape,
        "precision": precision,
        "threads": torch.get_num_threads(),
        "forward ns": timed(image, repeats).cpu * nano,
        "with gradient ns": timed(gradient, repeats).cpu * nano,
    }


def run(smaller: int = 1) -> list[dict[str, Any]]:
    """The whole table; ``smaller`` divides the side of the detectors."""
    rows = []
    for original in SCENES.values():
        scene = original.scaled(original.pixels // smaller)
        for shape in SHAPES:
            nano = 1e9 / scene.evaluations
            theirs = nanobragg_seconds(scene, shape) * nano
            for precision in PRECISIONS:
                row = measure(scene, shape, precision)
                rows.append(
                    {
                        **row,
                        "nanoBragg ns": theirs,
                        "forward ×": theirs / row["forward ns"],
                        "gradient ×": theirs / row["with gradient ns"],
                    }
                )
    return rows
