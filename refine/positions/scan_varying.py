"""Crystals that drift: whether the spots ask for curves of orientation and cell at all.

Orientation and cell are natural cubic splines in the spindle angle (:mod:`nbtorch.functional.spline`). Every knot is a
parameter, the value itself at that angle: the constant it takes the place of is not refined beside it, so that no
motion is counted twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch

from refine.least_squares.levenberg_marquardt import LevenbergMarquardt
from refine.least_squares.objective import Joint
from refine.least_squares.restraint_terms import restraint_loss
from refine.parameters.parameter_set import ParameterSet
from refine.positions.objective import PositionObjective
from refine.positions.position_block import PositionBlock
from refine.processes import agreed, total_number
from refine.records.journal import JournalEntry
from refine.settings.fit_settings import ScanVarying

Kinds = tuple[ScanVarying, ...]
_STEPS = 12
_MAD = 1.4826  # of a normal distribution, standard deviation over median absolute value
_MOST = 2  # numbers that every parameter must have for a choice to be considered
_LEAST = 1e-6  # of a spread: what a simulation without noise shows


@dataclass(frozen=True)
class Decision:
    """Which ``kinds`` vary in the scan, and why, for the journal."""

    kinds: Kinds
    reason: JournalEntry


def too_short(asked: Kinds, spacing: float) -> Decision:
    """The decision where no scan has room for two knots."""
    said = f"it is shorter than half of parameters.knot_spacing = {spacing:g}°, and a curve needs two knots"
    return _decision((), f"{_constant(asked)}: {said}", knot_spacing=spacing)


def _decision(kinds: Kinds, sentence: str, **numbers: float) -> Decision:
    code = "crystal_drifts" if kinds else "crystal_does_not_drift"
    return Decision(kinds, JournalEntry(code, sentence, "choice", {"kinds": list(kinds), **numbers}))


def choose(
    blocks: Sequence[PositionBlock], constant: ParameterSet, asked: Kinds, make: Callable[[Kinds], ParameterSet]
) -> Decision:
    """Which of the ``asked`` kinds the positions of ``blocks`` determine as curves, by Schwarz's criterion.

    ``constant`` holds the converged values without curves; ``make`` gives the parameters for a choice of kinds. Each
    choice is fitted; the one of the least loss + p·ln n is taken, p its free parameters and n the residuals (Schwarz,
    Ann. Statist. 6, 461, 1978). Residuals are in units of their experiment's spread in the fit with most curves.
    """
    objective = PositionObjective(blocks)
    objective.estimate_spread(constant)
    numbers = int(total_number(sum(3 * int(block.residuals(constant).valid.sum()) for block in blocks)))
    sets = {kinds: make(kinds) for kinds in _subsets(asked)}
    fair = [kinds for kinds in sets if not kinds or _MOST * len(sets[kinds].free) <= numbers]
    if len(fair) == 1:
        return _decision((), f"{_constant(asked)}: {numbers // 3} spots are too few for curves", spots=numbers // 3)
    widest = _fitted(objective, sets[fair[-1]], constant)
    _measure_spread(objective, widest, numbers / (numbers - len(widest.free)))
    losses, price = {}, math.log(numbers)
    for kinds in fair:
        parameters = _fitted(objective, sets[kinds], widest if kinds == fair[-1] else constant)
        losses[kinds] = Joint(objective).loss(parameters) - restraint_loss(parameters)
    extra = {kinds: len(sets[kinds].free) - len(constant.free) for kinds in fair}
    best = agreed(min(fair, key=lambda kinds: losses[kinds] + price * extra[kinds]))
    shown = best or fair[-1]
    told = {"parameters": extra[shown], "gain": losses[()] - losses[shown], "cost": price * extra[shown]}
    compared = (
        f"{extra[shown]} more numbers lower the misfit of the positions by {told['gain']:.3g}, "
        f"{'more' if best else 'less'} than the {told['cost']:.3g} that they cost (Schwarz's criterion)"
    )
    if not best:
        return _decision((), f"{_constant(asked)}: {compared}", **told)
    left = tuple(kind for kind in asked if kind not in best)
    verb = "varies" if len(best) == 1 else "vary"
    said = f"{' and '.join(best)} {verb} smoothly through the scan: {compared}"
    return _decision(best, said + (f"; {_named(left)} constant" if left else ""), **told)


def _measure_spread(objective: PositionObjective, parameters: ParameterSet, freedom: float) -> None:
    """Set each experiment's spread from its residuals' squares times ``freedom``: numbers over degrees of freedom.

    The fit itself takes none for smaller than a tenth of a pixel.
    """
    for number, block in enumerate(objective.blocks):
        residual, valid = block.residuals(parameters)
        if bool(valid.any()):
            median = (residual * block.sharpness)[valid].abs().median(dim=0).values
            median[:2] = median[:2].mean()
            objective.spread[number] = (_MAD * math.sqrt(freedom) * median).clamp(min=_LEAST)


def _constant(asked: Kinds) -> str:
    return f"{_named(asked)} constant through the scan, though parameters.scan_varying asks for a curve"


def _named(kinds: Kinds) -> str:
    return " and ".join(kinds) + (" is" if len(kinds) == 1 else " are")


def _subsets(kinds: Kinds) -> Iterable[Kinds]:
    return (chosen for size in range(len(kinds) + 1) for chosen in combinations(kinds, size))


def _fitted(objective: PositionObjective, parameters: ParameterSet, start: ParameterSet) -> ParameterSet:
    """``parameters`` fitted to the positions from the values of ``start``."""
    carry_over(start, parameters)
    solver = LevenbergMarquardt()
    for _ in range(_STEPS):
        step = solver.step(Joint(objective), parameters)
        if not step.accepted or step.move < 0.05:
            break
    return parameters


def carry_over(start: ParameterSet, parameters: ParameterSet) -> tuple[int, ...]:
    """Begin with the values of ``start``, every knot with that of its constant; which ones ``start`` had free."""
    places = {parameter.name: index for index, parameter in enumerate(start.parameters_)}
    moved = []
    with torch.no_grad():
        for index, parameter in enumerate(parameters.parameters_):
            place = places.get(parameter.name, places.get(parameter.stem))
            if place is not None and start.parameters_[place].free:
                parameters.values[index] = start.values[place]
                moved.append(index)
    return tuple(moved)
