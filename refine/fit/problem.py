"""A fit made ready: data, models, parameters, and what was found out on the way."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from nbtorch.config import DetectorConfig
from refine.frames.frame_stack import FrameStack
from refine.indexing.assignment import Evidence
from refine.parameters.parameter_set import ParameterSet
from refine.positions.objective import PositionObjective
from refine.positions.position_block import block_of
from refine.processes import gathered
from refine.records.journal import Journal
from refine.records.outcome import FrameRow, Iteration
from refine.scene.scene import Scene
from refine.settings.fit_settings import FitSettings
from refine.spots.widths import Widths
from refine.verdict.evidence import Rival


@dataclass(frozen=True, eq=False)
class Problem:
    """Everything that the iterations need and none of them changes; where they stand is refine.fit.state's.

    Experiments go by their numbers in the experiment list. Of several processes each has the evidence of all, and the
    frames (``stacks``) and ``noise`` of its own.
    """

    settings: FitSettings
    scene: Scene
    evidence: tuple[Evidence, ...]
    stacks: dict[int, FrameStack]
    noise: dict[int, tuple[np.ndarray, np.ndarray]]  # gain, readout [N panels]
    counting: bool
    widths: Widths
    parameters: ParameterSet
    history: tuple[Iteration, ...]
    start_px: tuple[Tensor, ...]  # [n, 2] of each experiment: where its spots were predicted at the start
    rms_start: tuple[float, float]
    by_positions: Tensor | None  # [T] the values that a fit of positions ended with; None: there was none
    moved_by_positions: tuple[int, ...]  # which of them it was free to move
    failed: tuple[FrameRow, ...]
    journal: Journal = field(default_factory=Journal)  # what was said on the way, and where the loop goes on
    rivals: tuple[Rival, ...] = ()  # other indexings that were weighed
    amplitudes_given: bool = False
    positions_alone: bool = False  # there are no frames: the fit has ended with the positions
    positions_settled: bool = True  # of positions alone: whether their fit has converged
    cpu_s: float = 0.0
    wall_s: float = 0.0

    @property
    def detector(self) -> DetectorConfig:
        """The detector as configured for the fit."""
        return self.scene.detector.config

    @property
    def held(self) -> list[Evidence]:
        """The evidence of the experiments whose frames this process holds."""
        return [item for item in self.evidence if item.expt.index in self.stacks]

    def lost_frames(self) -> dict[int, tuple[str, ...]]:
        """What is wrong with frames that could not be read, of the experiments of all processes."""
        return gathered({number: stack.lost for number, stack in self.stacks.items()})

    def positions(self, *, fitted: bool = False) -> PositionObjective:
        """Predictions of all observed spots, or of those alone that the fit may see."""
        kind = self.settings.detector.parallax
        mine = self.evidence if self.positions_alone else self.held
        chosen = [(e.expt, e.observed.fitted() if fitted else e.observed) for e in mine]
        return PositionObjective([block_of(expt, observed, kind) for expt, observed in chosen])
