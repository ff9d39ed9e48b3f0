"""What a state's data say about it, measured on copies of its values: a :class:`refine.fit.state.Quality`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from torch import Tensor

from refine.fit import of_all
from refine.fit.problem import Problem
from refine.fit.shoebox_choice import auto_oversample
from refine.fit.stage_objective import build
from refine.fit.state import Decision, State
from refine.indexing.assignment import Evidence
from refine.least_squares.levenberg_marquardt import LevenbergMarquardt
from refine.least_squares.objective import Joint, Objective
from refine.parameters.parameter_set import ParameterSet
from refine.pixels.nuisance import BoxFit
from refine.pixels.objective import PixelObjective
from refine.positions.objective import PositionObjective
from refine.processes import exchange

_EXPLAINED = 1.5  # mean z² under the spots up to which a sampling explains the pixels
_HOPELESS = 8.0  # and from which on no other sampling will
_ASKED = 40  # spots that are asked how they were sampled, of as few experiments as hold them
_SAMPLINGS = (1, 2, 3)
_STEPS, _GAIN = 6, 1e-3  # of a trial's solver: the most of them, and the relative gain below which it stops


class Measured:
    """Of ``state``, whose ``objective`` is that of this process's blocks. Several processes measure together."""

    def __init__(self, problem: Problem, state: State, objective: PixelObjective) -> None:
        self.problem = problem
        self.state = state
        self.objective = objective

    @cached_property
    def z2(self) -> float:
        """See :class:`refine.fit.state.Quality`."""
        return of_all.misfit(self.objective, self._fits)[0]

    @cached_property
    def scales(self) -> tuple[float, dict[int, float]]:
        """See :class:`refine.fit.state.Quality`."""
        return of_all.scale_scatter(self.objective.blocks, self._fits)

    @cached_property
    def losses_by_sampling(self) -> dict[int, float]:
        """See :class:`refine.fit.state.Quality`. The spots that are asked are of experiments that are not left out."""
        stage = self.state.stage
        losses = dict.fromkeys(_SAMPLINGS, float("inf"))
        current = stage.oversample or auto_oversample(self.problem)
        asked = enough(self.problem.evidence, self.state)
        for count in sorted(losses, key=lambda count: count != current):
            trial = Decision(replace(stage, oversample=count), self.state.values, self.state.free)
            built = build(self.problem, trial, asked, _ASKED)
            if all(exchange(built.empty)):
                break
            parameters = self.problem.parameters.twin(self.state.values, built.free)
            loss = short_fit(Joint(built.objective), parameters)
            left, _ = of_all.misfit(built.objective, built.objective.fits(parameters))
            losses[count] = loss if left < _EXPLAINED else float("inf")
            if left >= _HOPELESS:
                break
        return losses

    def rms(self, values: Tensor) -> float:
        """See :class:`refine.fit.state.Quality`."""
        fast, slow = of_all.rms(self._positions, self._at(values))
        return float((fast**2 + slow**2) ** 0.5)

    def spread(self, values: Tensor) -> tuple[float, float]:
        """See :class:`refine.fit.state.Quality`."""
        self._positions.estimate_spread(self._at(values))
        return of_all.spread(self._positions)

    def shape_error(self, decision: Decision) -> float:
        """See :class:`refine.fit.state.Quality`."""
        objective = build(self.problem, decision).objective
        return of_all.misfit(objective, objective.fits(self._at(decision.values)))[1]

    @cached_property
    def _fits(self) -> list[BoxFit]:
        """The nuisances of every block."""
        return self.objective.fits(self._at(self.state.values))

    @cached_property
    def _positions(self) -> PositionObjective:
        """The positions of the spots that the fit may see."""
        return self.problem.positions(fitted=True)

    def _at(self, values: Tensor) -> ParameterSet:
        """A copy of the parameters at ``values`` [T]."""
        return self.problem.parameters.twin(values, self.state.free)


def enough(evidence: Sequence[Evidence], state: State) -> Sequence[Evidence]:
    """The first experiments with pixels that together hold _ASKED spots: an experiment costs more than its spots."""
    there = [item for item in evidence if item.expt.index not in state.left_out]
    number = np.cumsum([len(item.observed.fitted()) for item in there])
    return there[: int(np.searchsorted(number, _ASKED)) + 1]


def short_fit(objective: Objective, parameters: ParameterSet) -> float:
    """Move ``parameters`` by a few steps of the solver, fewer where they gain little; the loss after them."""
    solver, step = LevenbergMarquardt(1e-4), None
    for _ in range(_STEPS):
        step = solver.step(objective, parameters)
        if step.loss_before - step.loss_after < _GAIN * step.loss_before:
            break
    assert step is not None
    return step.loss_after
