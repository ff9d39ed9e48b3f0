"""Claim: cost grows linearly in pixels and in orientations, and hardly with the number of refined parameters."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.against_nanobragg import REFINED, refine_only
from benchmarks.measuring import RESULTS, timed
from benchmarks.scenes import SCENES, BenchmarkScene, renderer
from nbtorch.config import RenderSettings

PARAMETER_ROUNDS = 7
FEW = ("detector.shift",)
MORE = (
    *REFINED,
    "crystal.mosaic_spread",
    "crystal.n_cells",
    "beam.direction",
    "beam.wavelength",
    "crystal.spindle_axis",
)


def run() -> list[dict[str, Any]]:
    """Nanoseconds per evaluation while one size grows over three decades; gradients for few and many parameters."""
    rows: list[dict[str, Any]] = []
    sizes = [("pixels", replace(SCENES["c"], pixels=side)) for side in (10, 32, 100, 316)]
    sizes += [("orientations", replace(SCENES["c"], pixels=64, domains=n, spindle_steps=1)) for n in (2, 20, 200, 2000)]
    for grows, scene in sizes:
        model = renderer(scene, "square", RenderSettings(precision="double"))

        def image(model: Any = model) -> None:
            with torch.no_grad():
                model()

        cost = timed(image).cpu
        rows.append(
            {"grows": grows, "evaluations": scene.evaluations, "seconds": cost, "ns": cost * 1e9 / scene.evaluations}
        )
    return rows + _parameters(replace(SCENES["c"], pixels=128))


def _parameters(scene: BenchmarkScene) -> list[dict[str, Any]]:
    """The gradient of few and of many parameters, in alternating calls: what drifts touches both."""
    models, seconds = [], ([], [])  # type: ignore[var-annotated]
    for names in (FEW, MORE):
        models.append(renderer(scene, "square", RenderSettings(precision="double")))
        refine_only(models[-1], names)
    for _ in range(PARAMETER_ROUNDS):
        for model, times in zip(models, seconds, strict=True):
            times.append(timed(lambda model=model: model().sum().backward(), repeats=1, warm_up=not times).cpu)
    rows = []
    for model, times in zip(models, seconds, strict=True):
        refined = sum(p.numel() for p in model.experiment.parameters() if p.requires_grad)
        cost = statistics.median(times)
        ns = cost * 1e9 / scene.evaluations
        rows.append({"grows": f"{refined} parameters", "evaluations": scene.evaluations, "seconds": cost, "ns": ns})
    return rows


def plot(rows: list[dict[str, Any]], path: Path = RESULTS / "scaling.png") -> Path:
    """Draw seconds against evaluations, with the straight line of the largest scene through it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    for grows in ("pixels", "orientations"):
        chosen = [row for row in rows if row["grows"] == grows]
        axes.loglog([row["evaluations"] for row in chosen], [row["seconds"] for row in chosen], "o-", label=grows)
    last = chosen[-1]
    least = min(row["evaluations"] for row in rows)
    ends = [least, last["evaluations"]]
    axes.loglog(ends, [last["ns"] * 1e-9 * n for n in ends], "k:", label=f"{last['ns']:.1f} ns each")
    axes.set_xlabel("evaluations: sample × source × orientation")
    axes.set_ylabel("CPU seconds of an image")
    axes.legend(frameon=False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    return path
