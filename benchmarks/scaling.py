"""Claim: cost grows linearly in pixels and in orientations, and hardly with the number of refined parameters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from benchmarks.against_nanobragg import REFINED, refine_only
from benchmarks.measuring import timed
from benchmarks.scenes import SCENES, renderer
from nbtorch.config import RenderSettings

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
    scene = replace(SCENES["c"], pixels=128)
    for names in (FEW, MORE):
        model = renderer(scene, "square", RenderSettings(precision="double"))
        refine_only(model, names)
        refined = sum(p.numel() for p in model.experiment.parameters() if p.requires_grad)
        cost = timed(lambda model=model: model().sum().backward()).cpu
        ns = cost * 1e9 / scene.evaluations
        rows.append({"grows": f"{refined} parameters", "evaluations": scene.evaluations, "seconds": cost, "ns": ns})
    return rows
