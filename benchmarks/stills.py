"""Stills simulated whole by the project's own renderer, with Poisson noise: frames, start.expt, F.hkl, truth.json."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nbtorch.config import DetectorConfig, RenderSettings
from nbtorch.io import read_expt, write_cbf
from nbtorch.io.expt import ExperimentEntry
from nbtorch.models import Beam, Crystal, Detector, Experiment, StructureFactors
from nbtorch.models.detector import root_group
from nbtorch.render import Renderer
from nbtorch.units import CLASSICAL_ELECTRON_RADIUS_SQUARED
from refine.scene.rigid_groups import chosen_groups

AXES, TURNS, CELL = ("fast", "slow", "normal"), ("rot_x", "rot_y", "rot_z"), ("a", "b", "c", "alpha", "beta", "gamma")


@dataclass(frozen=True)
class Stills:
    """``count`` triclinic crystals in random orientations before ``columns`` × ``rows`` modules; mm, Å, degrees.

    The truth is off start.expt by ``shift`` and ``tilt`` of the whole detector and, normally distributed, of every
    module within it, by ``misset`` of every crystal, and by ``length`` (relative) and ``angle`` of its cell.
    """

    count: int
    module: tuple[int, int]
    columns: int
    rows: int
    pixel: float
    distance: float
    cell: tuple[float, ...]
    n_cells: tuple[float, float, float]
    resolution: float
    background: float = 1.0
    brightest: float = 20000.0
    oversample: int = 2
    gap: float = 1.0
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    tilt: tuple[float, float, float] = (0.0, 0.0, 0.0)
    module_shift: float = 0.0
    module_tilt: float = 0.0
    misset: float = 0.0
    length: float = 0.0
    angle: float = 0.0
    seed: int = 5

    def panels(self) -> list[dict[str, Any]]:
        """The modules as dxtbx writes them."""
        size = np.array(self.module) * self.pixel + self.gap
        left, top = np.array([-self.columns, self.rows]) * size / 2
        found = []
        for number in range(self.columns * self.rows):
            column, row = number % self.columns, number // self.columns
            found.append(
                {"name": f"module{number}", "type": "SENSOR_PAD", "fast_axis": [1.0, 0.0, 0.0]}
                | {"slow_axis": [0.0, -1.0, 0.0], "pixel_size": [self.pixel] * 2, "image_size": list(self.module)}
                | {"origin": [left + column * size[0], top - row * size[1], -self.distance]}
                | {"raw_image_offset": [column * self.module[0], row * self.module[1]], "trusted_range": [-1.0, 1e6]}
                | {"thickness": 0.0, "material": "", "mu": 0.0, "identifier": "", "mask": [], "gain": 1.0}
                | {"pedestal": 0.0, "px_mm_strategy": {"type": "SimplePxMmStrategy"}}
            )
        return found

    def document(self, rng: np.random.Generator) -> dict[str, Any]:
        """start.expt."""
        panels, numbers = self.panels(), range(self.count)
        children: list[dict[str, Any]] = [{"panel": 0}]
        if len(panels) > 1:
            children = [{"name": panel["name"], "children": [{"panel": n}]} for n, panel in enumerate(panels)]
        beam = {"direction": [0.0, 0.0, 1.0], "wavelength": 1.0}
        beam |= {"polarization_normal": [0.0, 1.0, 0.0], "polarization_fraction": 0.99}
        shared = {"__id__": "Experiment", "identifier": "", "beam": 0, "detector": 0}
        return {
            "__id__": "ExperimentList",
            "goniometer": [],
            "scan": [],
            "beam": [beam],
            "detector": [{"panels": panels, "hierarchy": {"name": "detector", "children": children}}],
            "crystal": [self.crystal(rng) for _ in numbers],
            "imageset": [{"__id__": "ImageSet", "images": [f"still_{number:03d}.cbf"]} for number in numbers],
            "experiment": [shared | {"crystal": number, "imageset": number} for number in numbers],
        }

    def crystal(self, rng: np.random.Generator) -> dict[str, Any]:
        """A crystal in a random orientation."""
        a, b, c = self.cell[:3]
        alpha, beta, gamma = np.cos(np.radians(self.cell[3:]))
        sine = np.sqrt(1 - gamma**2)
        x, y = beta, (alpha - beta * gamma) / sine
        rows = np.array([[a, 0, 0], [b * gamma, b * sine, 0], [c * x, c * y, c * np.sqrt(1 - x**2 - y**2)]])
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        rows = rows @ (turn * np.sign(np.linalg.det(turn))).T
        vectors = {f"real_space_{name}": row.tolist() for name, row in zip("abc", rows, strict=True)}
        return {"__id__": "crystal", **vectors, "space_group_hall_symbol": " P 1"}

    def write(self, folder: Path) -> list[Experiment]:
        """Write everything into ``folder``; the experiments as they really stand."""
        rng = np.random.default_rng(self.seed)
        (folder / "start.expt").write_text(json.dumps(self.document(rng)))
        entries = read_expt(folder / "start.expt").entries
        factors = self.amplitudes(folder, entries[0], rng)
        detector = self.detector(entries[0].detector, rng)
        truth, scale, experiments = values_of(detector), None, []
        for number, entry in enumerate(entries):
            crystal = self.moved(entry, rng)
            values = zip((*TURNS, *CELL), (*crystal.rotation.tolist(), *crystal.cell.tolist()), strict=True)
            truth |= {f"crystal[{number}].{name}": value for name, value in values}
            beam = Beam(replace(entry.beam, fluence=1 / CLASSICAL_ELECTRON_RADIUS_SQUARED))
            experiments.append(Experiment(crystal, beam, detector, factors))
            image = self.image(experiments[-1])
            scale = scale or self.brightest / image.max()
            counts = rng.poisson(scale * image + self.background)
            write_cbf(folder / f"still_{number:03d}.cbf", counts.astype(np.int32))
        (folder / "truth.json").write_text(json.dumps(truth))
        return experiments

    def amplitudes(self, folder: Path, entry: ExperimentEntry, rng: np.random.Generator) -> StructureFactors:
        """Amplitudes after Wilson, in F.hkl too."""
        assert entry.crystal is not None
        most = int(max(self.cell[:3]) / self.resolution) + 1
        grid = np.stack(np.meshgrid(*[np.arange(-most, most + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
        length = np.linalg.norm(grid @ Crystal(entry.crystal).vectors()[1].detach().numpy(), axis=1)
        hkl = grid[(length > 0) & (length < 1 / self.resolution)]
        values = np.sqrt(rng.exponential(1e4, len(hkl)))
        np.savetxt(folder / "F.hkl", np.column_stack([hkl, values]), fmt="%d %d %d %.4f")
        return StructureFactors(hkl, values)

    def moved(self, entry: ExperimentEntry, rng: np.random.Generator) -> Crystal:
        """The crystal of ``entry`` as it really stands."""
        assert entry.crystal is not None
        model = Crystal(replace(entry.crystal, n_cells=self.n_cells, shape="gauss_hkl"))
        with torch.no_grad():
            model.rotation.copy_(torch.as_tensor(rng.normal(0, self.misset, 3)))
            model.cell[:3] *= torch.as_tensor(1 + rng.normal(0, self.length, 3))
            model.cell[3:] += torch.as_tensor(rng.normal(0, self.angle, 3))
        return model

    def detector(self, config: DetectorConfig, rng: np.random.Generator) -> Detector:
        """The detector as it really stands: moved as a whole, and every module within it."""
        levels = (0, 1) if len(config.panels) > 1 else (0,)
        detector = Detector(config, chosen_groups(root_group(config), len(config.panels), levels))
        modules = len(detector.groups) - 1
        shifts, tilts = (rng.normal(0, s, (modules, 3)) for s in (self.module_shift, self.module_tilt))
        with torch.no_grad():
            detector.shift.copy_(torch.as_tensor(np.vstack([self.shift, shifts])))
            detector.rotation.copy_(torch.as_tensor(np.vstack([self.tilt, tilts])))
        return detector

    @torch.no_grad()
    def image(self, experiment: Experiment) -> np.ndarray:
        """One frame without noise, the modules side by side."""
        images = Renderer(experiment, settings=RenderSettings(oversample=self.oversample)).images()
        modules = [image.numpy() for image in images]
        return np.vstack([np.hstack(modules[r * self.columns : (r + 1) * self.columns]) for r in range(self.rows)])


def values_of(detector: Detector) -> dict[str, float]:
    """Where the rigid bodies of ``detector`` stand, by the names of the fit's parameters."""
    moved = {}
    for kind, tensor in (("shift", detector.shift), ("rot", detector.rotation)):
        for group, row in zip(detector.groups, tensor.tolist(), strict=True):
            moved |= {f"detector.{group.name}.{kind}_{axis}": x for axis, x in zip(AXES, row, strict=True)}
    return moved
