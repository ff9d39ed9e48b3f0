"""How far the closed form is from converged samples: worst error of a spot's peak and of its sum, spread by spread.

    python benchmarks/closed_accuracy.py

Prints one line a case: linear and linearized once more, median and worst of eight spots. See docs/closed_form.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from nbtorch.config import (
    BeamConfig,
    CrystalConfig,
    DetectorConfig,
    Exposure,
    MosaicConfig,
    PanelConfig,
    RenderSettings,
)
from nbtorch.models import Experiment
from nbtorch.render import PixelSelection, Renderer, pixel_list
from nbtorch.render.excited import excited_reflections
from nbtorch.spreads import SpreadConfig

SPOTS = 8
HALF, WIDTH = 10, 3.5  # a patch is 21 × 21 pixels, this many rms spot widths to each side
SIZE, DISTANCE = 80.0, 100.0  # mm


@dataclass(frozen=True)
class Case:
    """One spread at one crystal size. Spreads as in SpreadConfig; ``oscillation`` in degrees, ``pixel`` in mm."""

    name: str
    n_cells: int
    mosaic: float = 0.0
    bandwidth: float = 0.0
    divergence: tuple[float, float] = (0.0, 0.0)
    oscillation: float = 0.0
    pixel: float = 0.01
    box: bool = False
    domains: int = 2**17


CASES = [
    *(Case(f"mosaic {eta} deg", n, mosaic=eta) for n in (5, 10, 20, 60) for eta in (0.02, 0.1, 0.2, 0.3)),
    *(Case(f"bandwidth {100 * width:g} %", n, bandwidth=width) for n in (5, 20, 60) for width in (0.0005, 0.002, 0.01)),
    *(Case(f"spindle {range_} deg", n, oscillation=range_) for n in (5, 20, 60) for range_ in (0.1, 0.5, 1.0)),
    Case("divergence 0.5 x 0.2 mrad", 20, divergence=(0.5, 0.2)),
    *(Case(f"pixel {size} mm", 20, pixel=size, box=True) for size in (0.02, 0.1, 0.2)),
    Case("all of them", 20, 0.1, 0.002, (0.5, 0.2), 0.2, domains=24),
]


def experiment(case: Case) -> Experiment:
    """The scene of ``case`` for the closed form."""
    count = round(SIZE / case.pixel)
    panel = PanelConfig(
        (0.0, 0.0, 1.0), (0.0, -1.0, 0.0), (DISTANCE, SIZE / 2, -SIZE / 2), (case.pixel, case.pixel), (count, count)
    )
    crystal = CrystalConfig(
        (79, 79, 38, 90, 90, 90),
        n_cells=(case.n_cells, case.n_cells, 2 * case.n_cells),
        shape="gauss_hkl",
        misset=(11, 23, 5),
        mosaic=MosaicConfig(case.mosaic, 2 if case.mosaic else 1),
    )
    spreads = SpreadConfig(bandwidth=case.bandwidth, divergence=case.divergence)
    exposure = Exposure(0.0, case.oscillation)
    return Experiment.from_config(crystal, BeamConfig(1.0), DetectorConfig((panel,)), None, exposure, spreads)


def sampled(case: Case, of: Experiment) -> tuple[Experiment, int]:
    """The same scene with so many samples that they no longer show, and the oversampling of its pixels."""
    several = sum(map(bool, (case.mosaic, case.bandwidth, max(case.divergence), case.oscillation))) > 1
    domains = case.domains * (8 if case.n_cells * case.mosaic > 10 else 1) if case.mosaic else 1
    crystal = replace(of.crystal.config, mosaic=MosaicConfig(case.mosaic, domains))
    beam = BeamConfig(1.0)
    if case.bandwidth:
        beam = replace(beam, spectrum=tuple((x * case.bandwidth, w) for x, w in normal(24 if several else 1201)))
    if max(case.divergence):
        angles = normal(8 if several else 61)
        h, v = case.divergence
        beam = replace(beam, divergence=tuple((h * x, v * y, u * w) for x, u in angles for y, w in angles))
    steps = (24 if several else 1000) if case.oscillation else 1
    if several:
        crystal = replace(crystal, mosaic=MosaicConfig(case.mosaic, 512))
    exposure = Exposure(0.0, case.oscillation, steps)
    scene = Experiment.from_config(crystal, beam, of.detector.config, None, exposure)
    return scene, 40 if case.box else 1


def normal(count: int) -> list[tuple[float, float]]:
    """(place, weight) of ``count`` even steps over ±6 rms widths: exact to all digits for smooth integrands."""
    x = np.linspace(-6, 6, count)
    return list(zip(x.tolist(), np.exp(-0.5 * x**2).tolist(), strict=True))


def patches(case: Case, scene: Experiment) -> PixelSelection:
    """One grid of pixels a spot, its step as wide as the spot asks for."""
    spots = excited_reflections(scene, margin=0.05 + case.mosaic, dmin=1.45)
    order = np.argsort(spots.miss, kind="stable")
    far = np.hypot(spots.fast - spots.fast.mean(), spots.slow - spots.slow.mean())
    order = order[: 4 * SPOTS][np.argsort(far[order[: 4 * SPOTS]])][::4]
    width = 0.0252 * 100 / case.n_cells / 5  # mm: of the crystal alone, √(0.63/4)/N·λ/a·distance
    fast, slow = [], []
    for spot in order[:SPOTS]:
        radius = DISTANCE * 0.5
        blur = np.hypot(np.radians(case.mosaic) * radius * 0.7, case.bandwidth * radius)
        step = 1 if case.box else max(1, round(np.hypot(width, blur) * WIDTH / HALF / case.pixel))
        grid = step * np.arange(-HALF, HALF + 1)
        across, along = np.meshgrid(grid, grid)
        fast.append(int(spots.fast[spot]) + along.ravel())
        slow.append(int(spots.slow[spot]) + across.ravel())
    count = scene.detector.config.panels[0].size[0]
    there = [np.clip(np.concatenate(x), 0, count - 1) for x in (slow, fast)]
    zero = torch.zeros(len(there[0]), dtype=torch.long)
    return pixel_list(scene.detector.config, zero, torch.as_tensor(there[0]), torch.as_tensor(there[1]))


@torch.no_grad()
def measure(case: Case) -> str:
    """One line of the table."""
    scene = experiment(case)
    pixels = patches(case, scene)
    many, oversample = sampled(case, scene)
    truth = Renderer(many, pixels, RenderSettings(oversample=oversample))().reshape(SPOTS, -1).numpy()
    line, kept = f"{case.name:28s} N {case.n_cells:3d}", truth.max(1) > 1e-3 * truth.max()
    for again in (False, True):
        settings = RenderSettings(averaging="closed", relinearize=again, pixel_box=case.box)
        closed = Renderer(scene, pixels, settings)().reshape(SPOTS, -1).numpy()
        peak = (np.abs(closed - truth).max(1) / truth.max(1))[kept]
        total = np.abs(closed.sum(1) / truth.sum(1) - 1)[kept]
        line += f" | {np.median(peak):.1e} {peak.max():.1e} {np.median(total):.1e} {total.max():.1e}"
    chosen = Renderer(scene, pixels, RenderSettings(averaging="closed", pixel_box=case.box)).scene()
    assert chosen.closed is not None
    return f"{line} | {chosen.closed.iterated} {chosen.closed.reach} {chosen.oversample} ({kept.sum()} spots)"


def main() -> None:
    """Print the table."""
    print("case | linear: peak median, worst; sum median, worst | linearized once more | chosen, reach, sub-pixels")
    for case in CASES:
        print(measure(case), flush=True)


if __name__ == "__main__":
    main()
