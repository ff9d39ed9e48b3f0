"""A fit made ready: data, models, parameters, and what was found out on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from nbtorch.config import DetectorConfig
from nbtorch.errors import NbtorchError
from refine.frames.frame_stack import FrameStack
from refine.indexing.assignment import Evidence
from refine.parameters.parameter_set import ParameterSet
from refine.positions.objective import PositionObjective
from refine.positions.position_block import PositionBlock, Positions
from refine.processes import gathered
from refine.records.journal import Journal
from refine.records.outcome import FrameRow, Iteration
from refine.scene.scene import FitExperiment, Scene
from refine.settings.fit_settings import FitSettings
from refine.spots.observations import Observations
from refine.spots.widths import Widths
from refine.verdict.evidence import Rival


@dataclass(frozen=True, eq=False)
class Problem:
    """Everything that the iterations need.

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
    by_positions: Tensor  # [T] the values that the positions stage ended with
    moved_by_positions: tuple[int, ...]  # which of them it moved
    failed: tuple[FrameRow, ...]
    journal: Journal = field(default_factory=Journal)
    rivals: tuple[Rival, ...] = ()  # other indexings that were weighed
    amplitudes_given: bool = False
    left_out: dict[int, str] = field(
        default_factory=dict
    )  # experiments without pixels to fit, though with spots; and why
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

    def leave_out(self, failures: Mapping[int, NbtorchError]) -> None:
        """Go on without the pixels of those experiments that ``failures`` of all processes tell of.

        Raises the first of them where no experiment would be left.
        """
        for number, failure in failures.items():
            if number not in self.left_out:
                said = f"crystal {number} takes no part in the fit of pixels: {failure}"
                self.journal.say("crystal_without_pixels", said, "warning", crystal=number)
        if failures.keys() >= {item.expt.index for item in self.evidence}:
            raise next(iter(failures.values()))
        self.left_out.clear()
        self.left_out.update({number: str(failure) for number, failure in failures.items()})

    def lost_frames(self) -> dict[int, tuple[str, ...]]:
        """What is wrong with frames that could not be read, of the experiments of all processes."""
        return gathered({number: stack.lost for number, stack in self.stacks.items()})

    def positions(self, *, fitted: bool = False) -> PositionObjective:
        """Predictions of all observed spots, or of those alone that the fit may see."""
        kind = self.settings.detector.parallax
        chosen = [(e.expt, e.observed.fitted() if fitted else e.observed) for e in self.held]
        return PositionObjective([position_block(expt, observed, kind) for expt, observed in chosen])


def position_block(expt: FitExperiment, observed: Observations, parallax: str) -> PositionBlock:
    """The positions of ``observed`` as a block of the coarse stage."""
    scan = None if expt.still else expt.entry.scan
    return PositionBlock(expt.index, Positions(expt.model, observed, scan, expt.exposures(1)[0], parallax))


def model_tensors(scene: Scene) -> list[dict[str, Tensor]]:
    """The start of every tensor that a parameter may move, by experiment number; nothing for a number without one."""
    tensors: list[dict[str, Tensor]] = [{} for _ in range(max(expt.index for expt in scene.experiments) + 1)]
    for expt in scene.experiments:
        tensors[expt.index] = {name: p.detach() for name, p in expt.model.named_parameters()}
        tensors[expt.index]["scale"] = torch.ones(1, dtype=torch.float64)
    return tensors
