"""Claim: two threads take little more than half the wall time of one, forward and with the gradient."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.against_nanobragg import refine_only
from benchmarks.scenes import SCENES, renderer
from nbtorch.config import RenderSettings

ROUNDS = 5


def speed_up(call: Callable[[], Any]) -> tuple[float, float, float]:
    """Median, smallest and largest ratio of wall times, one thread over two, in alternating calls."""
    before, ratios = torch.get_num_threads(), []
    try:
        call()
        for _ in range(ROUNDS):
            walls = []
            for threads in (1, 2):
                torch.set_num_threads(threads)
                start = time.perf_counter()
                call()
                walls.append(time.perf_counter() - start)
            ratios.append(walls[0] / walls[1])
    finally:
        torch.set_num_threads(before)
    return statistics.median(ratios), min(ratios), max(ratios)


def run(smaller: int = 1) -> list[dict[str, Any]]:
    """A row a scene, square and double."""
    rows = []
    for original in SCENES.values():
        scene = original.scaled(original.pixels // smaller)
        model = renderer(scene, "square", RenderSettings(precision="double", oversample=scene.oversample))
        refine_only(model)

        def image(model: Any = model) -> None:
            with torch.no_grad():
                model()

        forward, gradient = speed_up(image), speed_up(lambda model=model: model().sum().backward())
        names = ("forward ×", "least", "most", "gradient ×", "least of it", "most of it")
        rows.append({"scene": scene.name, **dict(zip(names, (*forward, *gradient), strict=True))})
    return rows
