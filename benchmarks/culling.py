"""Claim: a compact shape is several times cheaper without what cannot reach 1e-10 of the peak, and the same."""

from __future__ import annotations

import statistics
from typing import Any

import torch

from benchmarks.against_nanobragg import refine_only
from benchmarks.measuring import timed
from benchmarks.scenes import SCENES, renderer
from nbtorch.config import Precision, RenderSettings

CULLINGS = (0.0, 1e-10)
ROUNDS = 3


def run(smaller: int = 1) -> list[dict[str, Any]]:
    """A row a precision: scene c, gauss_hkl, with and without in alternating calls."""
    return [_measure(precision, smaller) for precision in ("double", "fast")]


def _measure(precision: Precision, smaller: int) -> dict[str, Any]:
    scene = SCENES["c"].scaled(SCENES["c"].pixels // smaller)
    models = [renderer(scene, "gauss_hkl", RenderSettings(precision=precision, culling=c)) for c in CULLINGS]
    row: dict[str, Any] = {"scene": scene.name, "precision": precision}
    for model in models:
        refine_only(model)
    with torch.no_grad():
        whole, culled = (model() for model in models)
    row["largest change of the peak"] = float((whole - culled).abs().max() / whole.max())
    for name, gradient in (("forward", False), ("gradient", True)):
        ratios, last = [], 0.0
        for _ in range(ROUNDS):
            whole_s, last = (_seconds(model, gradient) for model in models)
            ratios.append(whole_s / last)
        row[f"{name} ns"], row[f"{name} ×"] = last * 1e9 / scene.evaluations, statistics.median(ratios)
    return row


def _seconds(model: Any, gradient: bool) -> float:
    def call() -> None:
        with torch.set_grad_enabled(gradient):
            value = model()
        if gradient:
            value.sum().backward()

    return timed(call, repeats=1, warm_up=False).cpu
