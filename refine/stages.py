"""The stages of a pixel fit: which shoeboxes, whose scales, which noise. Each begins where the one before converged.

"spots": the observed spots, each with its own scale. "frame": every reflection that the amplitudes make bright enough,
one scale a shot. "again": back to a scale a spot, where one for all leaves more than noise. "robust": like the stage
before, with an error of the spots' shapes in the variance and spots that do not fit weighted down; for data that are
not their model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nbtorch.config import Exposure, RenderSettings
from nbtorch.errors import DataError
from nbtorch.render.excited import excited_reflections
from refine.block import Block
from refine.evidence import Evidence, moved_experiment
from refine.losses import Noise, huber_weight
from refine.nuisance import BoxFit
from refine.objective import Objective
from refine.parameters import ParameterSet
from refine.problem import Problem, position_block
from refine.processes import gathered, listed, total
from refine.shoeboxes import BoxPlan, cut, plan_boxes
from refine.solver import LevenbergMarquardt
from refine.spot_errors import SpotErrors

_MISFIT = 1.5  # mean z² under the spots beyond which the shapes, not the counts, limit the fit
_TRUSTED_SCATTER = 0.25  # median relative scatter of the spots' scales up to which amplitudes are worth a try
_HUBER = 2.0
_CLEARLY_BETTER = 4.0  # of the deviance: odds of e²
_HOPELESS = 8.0  # and beyond which no sampling and no amplitudes will mend it
_BROADENING = 0.3  # of ln(width), by which spots differ where their shape is not the model's
_SHAPES = ("n_a", "n_b", "n_c", "mosaic_spread", "mosaic_spread_a", "mosaic_spread_b", "mosaic_spread_c", "bandwidth")
_ASKED, _ASKED_SHOTS = 40, 2  # spots of each shot, and shots, that are asked how they were sampled


@dataclass(frozen=True)
class Stage:
    """What a stage fits; plain values, so that a checkpoint can hold it."""

    name: str
    free_scales: bool = True
    model_error: float = 0.0
    predicted: bool = False  # boxes on predicted reflections rather than on observed spots
    oversample: int | None = None  # sub-pixels a side; None: by the width of the spots
    sampled: bool = False  # whether the pixels have been asked how they were sampled
    errors: tuple[float, float, float] | None = None  # of single spots: see refine.spot_errors.SpotErrors
    weighed_anew: bool = False  # whether a robust stage has the weights of a model that is a robust stage's


def first_stage(problem: Problem) -> Stage:
    """The stage that every fit begins with."""
    error = problem.settings.loss.model_error
    return Stage("spots", model_error=error or 0.0)


def half_widths(problem: Problem) -> tuple[int, int]:
    """Half widths of the boxes in pixels and frames."""
    across = problem.settings.loss.box_half_width or int(np.clip(np.ceil(3.5 * problem.widths.pixel + 1.5), 4, 15))
    return across, int(np.clip(np.ceil(3.0 * problem.widths.frame + 0.5), 1, 30))


def phi_steps(problem: Problem, evidence: Evidence) -> int:
    """Spindle steps a frame: no further apart than the rms of the rocking curve, which smears them."""
    if problem.settings.render.phi_steps is not None:
        return problem.settings.render.phi_steps
    scan = evidence.shot.entry.scan
    if evidence.shot.still or scan is None:
        return 1
    return int(np.clip(np.ceil(abs(scan.oscillation) / max(problem.widths.rocking, 1e-3)), 2, 10))


def background_kind(problem: Problem, evidence: Evidence, half: tuple[int, int]) -> str:
    """A plane a frame where a box holds enough background for one, a constant in all its frames where it does not."""
    kind = problem.settings.loss.background
    counts = float(np.median(evidence.spots.background)) * (2 * half[0] + 1) ** 2 if len(evidence.spots) else 0.0
    gain = float(np.median(problem.noise[evidence.shot.index][0]))
    if kind == "auto":
        kind = "plane" if counts / gain >= 20 else "constant"
    return "constant" if kind == "constant" else "plane"


def observed_plan(problem: Problem, evidence: Evidence, parameters: ParameterSet) -> BoxPlan:
    """Boxes on the predicted places of the spots that the fit may see."""
    seen = evidence.observed.fitted()
    centre, valid = predicted_centres(problem, evidence, parameters)
    centre = centre[~evidence.observed.heldout.numpy()]
    keep = valid[~evidence.observed.heldout.numpy()]
    hkl, panel = seen.hkl.numpy()[keep], seen.panel.numpy()[keep]
    n_frames = len(evidence.shot.images)
    plan, _ = plan_boxes(problem.detector, hkl, panel, centre[keep], half_widths(problem), n_frames)
    return plan


def predicted_centres(problem: Problem, evidence: Evidence, parameters: ParameterSet) -> tuple[np.ndarray, np.ndarray]:
    """Predicted (fast, slow, frame) [n, 3] of the observed spots at the current values, and their validity [n]."""
    block = position_block(evidence.shot, evidence.observed, problem.settings.detector.parallax)
    with torch.no_grad():
        value, valid = block.predicted(parameters.changes(evidence.shot.index))
    centre = value.numpy().copy()
    if evidence.shot.still:
        centre[:, 2] = 0.5
    return centre, valid.numpy() & np.isfinite(centre).all(1)


def bright_plan(problem: Problem, evidence: Evidence, parameters: ParameterSet) -> BoxPlan:
    """Boxes on every reflection that should give at least ``loss.min_counts`` photons at the crystal's scale."""
    experiment = moved_experiment(evidence.shot, parameters)
    exposure = evidence.shot.exposures(1)[0]
    scan = evidence.shot.entry.scan
    if not evidence.shot.still and scan is not None:
        exposure = Exposure(scan.phi_start, scan.oscillation * len(evidence.shot.images))
    reach = np.degrees(2.5 * 0.4 / min(problem.widths.n_cells)) / 10 + 0.3
    dmin = problem.settings.data.dmin or None
    excited = excited_reflections(experiment, exposure, dmin=dmin, margin=float(reach))
    frame = np.full(len(excited.panel), 0.5)
    if not evidence.shot.still and scan is not None:
        frame = (excited.phi - scan.phi_start) / scan.oscillation
    centre = np.stack([excited.fast, excited.slow, frame], axis=1)
    half = half_widths(problem)
    plan, _ = plan_boxes(problem.detector, excited.hkl, excited.panel, centre, half, len(evidence.shot.images))
    if len(plan) == 0:
        raise DataError("the amplitudes", "no reflection is predicted on the detector", "Check data.experiment")
    block = make_block(problem, evidence, plan, "constant")
    expected = block.model(parameters).sum(1)
    held = {tuple(row) for row in evidence.observed.hkl[evidence.observed.heldout].tolist()}
    seen = np.array([tuple(row) not in held for row in plan.hkl.tolist()])
    return plan[(expected.numpy() >= problem.settings.loss.min_counts) & seen]


def make_block(
    problem: Problem, evidence: Evidence, plan: BoxPlan, background: str, oversample: int | None = None
) -> Block:
    """The block of ``evidence`` with the shoeboxes of ``plan``."""
    shot, stack = evidence.shot, problem.stacks[evidence.shot.index]
    boxes = cut(plan, stack.counts, stack.valid, problem.noise[shot.index])
    settings = problem.settings.render
    rendering = RenderSettings(
        mode="exact",
        oversample=settings.oversample or oversample or auto_oversample(problem),
        precision=settings.precision,
        backend=settings.backend,
    )
    return Block(
        shot.index, shot.experiment, shot.exposures(phi_steps(problem, evidence)), boxes, rendering, background
    )


def auto_oversample(problem: Problem) -> int:
    """Sub-pixels a side: no further apart than the rms of a spot, 2 or 3.

    A pixel integrates; its centre alone misses 1/12 px² of the spot's variance, which the crystal's size would take on.
    """
    return int(np.clip(np.ceil(1.0 / problem.widths.pixel), 2, 3))


def build(problem: Problem, stage: Stage, parameters: ParameterSet, most: int | None = None) -> Objective:
    """The objective of ``stage`` at the values it begins with, of at most ``most`` boxes a shot, the brightest.

    Of the shots whose frames this process holds. Sets which parameters are free.
    """
    parameters.release(_free(parameters, stage))
    half = half_widths(problem)
    blocks, noise, weights = [], [], []
    for evidence in problem.held:
        plan = (bright_plan if stage.predicted else observed_plan)(problem, evidence, parameters)
        plan = plan[np.arange(len(plan))[:most]]
        background = background_kind(problem, evidence, half)
        block = make_block(problem, evidence, plan, background, stage.oversample)
        blocks.append(block)
        noise.append(
            Noise(block.boxes.gain[:, None], block.boxes.readout[:, None], stage.model_error, problem.counting)
        )
        weights.append(torch.ones(len(block.boxes), dtype=torch.float64))
    errors = None if stage.errors is None else SpotErrors(*stage.errors)
    objective = Objective(blocks, noise, weights, free_scales=stage.free_scales, errors=errors)
    if stage.name != "robust":
        return objective
    fits = [objective.fit_boxes(index, block.model(parameters)) for index, block in enumerate(blocks)]
    fits = [wary(block, fit, stage.model_error) for block, fit in zip(blocks, fits, strict=True)]
    weights = robust_weights(blocks, fits)
    return Objective(blocks, noise, weights, free_scales=stage.free_scales, errors=errors, held=fits)


def _free(parameters: ParameterSet, stage: Stage) -> set[int]:
    """Which parameters ``stage`` moves: scales where they are not the spots' own; no shapes where spots have others."""
    kinds = [(i, p.name.rpartition(".")[2], p.free) for i, p in enumerate(parameters.parameters_)]
    held = _SHAPES if stage.errors is not None else ()
    wanted = {i for i, kind, free in kinds if free and kind != "scale" and kind not in held}
    return wanted if stage.free_scales else wanted | {i for i, kind, _ in kinds if kind == "scale"}


def wary(block: Block, fit: BoxFit, model_error: float) -> BoxFit:
    """``fit`` with the error of shapes counted where the spot is seen as well as where it is expected."""
    noise = torch.where(fit.weight > 0, 1 / fit.weight, 0)
    seen = block.boxes.counts - (fit.total - fit.signal)
    beyond = torch.where(seen > 3 * noise.sqrt(), seen**2 - fit.signal**2, 0).clamp(min=0)
    return fit._replace(weight=torch.where(fit.weight > 0, 1 / (noise + model_error**2 * beyond).clamp(min=1e-300), 0))


def robust_weights(blocks: Sequence[Block], fits: Sequence[BoxFit]) -> list[Tensor]:
    """Huber weights [B] of the boxes of every block, from their reduced chi-square."""
    weights = []
    for block, fit in zip(blocks, fits, strict=True):
        reduced = box_chi_square(block, fit)
        weights.append(huber_weight(reduced / reduced.median().clamp(min=1e-3), _HUBER))
    return weights


def box_chi_square(block: Block, fit: BoxFit) -> Tensor:
    """Mean z² [B] over the pixels under each spot (all its pixels where the spot has no signal)."""
    z2 = (block.boxes.counts - fit.total) ** 2 * fit.weight
    under = _under_spot(block, fit)
    any_under = under.any(1, keepdim=True)
    use = torch.where(any_under, under, block.boxes.valid).to(z2)
    return (z2 * use).sum(1) / use.sum(1).clamp(min=1)


def _under_spot(block: Block, fit: BoxFit) -> Tensor:
    """Pixels [B, Q] whose signal is at least a third of their noise."""
    return block.boxes.valid & (fit.signal**2 * fit.weight > 0.1)


def misfit(objective: Objective, parameters: ParameterSet) -> tuple[float, float]:
    """Mean z² over all pixels under spots, and the model_error that makes up for its excess: m² = Σ(y² − v)/Σs².

    Sums, not a mean of ratios: the faint tails that a Gaussian lacks would else make the bright pixels count for
    nothing.
    """
    sums = torch.zeros(4, dtype=torch.float64)  # pixels, Σz², Σ(y² − v), Σs²
    for index, block in enumerate(objective.blocks):
        fit, held = objective.fit_boxes(index, block.model(parameters)), objective.noise[index].model_error
        under = _under_spot(block, fit)
        y2, s2, weight = ((block.boxes.counts - fit.total) ** 2)[under], (fit.signal**2)[under], fit.weight[under]
        excess = y2 - (1 / weight - held**2 * s2)
        sums += torch.stack([under.sum(), (y2 * weight).sum(), excess.sum(), s2.sum()])
    pixels, z2, beyond, signal = total(sums).tolist()
    if pixels == 0:
        return 1.0, 0.0
    return z2 / pixels, (max(beyond, 0.0) / max(signal, 1e-300)) ** 0.5


def scale_scatter(objective: Objective, parameters: ParameterSet) -> tuple[float, dict[int, float]]:
    """Median relative scatter of the strong boxes' scales about each shot's median, and those medians by shot.

    Without medians where a shot has no strong box.
    """
    found: dict[int, tuple[float, Tensor]] = {}
    for index, block in enumerate(objective.blocks):
        fit = objective.fit_boxes(index, block.model(parameters))
        strong = fit.scale > 10 * fit.scale_sigma
        if int(strong.sum()) < 3:
            strong = fit.scale > 0
        scale = fit.scale[strong]
        if len(scale) == 0:
            found[block.index] = (math.nan, scale)
            continue
        weight = (scale / fit.scale_sigma[strong].clamp(min=1e-300)) ** 2
        order = scale.argsort()
        half = int(torch.searchsorted(weight[order].cumsum(0), 0.5 * weight.sum()))
        median = float(scale[order][min(half, len(scale) - 1)])
        found[block.index] = (median, (scale / median - 1).abs())
    of_all = gathered(found)
    if any(math.isnan(median) for median, _ in of_all.values()):
        return math.inf, {}
    scatter = torch.cat([scatter for _, scatter in of_all.values()])
    return float(scatter.median()), {shot: median for shot, (median, _) in of_all.items()}


def next_stage(problem: Problem, stage: Stage, objective: Objective, parameters: ParameterSet) -> Stage | None:
    """What follows a converged ``stage``; None when it was the last. Says why in ``problem.choices``."""
    if stage.name == "robust":
        return None if stage.weighed_anew else replace(stage, weighed_anew=True)
    z2, _ = misfit(objective, parameters)
    hopeless = z2 >= _HOPELESS
    if stage.name == "spots" and stage.model_error == 0 and not stage.sampled and not hopeless:
        asked = replace(stage, sampled=True, oversample=sampling(problem, stage, parameters))
        if asked.oversample != stage.oversample:
            return asked
    if stage.name == "spots" and problem.scene.has_amplitudes and _may_share_scale(problem, hopeless=hopeless):
        following = _with_amplitudes(problem, stage, objective, parameters)
        if following is not None:
            return following
    if stage.name == "frame" and problem.settings.parameters.scale == "auto" and z2 >= _MISFIT:
        problem.choices.append(
            f"every spot keeps a scale of its own: one for all leaves a mean squared residual of {z2:.2g} of the noise"
        )
        return replace(stage, name="again", free_scales=True, predicted=False)
    if problem.settings.loss.kind in ("poisson", "gaussian") or (problem.settings.loss.kind == "auto" and z2 < _MISFIT):
        return None
    return _robust(problem, stage, z2, parameters)


def _may_share_scale(problem: Problem, *, hopeless: bool) -> bool:
    """Whether one scale a shot is worth a try: where asked for, or where the shapes are not ``hopeless``ly wrong."""
    wish = problem.settings.parameters.scale
    return wish == "frame" or (wish == "auto" and not hopeless)


def _robust(problem: Problem, stage: Stage, z2: float, parameters: ParameterSet) -> Stage:
    """The stage for spots that are not their model. It begins with the geometry of their positions."""
    with torch.no_grad():
        parameters.values.copy_(problem.by_positions)
    robust = replace(stage, name="robust", errors=spread_of_spots(problem, parameters))
    error = problem.settings.loss.model_error
    if error is None:
        _, error = misfit(build(problem, robust, parameters), parameters)
    assert robust.errors is not None
    problem.choices.append(
        f"robust: under the spots the mean squared residual is {z2:.2g} of the noise; every spot may lie "
        f"{robust.errors[0]:.2f} px and {robust.errors[1]:.2f} frames from its place and have a shape wrong by "
        f"{100 * error:.0f} %"
    )
    return replace(robust, model_error=error)


def spread_of_spots(problem: Problem, parameters: ParameterSet) -> tuple[float, float, float]:
    """By how much single spots are off: pixels, frames, and the relative width that the model may miss."""
    positions = problem.positions(fitted=True)
    positions.estimate_spread(parameters)
    pixels, frames = torch.stack(listed(positions.spread)).median(0).values[[0, 2]].tolist()
    return pixels, frames, _BROADENING


def _with_amplitudes(problem: Problem, stage: Stage, objective: Objective, parameters: ParameterSet) -> Stage | None:
    """The stage with one scale a shot, where the amplitudes explain the spots or the user asks for it."""
    scatter, medians = scale_scatter(objective, parameters)
    if medians and (problem.settings.parameters.scale == "frame" or scatter <= _TRUSTED_SCATTER):
        _set_scales(parameters, medians)
        problem.choices.append(
            f"one scale a crystal: the spots' own scales scatter by {100 * scatter:.1f} % about the amplitudes'"
        )
        return replace(stage, name="frame", free_scales=False, predicted=True)
    problem.choices.append(
        f"every spot keeps a scale of its own: they scatter by {100 * scatter:.0f} % about the amplitudes'"
    )
    return None


def sampling(problem: Problem, stage: Stage, parameters: ParameterSet) -> int | None:
    """The sub-pixels a side that explain the brightest spots best, where they plainly do; else those of ``stage``.

    Pixels of a detector integrate, and any fine sampling does for them; simulated ones hold what their program sampled.
    Each number is judged after a short fit of its own from the current values.
    """
    if problem.settings.render.oversample is not None:
        return stage.oversample
    now, losses, free = parameters.values.detach().clone(), {}, list(parameters.free)
    asked = replace(problem, evidence=problem.evidence[:_ASKED_SHOTS])
    for count in (1, 2, 3):
        objective = build(asked, replace(stage, oversample=count), parameters, _ASKED)
        loss = _short_fit(objective, parameters)
        losses[count] = loss if misfit(objective, parameters)[0] < _MISFIT else float("inf")
        with torch.no_grad():
            parameters.values.copy_(now)
    parameters.release(free)
    current = stage.oversample or auto_oversample(problem)
    best = min(losses, key=losses.__getitem__)
    if not losses[current] - losses[best] > _CLEARLY_BETTER:
        return stage.oversample
    problem.choices.append(f"render.oversample = {best}: it explains the pixels best, of 1, 2 and 3")
    return best


def _short_fit(objective: Objective, parameters: ParameterSet) -> float:
    """The loss after a few steps of the solver; fewer where they gain little."""
    solver = LevenbergMarquardt(1e-4)
    for _ in range(6):
        step = solver.step(objective, parameters)
        if step.loss_before - step.loss_after < 1e-3 * step.loss_before:
            break
    return step.loss_after


def _set_scales(parameters: ParameterSet, medians: dict[int, float]) -> None:
    """Start each shot's scale at the median of its spots'."""
    names = [parameter.name for parameter in parameters.parameters_]
    with torch.no_grad():
        for shot, median in medians.items():
            parameters.values[names.index(f"crystal[{shot}].scale")] = median
