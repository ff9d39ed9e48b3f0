"""The stages of a pixel fit: which shoeboxes, whose scales, which noise. Each begins where the one before converged.

"spots": the observed spots, each with its own scale. "frame": every reflection that the amplitudes make bright enough,
one scale an experiment. "again": back to a scale a spot, where one for all leaves more than noise. "robust": like the
stage before, with an error of the spots' shapes in the variance and spots that do not fit weighted down; for data
that are not their model.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from nbtorch.errors import DataError
from refine.fit.problem import Problem
from refine.fit.shoebox_choice import (
    auto_oversample,
    background_kind,
    bright_plan,
    find_amplitudes,
    half_widths,
    make_block,
    observed_plan,
    of_refined,
)
from refine.indexing.assignment import Evidence
from refine.least_squares.levenberg_marquardt import LevenbergMarquardt
from refine.parameters.kinds import SCALE
from refine.parameters.parameter_set import ParameterSet
from refine.pixels.block import Block
from refine.pixels.fit_quality import misfit, robust_weights, scale_scatter, wary
from refine.pixels.losses import Noise
from refine.pixels.nuisance import BoxFit
from refine.pixels.objective import PixelObjective
from refine.pixels.spot_errors import SpotErrors
from refine.processes import gathered, listed

_MISFIT = 1.5  # mean z² under the spots beyond which the shapes, not the counts, limit the fit
_TRUSTED_SCATTER = 0.25  # median relative scatter of the spots' scales up to which amplitudes are worth a try
_CLEARLY_BETTER = 4.0  # of the deviance: odds of e²
_NEAR = 1.0  # rms (pixels) of the positions from which on pixels can be asked how they were sampled
_HOPELESS = 8.0  # and beyond which no sampling and no amplitudes will mend it
_BROADENING = 0.3  # of ln(width), by which spots differ where their shape is not the model's
_ASKED = 40  # spots that are asked how they were sampled, of as few experiments as hold them


@dataclass(frozen=True)
class Stage:
    """What a stage fits; plain values, so that a checkpoint can hold it."""

    name: str
    free_scales: bool = True
    model_error: float = 0.0
    predicted: bool = False  # boxes on predicted reflections rather than on observed spots
    oversample: int | None = None  # sub-pixels a side; None: by the width of the spots
    sampled: bool = False  # whether the pixels have been asked how they were sampled
    errors: tuple[float, float, float] | None = None  # of single spots: see refine.pixels.spot_errors.SpotErrors
    loose: bool = False  # whether it may end before it has quite converged, because another is to follow
    weighed_anew: bool = False  # whether a robust stage has the weights of a model that is a robust stage's


def first_stage(problem: Problem) -> Stage:
    """The stage that every fit begins with; it knows the sampling where positions are near enough."""
    error = problem.settings.loss.model_error or 0.0
    shared = problem.scene.has_amplitudes and _may_share_scale(problem, hopeless=False)
    stage = Stage("spots", model_error=error, loose=shared)
    near = sum(px**2 for px in problem.positions(fitted=True).rms(problem.parameters)) < _NEAR**2
    return _asked(problem, stage, problem.parameters) if near and error == 0 else stage


def build(problem: Problem, stage: Stage, parameters: ParameterSet, most: int | None = None) -> PixelObjective:
    """The objective of ``stage`` at the values it begins with, of at most ``most`` boxes an experiment, the brightest.

    Of the experiments whose frames this process holds. Sets which parameters are free: of an experiment without pixels
    to fit, because its frame vanished or nothing is predicted on it, none. Raises DataError where all are such.
    """
    blocks, noise, weights = [], [], []
    failures: dict[int, DataError] = {}
    for evidence in problem.held:
        try:
            block = _block_of(problem, stage, evidence, parameters, most)
        except DataError as failure:
            failures[evidence.expt.index] = failure
            continue
        blocks.append(block)
        noise.append(
            Noise(block.boxes.gain[:, None], block.boxes.readout[:, None], stage.model_error, problem.counting)
        )
        weights.append(torch.ones(len(block.boxes), dtype=torch.float64))
    problem.leave_out(gathered(failures))
    parameters.release(_free(parameters, stage, problem.left_out))
    if not stage.free_scales:
        find_amplitudes(blocks, parameters)
    errors = None if stage.errors is None else SpotErrors(*stage.errors)
    objective = PixelObjective(blocks, noise, weights, free_scales=stage.free_scales, errors=errors)
    if stage.name != "robust":
        return objective
    fits = objective.fits(parameters)
    fits = [wary(block, fit, stage.model_error) for block, fit in zip(blocks, fits, strict=True)]
    weights = robust_weights(blocks, fits)
    return PixelObjective(blocks, noise, weights, free_scales=stage.free_scales, errors=errors, held=fits)


def _block_of(problem: Problem, stage: Stage, evidence: Evidence, parameters: ParameterSet, most: int | None) -> Block:
    """The block of one experiment. Raises DataError where it has no pixels."""
    plan = (bright_plan if stage.predicted else observed_plan)(problem, evidence, parameters)
    if stage.predicted:
        plan = of_refined(plan, parameters, problem.scene.structure_factors)
    problem.stacks[evidence.expt.index].fetch(plan)  # all of them: the stage itself follows where a few are asked
    background = background_kind(problem, evidence, half_widths(problem))
    return make_block(problem, evidence, plan[np.arange(len(plan))[:most]], background, stage.oversample)


def _free(parameters: ParameterSet, stage: Stage, left_out: Collection[int]) -> set[int]:
    """Which parameters ``stage`` moves: scales where they are not the spots' own; no shapes where spots have others;
    none of crystals that are ``left_out``."""
    rows = [(i, p) for i, p in enumerate(parameters.parameters_) if p.block not in left_out]
    wanted = [(i, p.kind) for i, p in rows if p.free]
    if stage.errors is not None:
        wanted = [(i, kind) for i, kind in wanted if not kind.told_by_shapes_alone]
    if stage.free_scales:
        wanted = [(i, kind) for i, kind in wanted if not kind.told_by_brightness_alone]
    return {i for i, _ in wanted}


def next_stage(problem: Problem, stage: Stage, objective: PixelObjective, parameters: ParameterSet) -> Stage | None:
    """What follows a converged ``stage``; None when it was the last. Says why in the journal."""
    if stage.name == "robust":
        return None if stage.weighed_anew else replace(stage, weighed_anew=True)
    fits = objective.fits(parameters)
    z2, _ = misfit(objective, parameters, fits)
    hopeless = z2 >= _HOPELESS
    if stage.name == "spots" and stage.model_error == 0 and not stage.sampled and not hopeless:
        asked = _asked(problem, stage, parameters)
        if asked.oversample != stage.oversample:
            return asked
    if stage.name == "spots" and problem.scene.has_amplitudes and _may_share_scale(problem, hopeless=hopeless):
        following = _with_amplitudes(problem, stage, objective, fits, parameters)
        if following is not None:
            return following
    if stage.loose:
        return replace(stage, loose=False)
    if stage.name == "frame" and problem.settings.parameters.scale == "auto" and z2 >= _MISFIT:
        said = (
            f"every spot keeps a scale of its own: one for all leaves a mean squared residual of {z2:.2g} of the noise"
        )
        problem.journal.say("one_scale_given_up", said, "choice", mean_z2=z2)
        return replace(stage, name="again", free_scales=True, predicted=False)
    if problem.settings.loss.kind in ("poisson", "gaussian") or (problem.settings.loss.kind == "auto" and z2 < _MISFIT):
        return None
    return _robust(problem, stage, z2, parameters)


def _may_share_scale(problem: Problem, *, hopeless: bool) -> bool:
    """Whether to try one scale an experiment: where asked for, or where the shapes are not ``hopeless``ly wrong."""
    wish = problem.settings.parameters.scale
    return wish == "frame" or (wish == "auto" and not hopeless)


def _robust(problem: Problem, stage: Stage, z2: float, parameters: ParameterSet) -> Stage:
    """The stage for spots that are not their model. It begins with the geometry of their positions."""
    if problem.moved_by_positions:
        with torch.no_grad():
            parameters.values.copy_(problem.by_positions)
    robust = replace(stage, name="robust", errors=spread_of_spots(problem, parameters))
    error = problem.settings.loss.model_error
    if error is None:
        _, error = misfit(build(problem, robust, parameters), parameters)
    assert robust.errors is not None
    said = (
        f"robust: under the spots the mean squared residual is {z2:.2g} of the noise; every spot may lie "
        f"{robust.errors[0]:.2f} px and {robust.errors[1]:.2f} frames from its place and have a shape wrong by "
        f"{100 * error:.0f} %"
    )
    numbers = {"shift_px": robust.errors[0], "delay_frames": robust.errors[1], "model_error": error}
    problem.journal.say("robust", said, "choice", mean_z2=z2, **numbers)
    return replace(robust, model_error=error)


def spread_of_spots(problem: Problem, parameters: ParameterSet) -> tuple[float, float, float]:
    """By how much single spots are off: pixels, frames, and the relative width that the model may miss."""
    positions = problem.positions(fitted=True)
    positions.estimate_spread(parameters)
    pixels, frames = torch.stack(listed(positions.spread)).median(0).values[[0, 2]].tolist()
    return pixels, frames, _BROADENING


def _with_amplitudes(
    problem: Problem, stage: Stage, objective: PixelObjective, fits: Sequence[BoxFit], parameters: ParameterSet
) -> Stage | None:
    """The stage with one scale an experiment, where the amplitudes explain the spots or the user asks for it."""
    scatter, medians = scale_scatter(objective.blocks, fits)
    if medians and (problem.settings.parameters.scale == "frame" or scatter <= _TRUSTED_SCATTER):
        _set_scales(parameters, medians)
        said = f"one scale a crystal: the spots' own scales scatter by {100 * scatter:.1f} % about the amplitudes'"
        problem.journal.say("one_scale", said, "choice", scatter=scatter)
        return replace(stage, name="frame", free_scales=False, predicted=True, loose=False)
    said = f"every spot keeps a scale of its own: they scatter by {100 * scatter:.0f} % about the amplitudes'"
    problem.journal.say("a_scale_a_spot", said, "choice", scatter=scatter)
    return None


def _asked(problem: Problem, stage: Stage, parameters: ParameterSet) -> Stage:
    """``stage`` with the sampling that explains the pixels best; as it is where none explains them, yet."""
    losses = _losses_by_sampling(problem, stage, parameters)
    if min(losses.values(), default=0.0) == float("inf"):
        return stage
    return replace(stage, sampled=True, oversample=_best_sampling(problem, stage, losses))


def sampling(problem: Problem, stage: Stage, parameters: ParameterSet) -> int | None:
    """The sub-pixels a side that explain the brightest spots best, where they plainly do; else those of ``stage``.

    Pixels of a detector integrate, and any fine sampling does for them; simulated ones hold what their program sampled.
    """
    return _best_sampling(problem, stage, _losses_by_sampling(problem, stage, parameters))


def _losses_by_sampling(problem: Problem, stage: Stage, parameters: ParameterSet) -> dict[int, float]:
    """The loss of each number of sub-pixels a side after a short fit of its own from the current values.

    Infinite where it does not explain the pixels; empty where the number is stated and there is nothing to ask.
    """
    if problem.settings.render.oversample is not None:
        return {}
    now, losses, free = parameters.values.detach().clone(), dict.fromkeys((1, 2, 3), float("inf")), [*parameters.free]
    asked = replace(problem, evidence=_enough(problem))
    current = stage.oversample or auto_oversample(problem)
    for count in sorted(losses, key=lambda count: count != current):
        objective = build(asked, replace(stage, oversample=count), parameters, _ASKED)
        loss, left = _short_fit(objective, parameters), misfit(objective, parameters)[0]
        losses[count] = loss if left < _MISFIT else float("inf")
        with torch.no_grad():
            parameters.values.copy_(now)
        if left >= _HOPELESS:
            break
    parameters.release(free)
    return losses


def _enough(problem: Problem) -> tuple[Evidence, ...]:
    """The first experiments that together hold _ASKED spots: an experiment costs more than the spots on it."""
    number = np.cumsum([len(item.observed.fitted()) for item in problem.evidence])
    return problem.evidence[: int(np.searchsorted(number, _ASKED)) + 1]


def _best_sampling(problem: Problem, stage: Stage, losses: dict[int, float]) -> int | None:
    """The number of sub-pixels of the least of ``losses``, where it is plainly less; else that of ``stage``."""
    if not losses:
        return stage.oversample
    best = min(losses, key=losses.__getitem__)
    if not losses[stage.oversample or auto_oversample(problem)] - losses[best] > _CLEARLY_BETTER:
        return stage.oversample
    said = f"render.oversample = {best}: it explains the pixels best, of 1, 2 and 3"
    problem.journal.say("sampling_from_pixels", said, "choice", oversample=best, losses=list(losses.values()))
    return best


def _short_fit(objective: PixelObjective, parameters: ParameterSet) -> float:
    """The loss after a few steps of the solver; fewer where they gain little."""
    solver = LevenbergMarquardt(1e-4)
    for _ in range(6):
        step = solver.step(objective, parameters)
        if step.loss_before - step.loss_after < 1e-3 * step.loss_before:
            break
    return step.loss_after


def _set_scales(parameters: ParameterSet, medians: dict[int, float]) -> None:
    """Start each experiment's scale at the median of its spots', the mean of these where experiments share one."""
    found: dict[int, list[float]] = {}
    for expt, median in medians.items():
        found.setdefault(parameters.index_of(SCALE, expt), []).append(median)
    with torch.no_grad():
        for index, of_experiments in found.items():
            parameters.values[index] = sum(of_experiments) / len(of_experiments)
        parameters.values.copy_(parameters.clamp(parameters.values.detach()))
