"""Scenes that every backend of the two operators is run over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nbtorch.config import LatticeSettings
from nbtorch.functional.cell import exact_vectors
from nbtorch.functional.lattice import shape_metric
from nbtorch.functional.rotation import rotation_matrix, unit
from nbtorch.functional.structure_factor import StructureFactorTable
from nbtorch.kernels import RayTangents
from nbtorch.kernels.reference import BeamFrame, PanelFrames, RaySettings, SampleGrid, Samples

ARGUMENTS = ("diffracted", "incident", "wavelength", "basis", "n_cells", "metric", "table", "weight")
TRICLINIC = (70.0, 80.0, 90.0, 85.0, 95.0, 105.0)
CUBIC = (100.0, 100.0, 100.0, 90.0, 90.0, 90.0)


@dataclass(frozen=True)
class LatticeScene:
    """Arguments of ``lattice_sum``; ``tensors`` in the order of ARGUMENTS, the table's values or None among them."""

    tensors: tuple[Tensor | None, ...]
    settings: LatticeSettings
    first: tuple[int, int, int] = (0, 0, 0)

    @property
    def present(self) -> list[Tensor]:
        """The tensors that are there."""
        return [tensor for tensor in self.tensors if tensor is not None]

    @property
    def names(self) -> list[str]:
        """Their names."""
        return [name for name, tensor in zip(ARGUMENTS, self.tensors, strict=True) if tensor is not None]

    def arguments(self, tensors: list[Tensor] | tuple[Tensor, ...] | None = None) -> tuple[Any, ...]:
        """Positional arguments of ``lattice_sum`` with ``tensors`` in place of ``present``."""
        by_name = dict(zip(self.names, self.present if tensors is None else tensors, strict=True))
        if "table" in by_name:
            by_name["table"] = StructureFactorTable(by_name["table"], self.first)
        return (*(by_name.get(name) for name in ARGUMENTS), self.settings)

    def function(self, operator: Callable[..., Tensor], **changes: Any) -> Callable[..., Tensor]:
        """``operator`` of the present tensors alone, under settings with ``changes``."""
        scene = replace(self, settings=replace(self.settings, **changes))
        return lambda *tensors: operator(*scene.arguments(tensors))

    def leaves(self) -> list[Tensor]:
        """Copies of ``present`` that take gradients."""
        return [tensor.clone().requires_grad_() for tensor in self.present]


def generator(seed: int) -> torch.Generator:
    """A seeded generator on the CPU."""
    return torch.Generator().manual_seed(seed)


def normal(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def uniform(seed: int, *shape: int) -> Tensor:
    """Numbers in [0, 1) in float64."""
    return torch.rand(shape, generator=generator(seed), dtype=torch.float64)


def lattice_scene(
    shape: str = "square",
    table: str | None = None,
    n_cells: tuple[float, float, float] = (5.0, 6.5, 1.0),
    cell: tuple[float, ...] = TRICLINIC,
    sizes: tuple[int, int, int] = (50, 3, 7),
    **settings: Any,
) -> LatticeScene:
    """``sizes`` = (samples, sources, orientations); ``table`` is the interpolation, None for the default amplitude."""
    n_samples, n_sources, n_orientations = sizes
    forward = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    diffracted = unit(2 * forward + normal(1, n_samples, 3))
    incident = unit(forward + 1e-3 * normal(2, n_sources, 3))
    lengths, angles = torch.tensor(cell, dtype=torch.float64).split(3)
    upright, _ = exact_vectors(torch.cat([lengths, torch.deg2rad(angles)]))
    basis = upright @ rotation_matrix(0.3 + 0.01 * normal(3, n_orientations, 3)).transpose(-1, -2)
    n = torch.tensor(n_cells, dtype=torch.float64)
    metric = shape_metric(shape, n, torch.linalg.inv(upright).transpose(-1, -2), 0.9)
    values = None if table is None else 10 + 90 * uniform(4, 60, 61, 62)
    chosen = {"default_F": 11.0, "culling": 0.0, "dmin": 1.2, **settings}
    return LatticeScene(
        (
            diffracted,
            incident,
            1 + 0.01 * uniform(5, n_sources),
            basis,
            n,
            metric,
            values,
            0.5 + uniform(6, n_orientations),
        ),
        LatticeSettings(shape=shape, interpolation=table or "nearest", **chosen),  # type: ignore[arg-type]
        (-30, -29, -31),
    )


LATTICE_SCENES: dict[str, Callable[[], LatticeScene]] = {
    "square": lambda: lattice_scene("square"),
    "square-cubic-N20": lambda: lattice_scene("square", n_cells=(20.0, 20.0, 20.0), cell=CUBIC),
    "square-N500": lambda: lattice_scene("square", n_cells=(500.0, 400.0, 300.0)),
    "square-all-axes-left-out": lambda: lattice_scene("square", n_cells=(1.0, 0.5, 1.0)),
    "square-nearest": lambda: lattice_scene("square", "nearest"),
    "square-tricubic": lambda: lattice_scene("square", "tricubic", (2.0, 3.0, 2.0)),
    "square-nothing-within-dmin": lambda: lattice_scene("square", dmin=100.0),
    "round": lambda: lattice_scene("round"),
    "round-nearest": lambda: lattice_scene("round", "nearest"),
    "round-tricubic": lambda: lattice_scene("round", "tricubic", (1.0, 1.0, 1.0)),
    "gauss": lambda: lattice_scene("gauss"),
    "gauss-nearest": lambda: lattice_scene("gauss", "nearest"),
    "gauss-tricubic": lambda: lattice_scene("gauss", "tricubic"),
    "tophat": lambda: lattice_scene("tophat", n_cells=(1.0, 2.0, 1.5)),
    "tophat-nearest": lambda: lattice_scene("tophat", "nearest", (1.0, 1.0, 1.0)),
    "gauss_hkl": lambda: lattice_scene("gauss_hkl"),
    "gauss_hkl-nearest": lambda: lattice_scene("gauss_hkl", "nearest", (1.5, 2.0, 1.0)),
    "gauss_hkl-tricubic": lambda: lattice_scene("gauss_hkl", "tricubic", (1.5, 2.0, 1.0)),
    "one-orientation": lambda: lattice_scene(sizes=(200, 1, 1)),
    "many-orientations": lambda: lattice_scene(sizes=(3, 1, 300)),
    "one-sample": lambda: lattice_scene(sizes=(1, 1, 1)),
}


@dataclass(frozen=True)
class RayScene:
    """Arguments of ``pixel_rays``."""

    panels: PanelFrames
    beam: BeamFrame
    samples: Samples | SampleGrid
    settings: RaySettings

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Every differentiable argument."""
        samples = self.samples
        places = (samples.layer_step,) if isinstance(samples, SampleGrid) else samples[1:]
        return (*self.panels, *self.beam, *places)

    @property
    def names(self) -> tuple[str, ...]:
        """What they are called."""
        names = RayTangents._fields
        return (*names[:7], names[11]) if isinstance(self.samples, SampleGrid) else names[:11]

    def function(self, operator: Callable[..., tuple[Tensor, Tensor]], **extra: Any) -> Callable[..., Any]:
        """``operator`` of those tensors alone."""

        def rays(*tensors: Tensor) -> tuple[Tensor, Tensor]:
            samples: Samples | SampleGrid
            if isinstance(self.samples, SampleGrid):
                samples = self.samples._replace(layer_step=tensors[7])
            else:
                samples = Samples(self.samples.panel, *tensors[7:])
            return operator(PanelFrames(*tensors[:3]), BeamFrame(*tensors[3:7]), samples, self.settings, **extra)

        return rays


def ray_scene(n_samples: int = 150, n_sources: int = 2, sensor: bool = True, **settings: bool) -> RayScene:
    """Three tilted panels, of which the second has no sensor; the first tile of samples lies on one panel."""
    axes = torch.tensor([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    tilted = axes @ rotation_matrix(0.2 * normal(1, 3, 3)).transpose(-1, -2)
    origin = torch.tensor([100.0, 20.0, -20.0], dtype=torch.float64) + 3 * normal(2, 3, 3)
    absorption = torch.tensor([3.0, 0.0, 5.0], dtype=torch.float64) * sensor
    panel = torch.randint(0, 3, (n_samples,), generator=generator(3))
    panel[:70] = 0
    forward = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    polarization_axis = torch.tensor([0.1, 0.2, 1.0], dtype=torch.float64)
    kahn_factor = torch.tensor(0.7, dtype=torch.float64)
    return RayScene(
        PanelFrames(torch.cat([tilted, origin[:, None]], 1), 0.1 + 0.01 * uniform(4, 3, 2), absorption),
        BeamFrame(unit(forward + 0.01 * normal(5, n_sources, 3)), forward, polarization_axis, kahn_factor),
        Samples(
            panel,
            400 * uniform(6, n_samples),
            400 * uniform(7, n_samples),
            0.3 * uniform(8, n_samples),
            0.1 + 0.1 * uniform(9, n_samples),
        ),
        RaySettings(**settings),
    )


def grid_scene(n_pixels: int = 30, layers: int = 3, oversample: int = 2, n_sources: int = 2) -> RayScene:
    """The same panels and beam, with a grid of samples in each pixel."""
    listed = ray_scene(n_pixels, n_sources)
    slow, fast = (torch.randint(0, 400, (n_pixels,), generator=generator(seed)) for seed in (6, 7))
    grid = SampleGrid(listed.samples.panel, slow, fast, 0.1 + 0.1 * uniform(8, 3), layers, oversample)
    return RayScene(listed.panels, listed.beam, grid, listed.settings)


RAY_SCENES: dict[str, Callable[[], RayScene]] = {
    "sensor": ray_scene,
    "no-sensor": lambda: ray_scene(sensor=False),
    "point-pixel": lambda: ray_scene(point_pixel=True),
    "unpolarized": lambda: ray_scene(polarized=False),
    "one-sample": lambda: ray_scene(1, 1),
    "many-sources": lambda: ray_scene(5, 12),
    "grid": grid_scene,
    "grid-of-one": lambda: grid_scene(130, 1, 1),
    "grid-of-seven": lambda: grid_scene(9, 2, 7, 1),
}


def worst(found: Tensor, expected: Tensor) -> float:
    """The largest difference in units of the largest expected value; of ``found`` itself where that is zero."""
    if expected.numel() == 0:
        return 0.0
    return float((found.detach() - expected.detach()).abs().max() / expected.detach().abs().max().clamp_min(1e-300))
