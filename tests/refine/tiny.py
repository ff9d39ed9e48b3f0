"""A fit so small that it takes milliseconds: stills of one cell on square panels, simulated in their shoeboxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nbtorch.config import (
    BeamConfig,
    CrystalConfig,
    DetectorConfig,
    Exposure,
    GoniometerConfig,
    PanelConfig,
    PanelGroup,
    RenderSettings,
)
from nbtorch.models import Beam, Crystal, Detector, Experiment, StructureFactors
from nbtorch.render.excited import excited_reflections
from nbtorch.units import CLASSICAL_ELECTRON_RADIUS_SQUARED
from refine.frames.shoeboxes import BoxPlan, Shoeboxes, cut, plan_boxes
from refine.parameters.panel_columns import PanelColumns
from refine.parameters.parameter_set import Parameter, ParameterSet, switch
from refine.parameters.physical import (
    beam_parameters,
    cell_parameters,
    detector_parameters,
    orientation_parameters,
    scale_parameter,
    size_parameters,
)
from refine.pixels.block import Block
from refine.pixels.losses import Noise
from refine.pixels.objective import PixelObjective
from refine.pixels.spot_errors import SpotErrors
from refine.settings.fit_settings import DataSettings, FitSettings, ParameterSettings
from tests.refine.held import HeldPixels

SIZE, PIXEL, DISTANCE, WAVELENGTH = 96, 0.25, 40.0, 1.0
CELL = (23.0, 27.0, 31.0, 90.0, 90.0, 90.0)
N_CELLS = (10.0, 9.0, 8.0)
EXPOSURE = Exposure()
BACKGROUND = 2.0
AMPLITUDE = 5.3  # the brightest pixel of a crystal then holds 300 … 500 photons
TURNS = ((0.5, 0.3, 0.2), (-0.4, 0.9, 1.1), (1.3, -0.2, 0.7), (0.1, 1.2, -0.8))  # of the crystals, radians


def panel(left: float, top: float, name: str = "panel") -> PanelConfig:
    """A square panel whose first pixel lies ``left`` of the beam and ``top`` above it (mm)."""
    size, pixel = (SIZE, SIZE), (PIXEL, PIXEL)
    return PanelConfig((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (left, top, -DISTANCE), pixel, size, name=name)


def detector_config(panels: int = 1) -> DetectorConfig:
    """One centred panel, or two side by side under one root."""
    if panels == 1:
        half = SIZE * PIXEL / 2
        return DetectorConfig((panel(-half, half),))
    corners = [(-SIZE * PIXEL - 0.6, SIZE * PIXEL / 2), (0.6, SIZE * PIXEL / 2)]
    chosen = tuple(panel(x, y, f"panel{i}") for i, (x, y) in enumerate(corners))
    children = (PanelGroup("left", (0,)), PanelGroup("right", (1,)))
    return DetectorConfig(chosen, PanelGroup("detector", (), children))


def rotation(vector: Sequence[float]) -> np.ndarray:
    """exp of a rotation vector (radians)."""
    x, y, z = vector
    return torch.linalg.matrix_exp(torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)).numpy()


def crystal_config(number: int = 0, **changes: object) -> CrystalConfig:
    """Crystal ``number``, with any field of its configuration changed."""
    turn = rotation(TURNS[number % len(TURNS)]).tolist()
    given: dict[str, object] = {"cell": CELL, "orientation": tuple(map(tuple, turn)), "n_cells": N_CELLS}
    given |= {"shape": "gauss_hkl", "space_group": "P 2 2 2", "goniometer": GoniometerConfig((1.0, 0.0, 0.0))}
    return CrystalConfig(**(given | changes))  # type: ignore[arg-type]


def beam_config() -> BeamConfig:
    """Along −z, unpolarized, with r_e²·fluence = 1."""
    return BeamConfig(WAVELENGTH, (0.0, 0.0, -1.0), (1.0, 0.0, 0.0), 0.0, 1 / CLASSICAL_ELECTRON_RADIUS_SQUARED)


def amplitudes(flat: bool) -> StructureFactors:
    """Every F the same, or Wilson-distributed ones."""
    if flat:
        return StructureFactors(default_F=AMPLITUDE)
    grid = np.stack(np.meshgrid(*[np.arange(-12, 13)] * 3, indexing="ij"), -1).reshape(-1, 3)
    return StructureFactors(grid, AMPLITUDE * np.sqrt(np.random.default_rng(5).exponential(1.0, len(grid))))


def experiments(
    crystals: int = 1,
    panels: int = 1,
    *,
    flat: bool = True,
    groups: Sequence[PanelGroup] | None = None,
    **changes: object,
) -> list[Experiment]:
    """One experiment a crystal; detector, beam and amplitudes are shared."""
    detector = Detector(detector_config(panels), groups)
    beam, factors = Beam(beam_config()), amplitudes(flat)
    configs = [crystal_config(number, **changes) for number in range(crystals)]
    return [Experiment(Crystal(config), beam, detector, factors) for config in configs]


def parameter_rows(expts: Sequence[Experiment], settings: ParameterSettings | None = None) -> list[Parameter]:
    """The parameters of ``expts`` in the order of a fit."""
    flags = settings or ParameterSettings(detector_shift=True, detector_rotation=True)
    fit = FitSettings(data=DataSettings("none.expt"), parameters=flags)
    rows = detector_parameters(expts[0].detector, flags) + beam_parameters(expts[0].beam, flags)
    for index, expt in enumerate(expts):
        rows += orientation_parameters(index, flags.orientation)
        rows += cell_parameters(index, expt.crystal, fit)
        rows += size_parameters(index, expt.crystal, flags)
        rows.append(scale_parameter(index, free=False))
    return rows


def start_tensors(expts: Sequence[Experiment]) -> list[dict[str, Tensor]]:
    """The start of every tensor that a parameter may move, for each experiment."""
    one = torch.ones(1, dtype=torch.float64)
    return [{**{name: p.detach().clone() for name, p in expt.named_parameters()}, "scale": one} for expt in expts]


def parameter_set(
    expts: Sequence[Experiment], free: Sequence[str], settings: ParameterSettings | None = None, fix: Sequence[str] = ()
) -> ParameterSet:
    """The parameters of ``expts`` with those alone free that a pattern of ``free`` names."""
    rows = switch(switch(parameter_rows(expts, settings), ["*"], free), fix, [])
    return ParameterSet(rows, start_tensors(expts))


def displaced(parameters: ParameterSet, moved: Mapping[str, float]) -> Tensor:
    """The start values [T] with those of ``moved`` added."""
    values = parameters.start.clone()
    names = [parameter.name for parameter in parameters.parameters_]
    for name, by in moved.items():
        values[names.index(name)] += by
    return values


def plan(expt: Experiment, half: int = 3, *, brightest: int | None = None) -> BoxPlan:
    """Boxes around what ``expt`` excites, the best excited first."""
    seen = excited_reflections(expt, EXPOSURE, margin=0.35)
    order = np.argsort(np.abs(seen.miss), kind="stable")[:brightest]
    centre = np.stack([seen.fast, seen.slow, np.full(len(seen), 0.5)], axis=1)
    boxes, _ = plan_boxes(
        expt.detector.config, seen.hkl[order], seen.panel[order], centre[order], (half, 0), n_frames=1
    )
    return boxes


def empty_boxes(expt: Experiment, boxes: BoxPlan, gain: float = 1.0, readout: float = 0.0) -> Shoeboxes:
    """The pixels of ``boxes`` with no counts in them."""
    frame = [np.zeros((SIZE, SIZE)) for _ in expt.detector.config.panels]
    panels = np.ones(len(frame))
    pixels = HeldPixels([frame], [[image == 0 for image in frame]])
    return cut(boxes, pixels, (gain * panels, readout * panels))


@dataclass(frozen=True, eq=False)
class Tiny:
    """A fit: blocks without noise in their counts, its parameters at the start, and where the truth is."""

    blocks: tuple[Block, ...]
    means: tuple[Tensor, ...]  # [B, Q] expected photons of each block at the truth
    parameters: ParameterSet
    truth: Tensor  # [T]
    gain: float = 1.0
    readout: float = 0.0

    def counts(self, rng: np.random.Generator | None) -> list[Tensor]:
        """What the detector reads: a draw of ``rng``, or, without one, the expectation."""
        if rng is None:
            return [self.gain * mean for mean in self.means]
        drawn = [torch.as_tensor(rng.poisson(mean.numpy()).astype(float)) for mean in self.means]
        return [
            self.gain * photons + self.readout * torch.as_tensor(rng.standard_normal(photons.shape))
            for photons in drawn
        ]

    def objective(
        self,
        rng: np.random.Generator | None = None,
        *,
        free_scales: bool = True,
        counting: bool = True,
        model_error: float = 0.0,
        errors: SpotErrors | None = None,
    ) -> PixelObjective:
        """The objective of one draw."""
        blocks = [copy(block) for block in self.blocks]
        for block, counts in zip(blocks, self.counts(rng), strict=True):
            block.boxes = replace(block.boxes, counts=torch.where(block.boxes.valid, counts, 0))
        noise = [Noise(b.boxes.gain[:, None], b.boxes.readout[:, None], model_error, counting) for b in blocks]
        weights = [torch.ones(len(block.boxes), dtype=torch.float64) for block in blocks]
        return PixelObjective(blocks, noise, weights, free_scales=free_scales, errors=errors)

    def start(self, values: Tensor | None = None) -> ParameterSet:
        """The parameters at their start, or at ``values``."""
        with torch.no_grad():
            self.parameters.values.copy_(self.parameters.start if values is None else values)
        return self.parameters


def simulate(
    expts: Sequence[Experiment],
    parameters: ParameterSet,
    truth: Tensor,
    strength: float = 1.0,
    *,
    half: int = 3,
    brightest: int | None = None,
    background: str = "constant",
    gain: float = 1.0,
    readout: float = 0.0,
) -> Tiny:
    """The measurement of ``expts`` with the parameters at ``truth``, in boxes around the spots of the start.

    ``strength`` multiplies every spot: the amplitudes are then not what the detector saw.
    """
    blocks, means = [], []
    with torch.no_grad():
        parameters.values.copy_(truth)
        for index, expt in enumerate(expts):
            boxes = empty_boxes(expt, plan(expt, half, brightest=brightest), gain, readout)
            block = Block(index, expt, [EXPOSURE], boxes, RenderSettings(oversample=1), background)
            photons = block.model(parameters)
            means.append(torch.where(boxes.valid, strength * photons + BACKGROUND, 0))
            blocks.append(block)
        parameters.values.copy_(parameters.start)
    return Tiny(tuple(blocks), tuple(means), parameters, truth, gain, readout)


def freeze_jacobians(objective: PixelObjective, parameters: ParameterSet) -> PixelObjective:
    """``objective`` with the Jacobian of the current values at all others: within a few sigmas it hardly changes."""
    for block in objective.blocks:
        columns = block.panel_columns(parameters)[1]

        def frozen(
            at: ParameterSet, block: Block = block, columns: PanelColumns = columns
        ) -> tuple[Tensor, PanelColumns]:
            return block.model(at), columns

        block.panel_columns = frozen  # type: ignore[method-assign]
    return objective


def with_counts(
    objective: PixelObjective, counts: Sequence[Tensor], weights: Sequence[Tensor] | None = None
) -> PixelObjective:
    """``objective`` with other counts, and other weights of its boxes."""
    blocks = [copy(block) for block in objective.blocks]
    for block, values in zip(blocks, counts, strict=True):
        block.boxes = replace(block.boxes, counts=torch.where(block.boxes.valid, values, 0))
    chosen = weights or objective.box_weights
    return PixelObjective(blocks, objective.noise, chosen, free_scales=objective.free_scales, errors=objective.errors)
