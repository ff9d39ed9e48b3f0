"""The Lightning module: the physical parameters, and one iteration of the solver a training step."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from refine.objective import Objective
from refine.outcome import Iteration
from refine.parameters import ParameterSet
from refine.problem import Problem
from refine.solvers import SOLVERS, Step
from refine.stages import Stage, build, first_stage, next_stage


class FitModule(pl.LightningModule):
    """Holds the parameters' values; every training step is one iteration over all shoeboxes.

    Optimization is manual: the default solver is Levenberg–Marquardt, which wants the Jacobian and not a gradient. A
    checkpoint holds the values each stage began with, from which its shoeboxes are made again.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.problem = problem
        self.parameters_ = problem.parameters
        self.converged = False
        self.message = "not started"
        self.history: list[Iteration] = list(problem.history)
        self.stages: list[tuple[Stage, Tensor]] = []
        self.solver = SOLVERS[problem.settings.solver.kind](problem.settings.solver)
        self.positions = problem.positions()
        self.cpu_s, self.wall_s = problem.cpu_s, problem.wall_s
        self._objective: Objective | None = None
        self._restored: dict[str, Any] | None = None

    @property
    def values(self) -> ParameterSet:
        """The parameters of the fit."""
        return self.parameters_

    @property
    def stage(self) -> Stage:
        """The stage that runs."""
        return self.stages[-1][0]

    def configure_optimizers(self) -> None:
        """None: the solver is the module's own."""

    def objective(self) -> Objective:
        """The objective of the current stage, made when it is first asked for."""
        if self._objective is None:
            if not self.stages:
                self.begin(first_stage(self.problem))
            else:
                self._rebuild()
        assert self._objective is not None
        return self._objective

    def begin(self, stage: Stage) -> None:
        """Start ``stage`` at the current values."""
        self.stages.append((stage, self.values.values.detach().clone()))
        self._objective = build(self.problem, stage, self.values)
        self.solver.restart()

    def _rebuild(self) -> None:
        """The objective of the last stage, from the values it began with; the current values stay."""
        now = self.values.values.detach().clone()
        stage, begun = self.stages[-1]
        with torch.no_grad():
            self.values.values.copy_(begun)
            self._objective = build(self.problem, stage, self.values)
            self.values.values.copy_(now)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """One iteration of the solver, and the next stage where this one has converged."""
        started = time.perf_counter(), time.process_time()
        step = self.solver.step(self.objective(), self.values)
        self._record(step)
        settings = self.problem.settings.solver
        small = step.loss_before - step.loss_after <= settings.tolerance * abs(step.loss_before)
        if not step.accepted or (step.move < settings.step_tolerance and small):
            self._advance(step)
        self.wall_s += time.perf_counter() - started[0]
        self.cpu_s += time.process_time() - started[1]

    def _record(self, step: Step) -> None:
        fast, slow = self.positions.rms(self.values)
        number = len(self.history)
        self.history.append(Iteration(number, self.stage.name, step.loss_after, fast, slow, step.damping, step.move))
        self.log("loss", step.loss_after)
        self.log("rms_px", (fast**2 + slow**2) ** 0.5, prog_bar=True)
        self.log("damping", step.damping)

    def _advance(self, step: Step) -> None:
        """Go on to the next stage, back from one that failed, or end."""
        following = next_stage(self.problem, self.stage, self.objective(), self.values)
        if following is not None:
            self.begin(following)
            return
        self.converged = True
        self.message = f"converged in stage {self.stage.name} after {len(self.history)} iterations"

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Plain numbers and tensors only: loadable with weights_only=True."""
        checkpoint["nbtorch"] = {
            "stages": [(asdict(stage), values) for stage, values in self.stages],
            "history": [asdict(row) for row in self.history],
            "solver": self.solver.state(),
            "converged": self.converged,
            "message": self.message,
            "choices": list(self.problem.choices),
            "times": (self.cpu_s, self.wall_s),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on where the checkpoint stood."""
        state = checkpoint["nbtorch"]
        self.stages = [(Stage(**stage), values) for stage, values in state["stages"]]
        self.history = [Iteration(**row) for row in state["history"]]
        self.solver.restore(state["solver"])
        self.converged, self.message = state["converged"], state["message"]
        self.problem.choices[:] = state["choices"]
        self.cpu_s, self.wall_s = state["times"]
        self._objective = None
