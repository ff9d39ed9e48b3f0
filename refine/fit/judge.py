"""The verdict on a fit that ended: its evidence gathered as plain values, and the rules asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from nbtorch.config import Exposure
from refine.fit.loop import Loop
from refine.fit.problem import Problem
from refine.indexing.assignment import Evidence
from refine.indexing.index_spots import expected_light
from refine.parameters.gauge import gauge_directions
from refine.parameters.kinds import MOSAIC_SPREAD, N_CELLS, Kind
from refine.parameters.moved_experiment import moved_experiment
from refine.parameters.parameter_set import ParameterSet
from refine.positions.objective import PositionObjective
from refine.positions.position_block import block_of
from refine.processes import count, gathered
from refine.records.outcome import Outcome, Pair
from refine.spots.observations import Observations
from refine.verdict.amplitude_match import best_turn, lengths, pooled, shells
from refine.verdict.bright import bright_seen
from refine.verdict.evidence import AmplitudeMatch, FitEvidence, Half, ParameterState, Region
from refine.verdict.explained import on_lattice
from refine.verdict.halves import compare_halves
from refine.verdict.lattice import departure, mean_scale, sublattice, turns
from refine.verdict.regions import regions
from refine.verdict.rules import verdict

_NONE = 1e-6  # of the square of a spread, beneath which a bound is that of zero itself
_HALVABLE = 24  # spots that two halves need
_LEAST_BRIGHT = 15
_LOOKED_AT = 4  # experiments whose bright reflections are looked for


def judged(outcome: Outcome, problem: Problem, module: Loop, mistake: Callable[[Problem], str]) -> Outcome:
    """``outcome`` with its verdict; a fit that failed has not converged, whatever its solver says.

    ``mistake`` is asked, of a failed fit, which usual mistake of a header would explain the spots.
    """
    limits = problem.settings.advanced.verdict
    evidence = gather(outcome, problem, module)
    found = verdict(evidence, limits)
    if found.level == "failed":
        found = verdict(replace(evidence, would_fit=mistake(problem)), limits)
    return replace(outcome, verdict=found, converged=outcome.converged and found.level != "failed")


def gather(outcome: Outcome, problem: Problem, module: Loop) -> FitEvidence:
    """The evidence of a fit, of all processes."""
    items, parameters = problem.evidence, module.values
    crystals = [item.expt.entry.crystal for item in items if item.expt.entry.crystal is not None]
    ends = [outcome.crystals[i].cell for item in items if (i := item.expt.entry.crystal_index) is not None]
    left = [departure(start, cell) for start, cell in zip(crystals, ends, strict=True)]
    group = crystals[0].space_group
    states = parameter_states(parameters)
    hkl = np.concatenate([item.observed.hkl.numpy() for item in items])
    moved = parameters.values.detach() != parameters.start
    strong, explained = _explained(items, parameters)
    return FitEvidence(
        converged=outcome.converged,
        message=outcome.message,
        strong=strong,
        explained=explained,
        regions=_regions(outcome, problem),
        rms_start=_hypot(outcome.rms_start_px),
        rms_end=_hypot(outcome.rms_end_px),
        rivals=problem.rivals,
        turns=tuple(name for name, _ in turns(crystals[0])),
        metric=max((value for value in left if value is not None), default=None),
        cell_scale=mean_scale([crystal.cell for crystal in crystals], ends),
        amplitudes=_amplitude_match(problem, parameters),
        parameters=states,
        spots_used=outcome.n_used,
        halves=_halves(problem, parameters),
        sublattice=sublattice(hkl, group),
        assumed=_assumed(problem, parameters),
        moved=any(bool(moved[i]) for i in parameters.free if is_geometry(parameters.parameters_[i].kind)),
    )


def is_geometry(kind: Kind) -> bool:
    """Whether parameters of ``kind`` move spots."""
    return "positions" in kind.determined_by


def parameter_states(parameters: ParameterSet) -> tuple[ParameterState, ...]:
    """The free parameters at the end."""
    bounds, values = parameters.at_bound(), parameters.values.detach().tolist()
    states = []
    for i in parameters.free:
        row = parameters.parameters_[i]
        pull = None
        if row.restraint is not None:
            target = row.start if row.target is None else row.target
            ratio = values[i] / target if row.logarithmic and target else None
            pull = (math.log(ratio) if ratio and ratio > 0 else values[i] - target) / row.restraint
        in_spans = (values[i] - row.start) / row.span
        none = row.squared and values[i] - row.lower <= 1e-9 * row.span and row.lower <= _NONE
        bound = bounds[i] and not none  # no spread at all is a value like any other
        states.append(ParameterState(row.name, in_spans, bound, pull, is_geometry(row.kind)))
    return tuple(states)


def _hypot(pair: Pair | None) -> float | None:
    return None if pair is None else math.hypot(*pair)


def _explained(items: Sequence[Evidence], parameters: ParameterSet) -> tuple[int, int]:
    """Strong spots, and those of them that lie on the lattice."""
    strong = explained = 0
    for item in items:
        exposure = item.expt.exposures(1)[0]
        scan = None if item.expt.still else item.expt.entry.scan
        middle = exposure.phi_start + exposure.oscillation / 2
        found = on_lattice(moved_experiment(item.expt, parameters), item.spots, scan, middle)
        strong, explained = strong + len(found), explained + int(found.sum())
    return strong, explained


def _regions(outcome: Outcome, problem: Problem) -> tuple[Region, ...]:
    """The used spots at the end, by panel and quadrant."""
    width = np.concatenate([item.observed.width.numpy()[:, :2] for item in problem.evidence])
    rows = [spot for spot in outcome.spots if spot.used or spot.heldout or spot.end_fast_px == spot.end_fast_px]
    used = np.array([spot.used for spot in rows], dtype=bool)
    if len(rows) != len(width) or not used.any():
        return ()
    gain = gathered({number: float(np.median(noise[0])) for number, noise in problem.noise.items()})
    seen = [spot for spot in rows if spot.used]
    position = np.array([(spot.observed_fast_px, spot.observed_slow_px) for spot in seen], dtype=np.float64)
    residual = position - np.array([(spot.end_fast_px, spot.end_slow_px) for spot in seen])
    photons = np.array([spot.counts for spot in seen]) / max(float(np.median(list(gain.values()))), 1e-9)
    good = np.isfinite(residual).all(1)
    panel = np.array([spot.panel for spot in seen])
    sizes = np.array([item.size for item in problem.detector.panels])
    return regions(panel[good], position[good], residual[good], width[used][good], photons[good], sizes)


def _amplitude_match(problem: Problem, parameters: ParameterSet) -> AmplitudeMatch | None:
    """How the spots' counts follow the amplitudes; None where there are none."""
    items = [item for item in problem.evidence if len(item.observed)]
    if not problem.amplitudes_given or not items:
        return None
    experiments = [moved_experiment(item.expt, parameters) for item in items]
    observed = [item.observed for item in items]
    light = [expected_light(e, seen.hkl.numpy()) for e, seen in zip(experiments, observed, strict=True)]
    known = [part for part in light if part is not None]
    if len(known) != len(light):
        return None
    counts = [seen.counts.numpy() for seen in observed]
    size = [lengths(e, seen.hkl) for e, seen in zip(experiments, observed, strict=True)]
    bright = seen_ = 0
    for item, experiment, length in list(zip(items, experiments, size, strict=True))[:_LOOKED_AT]:
        number = max(_LEAST_BRIGHT, len(length) // 2)
        scan = None if item.expt.still else item.expt.entry.scan
        exposure = item.expt.exposures(1)[0]
        if scan is not None:
            exposure = Exposure(scan.phi_start, scan.oscillation * len(item.expt.images))
        found = bright_seen(experiment, exposure, scan, item.spots, float(length.max()), number)
        bright, seen_ = bright + found[0], seen_ + found[1]
    crystal = items[0].expt.entry.crystal
    asked = turns(crystal) if crystal is not None else []
    return AmplitudeMatch(
        sum(len(part) for part in known),
        pooled(known, counts),
        shells(np.concatenate(known), np.concatenate(counts), np.concatenate(size)) if len(items) == 1 else (),
        best_turn(experiments, observed, asked),
        bright,
        seen_,
    )


def _halves(problem: Problem, parameters: ParameterSet) -> tuple[Half, ...]:
    """Two halves of the spots by their positions, over the parameters that positions tell."""
    free = [i for i in parameters.free if i in problem.moved_by_positions]
    spots = min((len(item.observed.fitted()) for item in problem.evidence), default=0)
    if not free or spots < _HALVABLE or count() > 1:
        return ()
    kind = problem.settings.detector.parallax
    halves = [
        PositionObjective([block_of(e.expt, _every_second(e.observed.fitted(), k), kind) for e in problem.held])
        for k in (0, 1)
    ]
    own = [*parameters.free]
    parameters.release(free)
    gauge = gauge_directions(parameters, problem.scene.detector, problem.scene.experiments[0].index)
    parameters.release(own)
    return compare_halves(halves, problem.positions(fitted=True), parameters, free, gauge)


def _every_second(observed: Observations, first: int) -> Observations:
    return observed[torch.arange(first, len(observed), 2)]


def _assumed(problem: Problem, parameters: ParameterSet) -> tuple[str, ...]:
    """Values that nobody stated and the fit held."""
    free = {parameters.parameters_[i].kind for i in parameters.free}
    settings, codes = problem.settings.crystal, {entry.code for entry in problem.journal.entries}
    found = []
    if "n_cells_from_width" in codes and N_CELLS not in free and settings.n_cells is not None:
        found.append(f"crystal.n_cells = {', '.join(f'{n:.1f}' for n in settings.n_cells)}")
    if codes & {"mosaic_spread_from_width", "mosaic_spread_assumed"} and MOSAIC_SPREAD not in free:
        found.append(f"crystal.mosaic_spread = {_degrees(settings.mosaic_spread)}°")
    return tuple(found)


def _degrees(spread: float | tuple[float, ...] | None) -> str:
    values = spread if isinstance(spread, tuple) else (spread or 0.0,)
    return ", ".join(f"{value:.3g}" for value in values)
