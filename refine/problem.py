"""A fit made ready: data, models, parameters, and what was found out on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from nbtorch.config import DetectorConfig
from refine.coarse import PositionBlock, PositionObjective, Positions
from refine.evidence import Evidence
from refine.frames import FrameStack
from refine.observations import Observations
from refine.outcome import FrameRow, Iteration
from refine.parameters import ParameterSet
from refine.scene import Scene, Shot
from refine.settings import FitSettings
from refine.widths import Widths

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Problem:
    """Everything that the iterations need; ``start_px`` of each shot is where its spots were predicted at the start."""

    settings: FitSettings
    scene: Scene
    evidence: tuple[Evidence, ...]
    stacks: tuple[FrameStack, ...]
    noise: tuple[tuple[np.ndarray, np.ndarray], ...]  # gain, readout [N panels] of each shot
    counting: bool
    widths: Widths
    parameters: ParameterSet
    history: tuple[Iteration, ...]
    start_px: tuple[Tensor, ...]  # [n, 2]
    rms_start: tuple[float, float]
    by_positions: Tensor  # [T] the values that the positions stage ended with
    moved_by_positions: tuple[int, ...]  # which of them it moved
    failed: tuple[FrameRow, ...]
    choices: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    cpu_s: float = 0.0
    wall_s: float = 0.0

    @property
    def detector(self) -> DetectorConfig:
        """The detector as configured for the fit."""
        return self.scene.detector.config

    def positions(self, *, fitted: bool = False) -> PositionObjective:
        """Predictions of all observed spots, or of those alone that the fit may see."""
        kind = self.settings.detector.parallax
        chosen = [(e.shot, e.observed.fitted() if fitted else e.observed) for e in self.evidence]
        return PositionObjective([position_block(shot, observed, kind) for shot, observed in chosen])


def position_block(shot: Shot, observed: Observations, parallax: str) -> PositionBlock:
    """The positions of ``observed`` as a block of the coarse stage."""
    scan = None if shot.still else shot.entry.scan
    return PositionBlock(shot.index, Positions(shot.experiment, observed, scan, shot.exposures(1)[0], parallax))


def model_tensors(scene: Scene) -> list[dict[str, Tensor]]:
    """The start of every tensor that a parameter may move, for each shot."""
    return [
        {
            **{name: p.detach() for name, p in shot.experiment.named_parameters()},
            "scale": torch.ones(1, dtype=torch.float64),
        }
        for shot in scene.shots
    ]
