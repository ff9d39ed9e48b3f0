"""Rival indexings: would another assignment explain the spots as well? Each is refitted to the positions and weighed.

The odds of an indexing come from how well its own fit predicts the spots, from the spots that it leaves over, from how
far it moves the geometry that was given, and from the amplitudes. The smallest correction that explains the spots wins.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from nbtorch.render.predict import mean_wave
from refine.indexing.assignment import Evidence, assign
from refine.indexing.lattice_view import Ints
from refine.least_squares.levenberg_marquardt import LevenbergMarquardt
from refine.parameters.moved_experiment import moved_experiment
from refine.parameters.parameter_set import ParameterSet
from refine.positions.objective import PositionObjective
from refine.positions.position_block import PositionBlock
from refine.settings.fit_settings import FitSettings
from refine.verdict.amplitude_match import agreement
from refine.verdict.evidence import Rival

Blocks = Callable[[Sequence[Evidence]], list[PositionBlock]]
_ROUNDS, _STEPS, _STILL = 3, 6, 0.3  # of assignment and fit; steps of a fit, and the sigmas that its last one moves by
_WALK = 4  # times that a better rival is taken and its own rivals are looked at
_SIDEWAYS = 0.35  # share of a shift along the beam up to which it is a row of the pattern
_MORE = 8  # shifts besides those along the axes
_FEWEST = 6  # spots that a fit needs
_ALONE = 4  # experiments of a joint fit, those with most spots, that are asked for rivals of their own
_LEAST_SPREAD = (0.1, 0.05, 2e-5)  # px, frames, Å⁻¹: below it predictions are taken as equally good


@dataclass(frozen=True)
class Weighing:
    """What rivals are fitted and weighed with: ``blocks`` makes the positions of spots that a fit may see."""

    settings: FitSettings
    blocks: Blocks


@dataclass(frozen=True, eq=False)
class Indexing:
    """Spots with indices, and the values that predict them best."""

    name: str
    evidence: tuple[Evidence, ...]
    parameters: ParameterSet

    @property
    def explained(self) -> int:
        """Spots with an index."""
        return sum(len(item.observed) for item in self.evidence)


def settle(first: Indexing, how: Weighing) -> tuple[Indexing, tuple[Rival, ...]]:
    """The best of ``first`` and its rivals, with all rivals that were weighed: those taken, then those set aside.

    Where experiments share a detector, those with most spots are asked one by one, the detector being as it is.
    """
    if len(first.evidence) > 1:
        return first, _of_each(first, how)
    taken: list[Rival] = []
    best, given = first, as_given(first, how)
    for _ in range(_WALK):
        found = neighbours(best, how)
        ranked = weighed(best, [*found, *given], how)
        if not ranked or ranked[0][1].worse >= 0:
            break
        best, row = ranked[0]
        taken.append(replace(row, chosen=True))
        given = []
    else:
        ranked = weighed(best, neighbours(best, how), how)
    return best, (*taken, *(row for _, row in ranked))


def _of_each(joint: Indexing, how: Weighing) -> tuple[Rival, ...]:
    """Rivals of the single experiments with most spots, everything that they share being held."""
    chosen = sorted(joint.evidence, key=lambda item: -len(item.observed))[:_ALONE]
    rows: list[Rival] = []
    for item in chosen:
        parameters = copy.deepcopy(joint.parameters)
        parameters.release(parameters.local[item.expt.index])
        if parameters.free:
            alone = Indexing(f"crystal {item.expt.index}", (item,), parameters)
            rows += [
                replace(row, name=f"crystal {item.expt.index}: {row.name}")
                for _, row in weighed(alone, neighbours(alone, how), how)
            ]
    return tuple(rows)


def neighbours(base: Indexing, how: Weighing) -> list[Indexing]:
    """``base`` with all indices shifted by one along each axis, and by the other shifts that move the pattern least."""
    found = []
    (item,) = base.evidence
    brightest = _brightest(item, int(how.settings.advanced.verdict.rival_spots))
    for shift in shifts(brightest, base.parameters):
        begun = _predictable(_shifted(brightest, shift), base.parameters, how)
        name = f"indices shifted by ({', '.join(str(int(index)) for index in shift)})"
        fitted = refitted(Indexing(name, (begun,), copy.deepcopy(base.parameters)), how)
        found += [] if fitted is None or same(fitted, base) else [fitted]
    return found


def _shifted(item: Evidence, shift: Ints) -> Evidence:
    moved = item.observed.hkl + torch.as_tensor(shift)
    return replace(item, observed=replace(item.observed, hkl=moved))


def _predictable(item: Evidence, parameters: ParameterSet, how: Weighing) -> Evidence:
    """``item`` without the spots whose new indices are no reflection, or one that never crosses the sphere."""
    residual, valid = how.blocks([_all_fitted(item)])[0].residuals(parameters)
    return replace(item, observed=item.observed[valid & torch.isfinite(residual).all(1)])


def _all_fitted(item: Evidence) -> Evidence:
    return replace(item, observed=replace(item.observed, heldout=torch.zeros_like(item.observed.heldout)))


def as_given(base: Indexing, how: Weighing) -> list[Indexing]:
    """The indices that the geometry as it was given puts on the spots: the smallest correction of all."""
    parameters = copy.deepcopy(base.parameters)
    with torch.no_grad():
        parameters.values.copy_(parameters.clamp(parameters.start))
    items = [assign(e.expt, e.spots, how.settings, e.expt.model, near=True) for e in base.evidence]
    fitted = refitted(Indexing("the indices of the geometry as given", tuple(items), parameters), how)
    return [] if fitted is None or same(fitted, base) else [fitted]


def same(one: Indexing, other: Indexing) -> bool:
    """Whether two indexings give most spots that both explain the same indices: then they are no rivals."""
    agree = both = 0
    for mine, theirs in zip(one.evidence, other.evidence, strict=True):
        known = dict(zip(theirs.observed.found.tolist(), theirs.observed.hkl.tolist(), strict=True))
        pairs = zip(mine.observed.found.tolist(), mine.observed.hkl.tolist(), strict=True)
        shared = [hkl == known[place] for place, hkl in pairs if place in known]
        agree, both = agree + sum(shared), both + len(shared)
    return 2 * agree > both


def shifts(item: Evidence, parameters: ParameterSet) -> Ints:
    """Shifts of all indices [m, 3] that may go unnoticed: ±1 along each axis, and rows of the pattern near by."""
    experiment = moved_experiment(item.expt, parameters)
    with torch.no_grad():
        stars = experiment.crystal.vectors()[1].numpy()
        beam = mean_wave(experiment).numpy()
    steps = np.array([step for step in itertools.product((-1, 0, 1), repeat=3) if any(step)])
    along = np.abs(steps @ stars @ beam) / np.linalg.norm(beam)
    length = np.linalg.norm(steps @ stars, axis=1)
    axis = np.abs(steps).sum(1) == 1
    rows = np.nonzero(~axis & (along < _SIDEWAYS * length))[0]
    return np.concatenate([steps[axis], steps[rows[np.argsort(length[rows], kind="stable")[:_MORE]]]])


def _brightest(item: Evidence, most: int) -> Evidence:
    """``item`` with its ``most`` brightest spots alone: they come brightest first."""
    if len(item.spots) <= most:
        return item
    return replace(item, spots=item.spots[:most], observed=item.observed[item.observed.found < most])


def refitted(begun: Indexing, how: Weighing) -> Indexing | None:
    """``begun`` after rounds of fitting its values (in place) and assigning the spots anew; None with too few spots."""
    evidence, parameters = begun.evidence, begun.parameters
    for round_ in range(_ROUNDS):
        if sum(len(item.observed.fitted()) for item in evidence) < _FEWEST:
            return None
        if round_ > 0:
            again = [assign(e.expt, e.spots, how.settings, moved_experiment(e.expt, parameters), near=True)
                     for e in evidence]  # fmt: skip
            evidence = tuple(
                new if len(new.observed.fitted()) else old for new, old in zip(again, evidence, strict=True)
            )
        objective = PositionObjective(how.blocks(evidence))
        objective.estimate_spread(parameters)
        solver = LevenbergMarquardt()
        for _ in range(_STEPS):
            step = solver.step(objective, parameters)
            if not step.accepted or step.move < _STILL:
                break
    return Indexing(begun.name, evidence, parameters)


def weighed(kept: Indexing, others: Sequence[Indexing], how: Weighing) -> list[tuple[Indexing, Rival]]:
    """``others`` by how much worse (ln odds) they are than ``kept``, the best first."""
    most = int(how.settings.advanced.verdict.rival_spots) if len(kept.evidence) == 1 else 0
    base = Indexing(kept.name, (_brightest(kept.evidence[0], most),), kept.parameters) if most else kept
    spread = _spread(base, how)
    own = doubt(base, how, spread)
    rows = [
        (other, Rival(other.name, other.explained, rms(other, how), doubt(other, how, spread) - own))
        for other in others
    ]
    return sorted(rows, key=lambda pair: pair[1].worse)


def doubt(one: Indexing, how: Weighing, spread: torch.Tensor) -> float:
    """−ln of the odds of an indexing, up to what all have in common; ``spread`` [3] of the residuals of a spot."""
    limits, parameters = how.settings.advanced.verdict, one.parameters
    strong = sum(len(item.spots) for item in one.evidence)
    cost, explained = 0.0, 0
    for block, (residual, valid) in zip(*_residuals(one, how), strict=True):
        scaled = (residual * block.sharpness)[valid] / spread
        cost += float((0.5 * (scaled**2).sum(1)).clamp(max=limits.stray).sum())
        explained += int(valid.sum())
    cost += limits.stray * max(strong - explained, 0)
    free = parameters.free
    moved = (parameters.values.detach() - parameters.start)[free] / parameters.column("span", free)
    light = sum(agreement(moved_experiment(item.expt, parameters), item.observed) for item in one.evidence)
    return limits.witness * cost + 0.5 * float((moved**2).sum()) - light


def _residuals(one: Indexing, how: Weighing) -> tuple[list[PositionBlock], list[tuple[torch.Tensor, torch.Tensor]]]:
    objective = PositionObjective(how.blocks(one.evidence))
    with torch.no_grad():
        return list(objective.blocks), [(value, valid) for value, valid in objective.residuals(one.parameters)]


def _spread(one: Indexing, how: Weighing) -> torch.Tensor:
    """What residuals of all rivals are measured in: the spread [3] of ``one``'s."""
    objective = PositionObjective(how.blocks(one.evidence))
    objective.estimate_spread(one.parameters)
    third = _LEAST_SPREAD[1] if objective.blocks[0].positions.scan is not None else _LEAST_SPREAD[2]
    least = torch.tensor([_LEAST_SPREAD[0], _LEAST_SPREAD[0], third], dtype=torch.float64)
    return torch.maximum(torch.stack(list(objective.spread)).median(0).values, least)


def rms(one: Indexing, how: Weighing) -> float:
    """Distance (px, rms over both directions) of the spots from their predictions."""
    fast, slow = PositionObjective(how.blocks(one.evidence)).rms(one.parameters)
    return float(np.hypot(fast, slow))
