"""Claim: the closed form costs a fraction of the samples it stands for, whatever the spreads are.

Scenes c (25 domains × 10 spindle steps) and d (20 wavelengths × 10 domains) at gauss_hkl, and 1,000 domains on a scene
like a: our sampled image, the closed form of the same spreads with pixels as points, and nanoBragg, on one thread. The
thousand are only taken in closed form: their samples would take minutes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from benchmarks.against_nanobragg import nanobragg_seconds, refine_only
from benchmarks.measuring import timed
from benchmarks.scenes import DISPERSION, SCENES, BenchmarkScene, renderer
from nbtorch.config import BeamConfig, RenderSettings
from nbtorch.models import Beam, Spreads
from nbtorch.render.renderer import Renderer
from nbtorch.spreads import SpreadConfig

CLOSED = RenderSettings(averaging="closed", pixel_box=False)
MANY = BenchmarkScene("1000 domains", 1024, (100.0, 100.0, 100.0, 90.0, 90.0, 90.0), 5.0, domains=1000)


def run(smaller: int = 1) -> list[dict[str, Any]]:
    """A row a scene."""
    scenes = (SCENES["c"], SCENES["d"], MANY)
    return [_measure(scene.scaled(scene.pixels // smaller)) for scene in scenes]


def closed(scene: BenchmarkScene) -> Renderer:
    """The closed form of ``scene``: its even spectrum as one line of the same rms width."""
    model = renderer(scene, "gauss_hkl", CLOSED)
    if scene.wavelengths > 1:
        width = DISPERSION / 100 / 12**0.5 * ((scene.wavelengths + 1) / (scene.wavelengths - 1)) ** 0.5
        model.experiment.beam = Beam(BeamConfig(1.0))
        model.experiment.spreads = Spreads(SpreadConfig(bandwidth=width))
    return model


def _measure(scene: BenchmarkScene) -> dict[str, Any]:
    sampled, one = renderer(scene, "gauss_hkl", RenderSettings()), closed(scene)
    row: dict[str, Any] = {"scene": scene.name}
    seconds: dict[str, float] = {}
    for name, model in (("sampled", sampled), ("closed", one)):
        refine_only(model)
        for kind, gradient in (("image", False), ("gradient", True)):
            large = scene.domains > 100 and name == "sampled"
            seconds[f"{name} {kind}"] = float("nan") if large else timed(_call(model, gradient)).cpu
    seconds["nanoBragg"] = nanobragg_seconds(replace(scene), "gauss_hkl") if scene.domains <= 100 else float("nan")
    row |= {f"{name} s": value for name, value in seconds.items()}
    row["sampled / closed"] = seconds["sampled image"] / seconds["closed image"]
    row["nanoBragg / closed"] = seconds["nanoBragg"] / seconds["closed image"]
    row["gradient / image"] = seconds["closed gradient"] / seconds["closed image"]
    settings = one.scene().closed
    assert settings is not None
    row["reach"], row["iterated"] = str(settings.reach), settings.iterated
    return row


def _call(model: Renderer, gradient: bool) -> Any:
    def call() -> None:
        with torch.set_grad_enabled(gradient):
            value = model()
        if gradient:
            value.sum().backward()

    return call
