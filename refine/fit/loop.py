"""The loop of a fit of pixels: iterations of the solver, and what the rules decide when a stage has converged.

It runs without Lightning. From one stage to the next parameters move here alone, and several processes agree here.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import torch

from refine.fit import of_all
from refine.fit.problem import Problem
from refine.fit.quality import Measured
from refine.fit.stage_objective import Built, build
from refine.fit.stages import Rules
from refine.fit.state import Decision, Stage, State
from refine.least_squares.objective import Joint
from refine.least_squares.solvers import SOLVERS, Step
from refine.parameters.parameter_set import ParameterSet
from refine.pixels.objective import PixelObjective
from refine.processes import agreed, is_first, total_number
from refine.records.outcome import Iteration


class Loop:
    """Fits the parameters of ``problem``: :meth:`begin`, then :meth:`iterate` until it has ``converged``.

    ``journal`` holds what was decided and what a reader should know; ``by_positions`` says that the geometry is that of
    the fit of positions. :meth:`plain` is all that :meth:`restore` needs beside the parameters'
    values: numbers, words and tensors.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.values: ParameterSet = problem.parameters
        self.rules = Rules(problem)
        self.solver = SOLVERS[problem.settings.solver.kind](problem.settings.solver)
        self.positions = problem.positions()
        self.history: list[Iteration] = list(problem.history)
        self.journal = problem.journal
        self.converged, self.message = False, "not started"
        self.by_positions = False
        self.cpu_s, self.wall_s = problem.cpu_s, problem.wall_s
        self.stages: list[Decision] = []  # as they began
        self.left_out: dict[int, str] = {}
        self._objective: PixelObjective | None = None

    @property
    def stage(self) -> Stage:
        """The stage that runs, or the last one."""
        stage = self.stages[-1].stage
        assert stage is not None
        return stage

    @property
    def objective(self) -> PixelObjective:
        """The objective of the stage, over this process's blocks."""
        assert self._objective is not None
        return self._objective

    @property
    def state(self) -> State:
        """Where the fit stands, apart from what moves on."""
        here = sum(row.stage == self.stage.name for row in self.history)
        return State(self.stage, self.values.values.detach().clone(), tuple(self.values.free), {**self.left_out}, here)

    def begin(self) -> None:
        """Make ready for iterations: the first stage, or the one of a restored fit."""
        if self._objective is not None:
            return
        if self.problem.positions_alone:
            self._stand_on_positions()
            return
        if self.stages:
            self._take_up(build(self.problem, self.stages[-1]))
            return
        self._enter(agreed(self.rules.begin()))
        sampled = agreed(self.rules.first_sampling(self.state, self._measured()))
        if sampled is not None:
            begun = self.stages.pop().stage
            assert begun is not None
            assert sampled.stage is not None
            same = sampled.stage.oversample == begun.oversample  # then its pixels are those that are there
            self._enter(sampled, Built(self.objective, tuple(self.values.free), {}) if same else None)

    def _stand_on_positions(self) -> None:
        """Without frames the fit has ended: its positions were fitted when it was made ready."""
        moved = self.problem.moved_by_positions
        values = self.problem.parameters.values.detach().clone()
        self.stages = [Decision(Stage("positions"), values, moved, by_positions=True)]
        self._objective = PixelObjective((), (), (), free_scales=True)
        self.values.release(moved)
        self.by_positions, self.converged = True, self.problem.positions_settled
        state = "converged" if self.converged else "did not settle"
        self.message = f"positions alone: {state} after {len(self.history)} iterations"

    def iterate(self) -> Iteration:
        """One iteration of the solver, and the next stage where this one has converged."""
        started = time.perf_counter(), time.process_time()
        self.begin()
        step = self.solver.step(Joint(self.objective), self.values)
        row = self._record(step)
        measured = self._measured()
        wrong = self.rules.shapes_are_wrong(measured.state, measured)  # every process looks
        if agreed(wrong or self._is_small(step)):
            self._follow(agreed(self.rules.next_stage(measured.state, measured)))
        self._move(agreed(self.values.values.detach()))
        self.wall_s += time.perf_counter() - started[0]
        self.cpu_s += time.process_time() - started[1]
        return row

    def _is_small(self, step: Step) -> bool:
        """Whether ``step`` gains or moves so little that the stage has converged."""
        settings = self.problem.settings.solver
        gain = self.stage.tolerance(settings.tolerance) * abs(step.loss_before)
        return not step.accepted or step.move < settings.step_tolerance or step.loss_before - step.loss_after <= gain

    def _record(self, step: Step) -> Iteration:
        fast, slow = of_all.rms(self.positions, self.values)
        number = len(self.history)
        row = Iteration(number, self.stage.name, step.loss_after, fast, slow, step.damping, step.move)
        self.history.append(row)
        return row

    def _measured(self) -> Measured:
        return Measured(self.problem, self.state, self.objective)

    def _follow(self, decision: Decision) -> None:
        """Go on as decided, or end."""
        if decision.stage is not None:
            self._enter(decision)
            return
        self.journal.add(*decision.reason)
        self._move(decision.values)
        self.values.release(decision.free)
        self.converged, self.by_positions = True, decision.by_positions
        self.message = f"converged in stage {self.stage.name} after {len(self.history)} iterations"
        if decision.by_positions:
            self.message += "; geometry from the spots' positions"
        elif not decision.free:
            self.message += ": no parameter was free in it"

    def _enter(self, decision: Decision, built: Built | None = None) -> None:
        """Begin the stage of ``decision``; ``built``: its objective, where it is known."""
        self.journal.add(*decision.reason)
        self._move(decision.values)
        self.stages.append(decision)
        if built is None:
            self._take_up(build(self.problem, decision))
        else:
            self.values.release(built.free)
        self.solver.restart()

    def _take_up(self, built: Built) -> None:
        """Fit the pixels of ``built``. Raises the DataError of an experiment where none has any."""
        for number, failure in built.left_out.items():
            if number not in self.left_out:
                said = f"crystal {number} takes no part in the fit of pixels: {failure}"
                self.journal.say("crystal_without_pixels", said, "warning", crystal=number)
        if built.left_out.keys() >= {item.expt.index for item in self.problem.evidence}:
            raise next(iter(built.left_out.values()))
        self.left_out = {number: str(failure) for number, failure in built.left_out.items()}
        self._objective = built.objective
        self.values.release(self.problem.moved_by_positions if self.by_positions else built.free)

    @torch.no_grad()
    def _move(self, values: torch.Tensor) -> None:
        self.values.values.copy_(values)

    def plain(self) -> dict[str, Any]:
        """What a checkpoint holds beside the values: numbers, words and tensors. Several processes ask together."""
        return {
            "stages": [(asdict(begun.stage), begun.values) for begun in self.stages if begun.stage is not None],
            "history": [asdict(row) for row in self.history],
            "solver": self.solver.state(),
            "converged": self.converged,
            "message": self.message,
            "by_positions": self.by_positions,
            "journal": self.journal.state(),
            "left_out": dict(self.left_out),
            "times": (total_number(self.cpu_s), self.wall_s),
        }

    def restore(self, plain: dict[str, Any]) -> None:
        """Go on where ``plain`` stood; the values are restored apart from it."""
        begun = [(Stage(**stage), values) for stage, values in plain["stages"]]
        self.stages = [Decision(stage, values, self.rules.free(stage)) for stage, values in begun]
        self.history = [Iteration(**row) for row in plain["history"]]
        self.solver.restore(plain["solver"])
        self.converged, self.message = plain["converged"], plain["message"]
        self.by_positions = plain["by_positions"]
        self.journal.restore(plain["journal"])
        self.left_out = dict(plain.get("left_out", {}))  # of an earlier version: found again with the pixels
        cpu, self.wall_s = plain["times"]
        self.cpu_s = cpu if is_first() else 0.0
        self._objective = None
