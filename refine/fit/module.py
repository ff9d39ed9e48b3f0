"""The Lightning module: the physical parameters, and one iteration of the solver a training step."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from refine.fit.problem import Problem
from refine.fit.stages import Stage, build, first_stage, next_stage
from refine.least_squares.solvers import SOLVERS, Step
from refine.parameters.parameter_set import ParameterSet
from refine.pixels.fit_quality import misfit
from refine.pixels.objective import PixelObjective
from refine.processes import agreed, is_first, total_number
from refine.records.outcome import Iteration

_LOOSE_TOLERANCE = 3e-3  # of a stage that another follows
_ROBUST_TOLERANCE = 1e-4  # of a loss that is no likelihood
_WORTH = 0.9  # of the positions' rms: what pixels of other shapes must reach to be believed before the centroids
_LOOK_AFTER, _PLAINLY = 4, 3.0  # iterations, and mean z² under the spots, after which their shapes are taken as wrong


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
        self.by_positions = False  # whether the geometry is that of the positions stage
        self.cpu_s, self.wall_s = problem.cpu_s, problem.wall_s
        self._objective: PixelObjective | None = None
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

    def objective(self) -> PixelObjective:
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
        least = _LOOSE_TOLERANCE if self.stage.loose else 0.0 if self.stage.errors is None else _ROBUST_TOLERANCE
        tolerance = max(settings.tolerance, least)
        small = step.loss_before - step.loss_after <= tolerance * abs(step.loss_before)
        wrong = self._shapes_are_wrong()  # every process looks
        if agreed(not step.accepted or step.move < settings.step_tolerance or small or wrong):
            self._advance()
        with torch.no_grad():
            self.values.values.copy_(agreed(self.values.values.detach()))
        self.wall_s += time.perf_counter() - started[0]
        self.cpu_s += time.process_time() - started[1]

    def _record(self, step: Step) -> None:
        fast, slow = self.positions.rms(self.values)
        number = len(self.history)
        self.history.append(Iteration(number, self.stage.name, step.loss_after, fast, slow, step.damping, step.move))
        self.log("loss", step.loss_after)
        self.log("rms_px", (fast**2 + slow**2) ** 0.5, prog_bar=True)
        self.log("damping", step.damping)

    def _shapes_are_wrong(self) -> bool:
        """Whether counts alone need not be fitted to the end, because the spots plainly are not what is rendered."""
        here = sum(row.stage == self.stage.name for row in self.history)
        kind = self.problem.settings.loss.kind
        if self.stage.name != "spots" or here != _LOOK_AFTER or kind not in ("auto", "robust"):
            return False
        return misfit(self.objective(), self.values)[0] > _PLAINLY

    def _advance(self) -> None:
        """Go on to the next stage, or end."""
        following = agreed(next_stage(self.problem, self.stage, self.objective(), self.values))
        if following is not None:
            self.begin(following)
            return
        self.converged = True
        self.message = f"converged in stage {self.stage.name} after {len(self.history)} iterations"
        if self.stage.model_error > 0 and self.problem.moved_by_positions:
            self._keep_the_better_geometry()

    def _keep_the_better_geometry(self) -> None:
        """Where spot shapes limit the fit, the positions stage's geometry stays if it predicts the spots better."""
        problem, values = self.problem, self.values.values
        pixels, now = sum(px**2 for px in self._rms_fitted()) ** 0.5, values.detach().clone()
        moved = list(problem.moved_by_positions)
        with torch.no_grad():
            values[moved] = problem.by_positions[moved]
        positions = sum(px**2 for px in self._rms_fitted()) ** 0.5
        if pixels < _WORTH * positions:
            with torch.no_grad():
                values.copy_(now)
            return
        self.by_positions = True
        self.message += "; geometry from the spots' positions"
        said = (
            f"the geometry is that of the spots' positions, which predicts them to {positions:.2f} px; the pixels, "
            f"whose shapes the model does not explain, to {pixels:.2f} px"
        )
        problem.journal.say("geometry_of_positions", said, "choice", positions_px=positions, pixels_px=pixels)

    def _rms_fitted(self) -> tuple[float, float]:
        """rms (fast, slow) over the spots that the fit may see."""
        return self.problem.positions(fitted=True).rms(self.values)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Plain numbers and tensors only: loadable with weights_only=True."""
        checkpoint["nbtorch"] = {
            "stages": [(asdict(stage), values) for stage, values in self.stages],
            "history": [asdict(row) for row in self.history],
            "solver": self.solver.state(),
            "converged": self.converged,
            "message": self.message,
            "by_positions": self.by_positions,
            "journal": self.problem.journal.state(),
            "times": (total_number(self.cpu_s), self.wall_s),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on where the checkpoint stood."""
        state = checkpoint["nbtorch"]
        self.stages = [(Stage(**stage), values) for stage, values in state["stages"]]
        self.history = [Iteration(**row) for row in state["history"]]
        self.solver.restore(state["solver"])
        self.converged, self.message = state["converged"], state["message"]
        self.by_positions = state["by_positions"]
        self.problem.journal.restore(state["journal"])
        cpu, self.wall_s = state["times"]
        self.cpu_s = cpu if is_first() else 0.0
        self._objective = None
