"""Small scenes with a closed form: one spot on a few pixels, with every spread or with none."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from nbtorch.config import (
    BeamConfig,
    CrystalConfig,
    DetectorConfig,
    Exposure,
    GoniometerConfig,
    MosaicConfig,
    PanelConfig,
    RenderSettings,
    Shape,
)
from nbtorch.models import Experiment, StructureFactors
from nbtorch.render import PixelSelection, Renderer, pixel_list
from nbtorch.render.excited import excited_reflections
from nbtorch.spreads import SpreadConfig

POINTS = RenderSettings(averaging="closed", pixel_box=False)
BOX = RenderSettings(averaging="closed")
SAMPLED = RenderSettings(backend="auto")
EVERY = SpreadConfig(
    mosaic=(0.1, 0.2, 0.15),
    bandwidth=(0.002, 0.004),
    divergence=(1.0, 2.0),
    cell=(0.002, 0.001, 0.003),
    covariance=(2e-6, 3e-6, 4e-6, 1e-6, -5e-7, 2e-7),
    point_spread=0.3,
    coupling=(0.3, -0.2, 0.4),
)


def structure_factors() -> StructureFactors:
    """Five amplitudes shared by every reflection that the scenes reach."""
    h, l = np.arange(-40, 41), np.arange(-22, 23)  # noqa: E741
    hkl = np.stack(np.meshgrid(h, h, l, indexing="ij"), axis=-1).reshape(-1, 3)
    group = hkl @ np.array([1, 2, 3]) % 5
    amplitudes = np.array([60.0, 85.0, 100.0, 120.0, 75.0])
    return StructureFactors(hkl, amplitudes[group], group=group, default_F=10.0)


@dataclass(frozen=True)
class Spot:
    """A scene by what matters to the closed form. Lengths in mm, angles in degrees."""

    n_cells: float = 20.0
    mosaic: float | tuple[float, float, float] = 0.0
    domains: int = 1
    spectrum: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    divergence: tuple[tuple[float, float, float], ...] = ((0.0, 0.0, 1.0),)
    oscillation: float = 0.0
    steps: int = 1
    pixel: float = 0.05
    shape: Shape = "gauss_hkl"
    spreads: SpreadConfig | None = None
    cell: tuple[float, ...] = (79.0, 70.0, 38.0, 85.0, 97.0, 104.0)

    def experiment(self) -> Experiment:
        """The experiment; its axes are in no special position."""
        crystal = CrystalConfig(
            self.cell,  # type: ignore[arg-type]
            misset=(11.0, 23.0, 5.0),
            n_cells=(self.n_cells, self.n_cells, 2 * self.n_cells),
            shape=self.shape,
            fudge=1.1,
            mosaic=MosaicConfig(self.mosaic, self.domains if self.domains > 1 or not self.mosaic else 2),
            goniometer=GoniometerConfig(axis=(0.1, 0.2, 1.0)),
        )
        beam = BeamConfig(
            1.0,
            direction=(1.0, 0.02, -0.03),
            polarization_axis=(0.1, 1.0, 0.3),
            kahn_factor=0.7,
            spectrum=self.spectrum,
            divergence=self.divergence,
        )
        count = math.ceil(80 / self.pixel)
        panel = PanelConfig(
            (0.05, 0.1, 1.0), (-0.1, -1.0, 0.08), (100.0, 40.0, -40.0), (self.pixel, 1.1 * self.pixel), (count, count)
        )
        return Experiment.from_config(
            crystal,
            beam,
            DetectorConfig((panel,)),
            structure_factors(),
            Exposure(20.0, self.oscillation, self.steps),
            self.spreads,
        )

    def render(self, pixels: PixelSelection, settings: RenderSettings = POINTS) -> torch.Tensor:
        """Photons of ``pixels``, without a gradient."""
        with torch.no_grad():
            return Renderer(self.experiment(), pixels, settings)()


def around(spot: Spot, half: int = 6, step: int = 1, which: int = 0) -> PixelSelection:
    """(2·half + 1)² pixels, ``step`` apart, about the reflection that is ``which``-nearest to the sphere."""
    scene = replace(spot, oscillation=0.0, spreads=None).experiment()
    if spot.oscillation:
        scene.exposure = Exposure(20.0 + spot.oscillation / 2)
    found = excited_reflections(scene, margin=0.3, dmin=1.6)
    inside = (found.fast > 200) & (found.slow > 200)
    order = found.miss.argsort(kind="stable")
    chosen = order[inside[order]][which]
    grid = step * torch.arange(-half, half + 1)
    slow, fast = torch.meshgrid(int(found.slow[chosen]) + grid, int(found.fast[chosen]) + grid, indexing="ij")
    return pixel_list(scene.detector.config, torch.zeros_like(slow).ravel(), slow.ravel(), fast.ravel())


def worst(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference of two images, as a fraction of the second's peak."""
    return float((one - other).abs().max() / other.abs().max())


def small(spreads: SpreadConfig | None = EVERY) -> Experiment:
    """A detector of 24 × 24 pixels that holds a spot."""
    spot = Spot(5.0, 0.1, 2, oscillation=0.4, pixel=0.25, spectrum=((-0.002, 0.7), (0.003, 1.3)), spreads=spreads)
    middle, whole = around(spot, half=0), spot.experiment()
    panel = whole.detector.config.panels[0]
    fast, slow = (np.array(axis) / np.linalg.norm(axis) for axis in (panel.fast_axis, panel.slow_axis))
    corner = np.array(panel.origin) + (int(middle.fast) - 12) * 0.25 * fast + (int(middle.slow) - 12) * 0.275 * slow
    x, y, z = corner.tolist()
    config = DetectorConfig((replace(panel, origin=(x, y, z), size=(24, 24)),))
    return Experiment.from_config(
        whole.crystal.config, whole.beam.config, config, structure_factors(), whole.exposure, spreads
    )
