"""The scenes that are measured: ours as an experiment, nanoBragg's as a command line, the same numbers in both."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nbtorch.config import (
    BeamConfig,
    CrystalConfig,
    DetectorConfig,
    Exposure,
    MosaicConfig,
    PanelConfig,
    RenderSettings,
    Shape,
    Vec3,
)
from nbtorch.models.experiment import Experiment
from nbtorch.models.structure_factors import StructureFactors
from nbtorch.render.renderer import Renderer

PIXEL = 0.1  # mm
DISTANCE = 100.0  # mm
AMPLITUDE = 100.0
DISPERSION = 1.0  # percent
SPREAD = 0.5  # degrees
OSCILLATION = 1.0  # degrees


@dataclass(frozen=True)
class BenchmarkScene:
    """One scene of the table."""

    name: str
    pixels: int
    cell: tuple[float, float, float, float, float, float]
    n_cells: float
    oversample: int = 1
    domains: int = 1
    spindle_steps: int = 1
    wavelengths: int = 1

    @property
    def evaluations(self) -> int:
        """Lattice terms summed for one image."""
        return self.pixels**2 * self.oversample**2 * self.domains * self.spindle_steps * self.wavelengths

    def scaled(self, pixels: int) -> BenchmarkScene:
        """The same scene on a smaller detector of the same pixels."""
        return BenchmarkScene(**{**self.__dict__, "pixels": pixels})


SCENES = {
    "a": BenchmarkScene("a", 1024, (100.0, 100.0, 100.0, 90.0, 90.0, 90.0), 5.0),
    "b": BenchmarkScene("b", 1024, (70.0, 80.0, 90.0, 85.0, 95.0, 105.0), 20.0, oversample=2),
    "c": BenchmarkScene("c", 512, (79.0, 79.0, 38.0, 90.0, 90.0, 90.0), 20.0, domains=25, spindle_steps=10),
    "d": BenchmarkScene("d", 512, (79.0, 79.0, 38.0, 90.0, 90.0, 90.0), 20.0, domains=10, wavelengths=20),
}


def renderer(scene: BenchmarkScene, shape: Shape, settings: RenderSettings) -> Renderer:
    """The scene through the public interface; all parameters are leaves that take gradients."""
    half = scene.pixels * PIXEL / 2
    panel = PanelConfig((0.0, 0.0, 1.0), (0.0, -1.0, 0.0), (DISTANCE, half, -half), (PIXEL, PIXEL), (scene.pixels,) * 2)
    n_cells: Vec3 = (scene.n_cells,) * 3
    crystal = CrystalConfig(
        scene.cell,
        misset=(10.0, 20.0, 30.0),
        n_cells=n_cells,
        shape=shape,
        mosaic=MosaicConfig(SPREAD if scene.domains > 1 else 0.0, scene.domains),
    )
    step = DISPERSION / 100 / max(scene.wavelengths - 1, 1)
    offsets = ((i * step - DISPERSION / 200, 1.0) for i in range(scene.wavelengths))
    beam = BeamConfig(1.0, spectrum=tuple(offsets) if scene.wavelengths > 1 else ((0.0, 1.0),))
    exposure = Exposure(0.1, OSCILLATION if scene.spindle_steps > 1 else 0.0, scene.spindle_steps)
    amplitudes = StructureFactors(default_F=AMPLITUDE, dtype=torch.float64)
    experiment = Experiment.from_config(crystal, beam, DetectorConfig((panel,)), amplitudes, exposure)
    return Renderer(experiment, settings=settings)


def command(scene: BenchmarkScene, shape: Shape, program: str) -> list[str]:
    """The scene for a nanoBragg; the arguments are nanoBragg's own, so that any build of it can be measured."""
    flags = f"-lambda 1 -default_F {AMPLITUDE} -distance {DISTANCE} -pixel {PIXEL} -detpixels {scene.pixels}"
    flags += f" -N {scene.n_cells} -misset 10 20 30 -oversample {scene.oversample} -nonoise -nopgm -nointerpolate"
    flags += f" -cell {' '.join(str(value) for value in scene.cell)}"
    if scene.domains > 1:
        flags += f" -mosaic_spread {SPREAD} -mosaic_domains {scene.domains}"
    if scene.spindle_steps > 1:
        flags += f" -phi 0.1 -osc {OSCILLATION} -phisteps {scene.spindle_steps}"
    if scene.wavelengths > 1:
        flags += f" -dispersion {DISPERSION} -dispsteps {scene.wavelengths}"
    if shape != "square":
        flags += " -gauss_xtal" if shape == "gauss" else f" -{shape}_xtal"
    return [program, *flags.split()]
