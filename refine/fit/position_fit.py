"""The fit of positions: it brings a header's geometry to within a pixel, and tells indices and outliers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch

from refine.fit import of_all
from refine.fit.first_indices import evidence_of_all
from refine.fit.fit_parameters import parameter_set
from refine.fit.outliers import fitted_blocks, without_outliers
from refine.indexing.assignment import Evidence, assign
from refine.least_squares.levenberg_marquardt import LevenbergMarquardt
from refine.least_squares.objective import Joint
from refine.parameters.moved_experiment import moved_experiment
from refine.parameters.parameter_set import ParameterSet
from refine.positions.objective import PositionObjective
from refine.positions.scan_varying import carry_over
from refine.processes import exchange
from refine.records.journal import Journal
from refine.records.outcome import Iteration
from refine.scene.scene import Scene
from refine.settings.fit_settings import FitSettings

_STEPS = 8  # of the solver, a round
# joint sigmas that a step, and a whole round, need not move the positions' fit by
_SETTLED, _UNMOVED = 0.3, 1.0
_SAME = 1e-6  # pixels by which predictions may differ and be called the same


@dataclass(frozen=True, eq=False)
class PositionFit:
    """What a fit of positions ended with. ``ran`` False: it was not asked for, or no parameter of it is free."""

    evidence: list[Evidence]
    parameters: ParameterSet
    history: tuple[Iteration, ...]
    ran: bool

    def following(self, earlier: PositionFit) -> PositionFit:
        """This fit with the iterations of ``earlier`` before its own."""
        begun = len(earlier.history)
        own = (replace(row, iteration=begun + row.iteration) for row in self.history)
        return replace(self, history=(*earlier.history, *own), ran=self.ran or earlier.ran)


def fit_positions(
    scene: Scene,
    evidence: list[Evidence],
    held: Collection[int],
    settings: FitSettings,
    journal: Journal,
    start: ParameterSet | None = None,
) -> PositionFit:
    """Rounds of a robust fit of positions from the values of ``start``, spots being assigned anew after each.

    ``held``: the numbers of the experiments that are this process's share.
    """
    parameters = parameter_set(scene, settings, coarse=True)
    if start is not None:
        carry_over(start, parameters)
    if not settings.solver.coarse or not parameters.free:
        return PositionFit(evidence, parameters, (), ran=False)
    history: list[Iteration] = []
    near = False
    for round_ in range(settings.solver.coarse_rounds):
        mine = [item for item in evidence if item.expt.index in held]
        rows = _round(PositionObjective(fitted_blocks(mine, settings)), parameters, len(history))
        history += rows
        # once the positions fit to a pixel, a wide search would only find indices by chance
        nearly, near = near, _square(rows[-1]) < 1
        if round_ > 0 and near == nearly and max(row.step_sigma or 0.0 for row in rows) < _UNMOVED:
            break  # the spots' indices would be the same again
        mine = [assign(e.expt, e.spots, settings, moved_experiment(e.expt, parameters), near=near) for e in mine]
        assigned = evidence_of_all(mine, scene.experiments)
        evidence = [a if len(a.observed) else b for a, b in zip(assigned, evidence, strict=True)]
    mine = without_outliers([item for item in evidence if item.expt.index in held], parameters, settings)
    evidence = evidence_of_all(mine, scene.experiments)
    fast, slow = of_all.rms(PositionObjective(fitted_blocks(mine, settings)), parameters)
    spots = sum(len(e.observed) for e in evidence)
    said = f"positions: {spots} spots, rms {fast:.2f}, {slow:.2f} px (fast, slow)"
    journal.say("positions_fitted", said, spots=spots, rms_px=[fast, slow])
    return PositionFit(evidence, parameters, tuple(history), ran=True)


def refit_moved(
    scene: Scene, evidence: list[Evidence], held: Collection[int], settings: FitSettings, before: PositionFit
) -> PositionFit:
    """``before`` for the models of ``scene``, whose crystals have their estimated sizes and mosaic spreads.

    Where these move predictions the positions are fitted once more, so that the fit of pixels begins where the fit of
    positions ended.
    """
    parameters = parameter_set(scene, settings, coarse=True)
    carry_over(before.parameters, parameters)
    moved = PositionFit(evidence, parameters, (), ran=False)
    blocks = fitted_blocks([item for item in evidence if item.expt.index in held], settings)
    old = fitted_blocks([item for item in before.evidence if item.expt.index in held], settings)
    here, there = PositionObjective(blocks), PositionObjective(old)
    if before.ran and max(exchange(_furthest(here, parameters, there, before.parameters))) > _SAME:
        moved = replace(moved, history=tuple(_round(here, parameters, 0)))
    return moved.following(before)


def _furthest(one: PositionObjective, at: ParameterSet, two: PositionObjective, there: ParameterSet) -> float:
    """The largest distance (pixels) between the predictions of ``one`` and ``two`` for the same spots."""
    pairs = zip(one.residuals(at), two.residuals(there), strict=True)
    apart = [(a.value - b.value)[a.valid & b.valid, :2].abs().flatten() for a, b in pairs]
    return float(torch.cat([torch.zeros(1, dtype=torch.float64), *apart]).max())


def _round(objective: PositionObjective, parameters: ParameterSet, begun: int) -> list[Iteration]:
    """Steps of the solver until they no longer move anything; ``begun`` iterations went before."""
    objective.estimate_spread(parameters)
    solver, rows = LevenbergMarquardt(), list[Iteration]()
    for number in range(begun, begun + _STEPS):
        step = solver.step(Joint(objective), parameters)
        fast, slow = of_all.rms(objective, parameters)
        rows.append(Iteration(number, "positions", step.loss_after, fast, slow, step.damping, step.move))
        if not step.accepted or step.move < _SETTLED:
            break
    return rows


def _square(row: Iteration) -> float:
    """The squared distance (px²) that spots are off after an iteration."""
    assert row.rms_fast_px is not None
    assert row.rms_slow_px is not None
    return row.rms_fast_px**2 + row.rms_slow_px**2


def constant(settings: FitSettings) -> FitSettings:
    """``settings`` with crystals that do not drift."""
    return replace(settings, parameters=replace(settings.parameters, scan_varying=()))
