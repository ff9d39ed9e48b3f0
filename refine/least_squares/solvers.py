"""The solvers by name, behind one small interface: step, restart, state, restore."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from refine.least_squares.first_order import GradientDescent
from refine.least_squares.levenberg_marquardt import LevenbergMarquardt, Step
from refine.least_squares.objective import Objective
from refine.parameters.parameter_set import ParameterSet
from refine.settings.fit_settings import SolverSettings


class Solver(Protocol):
    """One iteration at a time. ``state`` is plain numbers and tensors."""

    def step(self, objective: Objective, parameters: ParameterSet) -> Step: ...

    def restart(self) -> None: ...

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


def _adam(settings: SolverSettings) -> Solver:
    return GradientDescent(lambda values: torch.optim.Adam(values, lr=settings.learning_rate))


def _lbfgs(settings: SolverSettings) -> Solver:
    return GradientDescent(lambda values: torch.optim.LBFGS(values, lr=1.0, line_search_fn="strong_wolfe", max_iter=4))


SOLVERS: dict[str, Callable[[SolverSettings], Solver]] = {
    "lm": lambda settings: LevenbergMarquardt(),
    "adam": _adam,
    "lbfgs": _lbfgs,
}

__all__ = ["SOLVERS", "Solver", "Step"]
