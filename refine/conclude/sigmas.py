"""The sigmas of a fit that ended: of its pixels or its positions, and which kind is given."""

from __future__ import annotations

from dataclasses import replace

import torch

from refine.fit.loop import Loop
from refine.fit.problem import Problem
from refine.least_squares.bootstrap import bootstrap_sigmas
from refine.least_squares.objective import DataObjective, Joint
from refine.least_squares.uncertainty import Uncertainty, uncertainty
from refine.parameters.gauge import gauge_directions
from refine.records.journal import JournalEntry


def known_sigmas(problem: Problem, module: Loop, drawings: int) -> Uncertainty:
    """Of the pixels, or of the positions where the geometry is theirs; with a bootstrap of as many ``drawings``."""
    objective: DataObjective = module.objective
    parameters = module.values
    if module.by_positions:
        objective = positions = problem.positions(fitted=True)
        positions.estimate_spread(parameters)
    here = Joint(objective).linearize(parameters)
    gauge = gauge_directions(parameters, problem.scene.detector, problem.scene.experiments[0].index)
    known = uncertainty(objective, parameters, here, gauge)
    if drawings == 0:
        return known
    numbers = [block.index for block in objective.blocks]
    drawn = bootstrap_sigmas(numbers, here.scores, parameters, drawings, problem.settings.seed)
    # no drawing of reflections shows the errors of restraints
    return replace(known, bootstrap=(drawn**2 + known.restraints).sqrt())


def which_sigmas(known: Uncertainty | None, explained: bool, drawings: int) -> JournalEntry:
    """Which sigmas are given, and why."""
    if explained:
        said = "sigmas are those of the Fisher information: the model explains the pixels to their noise"
        return JournalEntry("sigmas_of_fisher", said, "choice")
    said = "sigmas are the sandwich's, clustered by reflection: the pixels differ from the model by more than noise"
    numbers: dict[str, float] = {}
    ratio = torch.zeros(0) if known is None or known.bootstrap is None else known.bootstrap / known.sandwich
    ratio = ratio[torch.isfinite(ratio)]
    if len(ratio):
        middle, low, high = float(ratio.median()), float(ratio.min()), float(ratio.max())
        numbers = {"resamples": drawings, "median_ratio": middle, "least_ratio": low, "largest_ratio": high}
        drawn = f"a bootstrap over reflections ({drawings} drawings) gives {middle:.2g} of them"
        said = f"{said}; {drawn} ({low:.2g} to {high:.2g})"
    return JournalEntry("sigmas_of_sandwich", said, "choice", numbers)
