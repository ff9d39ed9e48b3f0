"""Levenberg–Marquardt on the projected normal equations.

Marquardt, J. Soc. Indust. Appl. Math. 11, 431 (1963), with the damping rule of Nielsen (IMM-REP-1999-05) and the
scaling of Moré (Lecture Notes in Mathematics 630, 105, 1978).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from refine.least_squares.normal import Arrow, add_diagonal, solve_arrow
from refine.least_squares.objective import Linearization, Objective
from refine.parameters.parameter_set import ParameterSet
from refine.processes import agreed

_TRIES = 10  # dampings tried before a step counts as stuck
_LEAST_DAMPING = 1e-9


@dataclass(frozen=True)
class Step:
    """What one iteration did. ``move`` is the largest change of a value in units of its (undamped) sigma."""

    loss_before: float
    loss_after: float
    accepted: bool
    move: float
    damping: float


class LevenbergMarquardt:
    """The damping between iterations, and one iteration at a time."""

    def __init__(self, damping: float = 1e-3) -> None:
        self.damping = self._first = damping
        self._steepest: Tensor | None = None  # [T] the largest diagonal seen: what damping is measured in

    def restart(self) -> None:
        """Forget the damping: another objective begins."""
        self.damping, self._steepest = self._first, None

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"damping": self.damping, "steepest": self._steepest}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state``."""
        self.damping, self._steepest = float(state["damping"]), state["steepest"]

    @torch.no_grad()
    def step(self, objective: Objective, parameters: ParameterSet) -> Step:
        """Move ``parameters`` to a lower loss, or leave them where they are."""
        here = objective.linearize(parameters)
        before = parameters.values.detach().clone()
        arrow = _hold_at_bounds(here.arrow, parameters)
        scale = self._scale(arrow, parameters)
        growth = 2.0
        for _ in range(_TRIES):
            change = agreed(_damped(arrow, self.damping * scale, parameters))
            trial = parameters.clamp(before + change)
            parameters.values.copy_(trial)
            loss = objective.loss(parameters, here)
            if loss <= here.loss and bool(torch.isfinite(trial).all()):
                move = agreed(_in_sigmas(arrow, trial - before, parameters))
                self._loosen(here, loss, change, arrow, parameters)
                return Step(here.loss, loss, True, move, self.damping)
            self.damping, growth = max(self.damping, _LEAST_DAMPING) * growth, growth * 2
        parameters.values.copy_(before)
        return Step(here.loss, here.loss, False, 0.0, self.damping)

    def _scale(self, arrow: Arrow, parameters: ParameterSet) -> Tensor:
        """The largest diagonal [T] so far. A mosaic spread near zero moves nothing: its own would not hold it."""
        now = joint_gradient(arrow, parameters, diagonal=True)
        self._steepest = now if self._steepest is None else torch.maximum(self._steepest, now)
        return self._steepest

    def _loosen(self, here: Linearization, loss: float, change: Tensor, arrow: Arrow, parameters: ParameterSet) -> None:
        """Nielsen's rule: the better the quadratic model predicted the gain, the less damping next time."""
        gradient = over_all(arrow, arrow.shared_gradient, arrow.local_gradient, parameters)
        promised = float((change * gradient).sum())  # at least half of the gain that the undamped model promises
        ratio = (here.loss - loss) / max(promised, 1e-300)
        self.damping = max(_LEAST_DAMPING, self.damping * max(1 / 10, 1 - (2 * min(ratio, 2.0) - 1) ** 3))


def over_all(arrow: Arrow, shared: Tensor, local: Sequence[Tensor], parameters: ParameterSet) -> Tensor:
    """Shared [S] and local [L_b] numbers in the order of all parameters [T]; 0 for those that are held."""
    full = torch.zeros_like(parameters.start)
    full[parameters.shared] = shared
    for block, values in zip(arrow.blocks, local, strict=True):
        full[parameters.local[block]] = values
    return full


def joint_gradient(arrow: Arrow, parameters: ParameterSet, *, diagonal: bool = False) -> Tensor:
    """JᵀW(y − µ) [T] over all parameters, or the ``diagonal`` of the normal matrix; 0 for those that are held."""
    if diagonal:
        return over_all(arrow, arrow.shared.diagonal(), [m.diagonal() for m in arrow.local], parameters)
    return over_all(arrow, arrow.shared_gradient, arrow.local_gradient, parameters)


def _damped(arrow: Arrow, damping: Tensor, parameters: ParameterSet) -> Tensor:
    """The step [T] of the normal equations with ``damping`` [T] added to their diagonal."""
    extra = [damping[parameters.local[block]] for block in arrow.blocks]
    shared, local = solve_arrow(add_diagonal(arrow, damping[parameters.shared], extra))
    return over_all(arrow, shared, local, parameters)


def _in_sigmas(arrow: Arrow, change: Tensor, parameters: ParameterSet) -> float:
    """√(Δᵀ·H·Δ): the size of a change in units of the joint sigma."""
    total = change[parameters.shared] @ arrow.shared @ change[parameters.shared]
    for block, mixed, local in zip(arrow.blocks, arrow.mixed, arrow.local, strict=True):
        own = change[parameters.local[block]]
        total = total + own @ local @ own + 2 * change[parameters.shared] @ mixed @ own
    return float(total.clamp(min=0).sqrt())


def _hold_at_bounds(arrow: Arrow, parameters: ParameterSet) -> Arrow:
    """``arrow`` without the parameters that sit on a bound and are pushed against it."""
    gradient = over_all(arrow, arrow.shared_gradient, arrow.local_gradient, parameters)
    values = parameters.values.detach()
    stuck = ((values <= parameters.column("lower")) & (gradient < 0)) | (
        (values >= parameters.column("upper")) & (gradient > 0)
    )
    if not bool(stuck.any()):
        return arrow
    free = (~stuck).to(values)
    shared, locals_ = free[parameters.shared], [free[parameters.local[block]] for block in arrow.blocks]

    def held(matrix: Tensor, keep: Tensor) -> Tensor:
        return matrix * keep[:, None] * keep[None, :] + torch.diag((1 - keep) * matrix.diagonal())

    return Arrow(
        held(arrow.shared, shared),
        arrow.shared_gradient * shared,
        tuple(m * shared[:, None] * keep[None, :] for m, keep in zip(arrow.mixed, locals_, strict=True)),
        tuple(held(m, keep) for m, keep in zip(arrow.local, locals_, strict=True)),
        tuple(g * keep for g, keep in zip(arrow.local_gradient, locals_, strict=True)),
        arrow.blocks,
    )
