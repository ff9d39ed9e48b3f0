"""Adam and L-BFGS over the same projected loss, for comparison and for losses without a Jacobian."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from refine.least_squares.levenberg_marquardt import Step, joint_gradient
from refine.least_squares.objective import Linearization, Objective
from refine.parameters.parameter_set import ParameterSet

Maker = Callable[[list[Tensor]], torch.optim.Optimizer]


class GradientDescent:
    """A torch optimizer on the values in units of their sigmas at the start, which makes all of one size.

    The gradient is that of the projected loss, −2·JᵀW(y − µ), from the same linearization as the second-order solver's.
    """

    def __init__(self, make: Maker) -> None:
        self._make = make
        self._optimizer: torch.optim.Optimizer | None = None
        self._scaled: Tensor | None = None
        self._origin: Tensor | None = None
        self._size: Tensor | None = None

    def restart(self) -> None:
        """Forget the past: another objective begins."""
        self._optimizer = None

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        if self._optimizer is None:
            return {}
        return {
            "optimizer": self._optimizer.state_dict(),
            "scaled": self._scaled,
            "origin": self._origin,
            "size": self._size,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state``."""
        if not state:
            self._optimizer = None
            return
        self._origin, self._size = state["origin"], state["size"]
        self._scaled = state["scaled"].clone().requires_grad_(True)
        self._optimizer = self._make([self._scaled])
        self._optimizer.load_state_dict(state["optimizer"])

    def _begin(self, here: Linearization, objective: Objective, parameters: ParameterSet) -> None:
        curvature = joint_gradient(here.arrow, parameters, diagonal=True)
        self._size = torch.where(curvature > 0, curvature.clamp(min=1e-300).rsqrt(), 0)
        self._origin = parameters.values.detach().clone()
        self._scaled = torch.zeros_like(self._origin, requires_grad=True)
        self._optimizer = self._make([self._scaled])

    def step(self, objective: Objective, parameters: ParameterSet) -> Step:
        """One step of the optimizer."""
        first = objective.linearize(parameters)
        if self._optimizer is None:
            self._begin(first, objective, parameters)
        optimizer, scaled, origin, size = self._optimizer, self._scaled, self._origin, self._size
        assert optimizer is not None
        assert scaled is not None
        assert origin is not None
        assert size is not None
        before = scaled.detach().clone()

        def closure() -> float:
            with torch.no_grad():
                parameters.values.copy_(parameters.clamp(origin + scaled * size))
            here = objective.linearize(parameters)
            scaled.grad = -2 * joint_gradient(here.arrow, parameters) * size
            return here.loss

        optimizer.step(closure)
        with torch.no_grad():
            parameters.values.copy_(parameters.clamp(origin + scaled * size))
        loss = objective.loss(parameters)
        return Step(first.loss, loss, True, float((scaled.detach() - before).abs().max()), 0.0)
