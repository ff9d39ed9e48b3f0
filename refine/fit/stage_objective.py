"""The objective of a stage: the shoeboxes of the experiments whose pixels there are, and their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nbtorch.errors import DataError
from refine.fit.problem import Problem
from refine.fit.shoebox_choice import (
    background_kind,
    bright_plan,
    half_widths,
    hold_dark_amplitudes,
    make_block,
    observed_plan,
    of_refined,
)
from refine.fit.state import Decision, Stage
from refine.indexing.assignment import Evidence
from refine.parameters.parameter_set import ParameterSet
from refine.pixels.block import Block
from refine.pixels.fit_quality import robust_weights, wary
from refine.pixels.losses import Noise
from refine.pixels.objective import PixelObjective
from refine.pixels.spot_errors import SpotErrors
from refine.processes import gathered


@dataclass(frozen=True, eq=False)
class Built:
    """The ``objective`` of this process's blocks, the parameters that its pixels let move, and the experiments of all
    processes that are left out because they have none, each with its error."""

    objective: PixelObjective
    free: tuple[int, ...]
    left_out: Mapping[int, DataError]

    @property
    def empty(self) -> bool:
        """Whether no pixel of this process is there to be fitted."""
        return not self.objective.blocks


def build(problem: Problem, decision: Decision, of: Sequence[Evidence] | None = None, most: int | None = None) -> Built:
    """The objective of a stage that begins as ``decision`` says: of the experiments whose frames this process holds.

    ``of``: of these alone; ``most``: of at most as many boxes an experiment, the brightest. An experiment whose frame
    vanished, or on which nothing is predicted, is left out, and its parameters do not move. No parameter of
    ``problem`` is moved or released.
    """
    stage = decision.stage
    assert stage is not None
    parameters = problem.parameters.twin(decision.values, decision.free)
    blocks: list[Block] = []
    failures: dict[int, DataError] = {}
    for evidence in problem.held if of is None else [item for item in of if item.expt.index in problem.stacks]:
        try:
            blocks.append(_block_of(problem, stage, evidence, parameters, most))
        except DataError as failure:
            failures[evidence.expt.index] = failure
    left_out = gathered(failures)
    rows = parameters.parameters_
    parameters.release({i for i in parameters.free if rows[i].block is None or rows[i].block not in left_out})
    if not stage.free_scales:
        hold_dark_amplitudes(blocks, parameters)
    return Built(_objective(problem, stage, blocks, parameters), tuple(parameters.free), left_out)


def _objective(problem: Problem, stage: Stage, blocks: Sequence[Block], parameters: ParameterSet) -> PixelObjective:
    """The blocks with their noise; of a robust stage with weights held from the values it begins with."""
    noise = [
        Noise(block.boxes.gain[:, None], block.boxes.readout[:, None], stage.model_error, problem.counting)
        for block in blocks
    ]
    weights = [torch.ones(len(block.boxes), dtype=torch.float64) for block in blocks]
    errors = None if stage.errors is None else SpotErrors(*stage.errors)
    objective = PixelObjective(blocks, noise, weights, free_scales=stage.free_scales, errors=errors)
    if stage.name != "robust":
        return objective
    fits = objective.fits(parameters)
    fits = [wary(block, fit, stage.model_error) for block, fit in zip(blocks, fits, strict=True)]
    weights = robust_weights(blocks, fits)
    return PixelObjective(blocks, noise, weights, free_scales=stage.free_scales, errors=errors, held=fits)


def _block_of(problem: Problem, stage: Stage, evidence: Evidence, parameters: ParameterSet, most: int | None) -> Block:
    """The block of one experiment. Raises DataError where it has no pixels."""
    plan = (bright_plan if stage.predicted else observed_plan)(problem, evidence, parameters)
    if stage.predicted:
        plan = of_refined(plan, parameters, problem.scene.structure_factors)
    problem.stacks[evidence.expt.index].fetch(plan)  # all of them: the stage itself follows where a few are asked
    background = background_kind(problem, evidence, half_widths(problem))
    return make_block(problem, evidence, plan[np.arange(len(plan))[:most]], background, stage.oversample)
