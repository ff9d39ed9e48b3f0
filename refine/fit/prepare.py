"""From settings to a problem: read, find spots, index them, and bring the geometry to within a pixel."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nbtorch.errors import DataError, NbtorchError
from nbtorch.io import ExperimentList, read_expt
from refine.fit.indexing_choice import settled
from refine.fit.problem import Problem, model_tensors, position_block
from refine.frames.assign_frames import Missing, assign_frames
from refine.frames.frame_stack import FrameReader, FrameStack
from refine.indexing.assignment import Evidence, assign
from refine.least_squares.levenberg_marquardt import LevenbergMarquardt
from refine.parameters.amplitudes import NAMES, amplitude_parameters, told_from_scales, with_scale_held
from refine.parameters.moved_experiment import moved_experiment
from refine.parameters.parameter_set import Parameter, ParameterSet
from refine.parameters.physical import (
    at_knots,
    beam_parameters,
    cell_parameters,
    detector_parameters,
    mosaic_parameters,
    orientation_parameters,
    scale_parameter,
    size_parameters,
    spread_names,
)
from refine.parameters.restraints import structured, told_by_positions
from refine.parameters.shared_crystals import of_shared_crystals
from refine.positions.objective import PositionObjective
from refine.positions.position_block import PositionBlock
from refine.positions.scan_varying import Kinds, carry_over, choose, too_short
from refine.processes import count, dealt, gathered, listed
from refine.records.journal import Journal
from refine.records.outcome import FrameRow, Iteration
from refine.scene.entries import entries_to_fit
from refine.scene.scene import FitExperiment, Scene, build_scene, shared_crystals
from refine.settings.fit_settings import FitSettings
from refine.spots.spot_list import read_spot_list
from refine.spots.survey import Survey, survey
from refine.spots.widths import Widths, measure_widths

_STRAY = 6.0
_STRAY_HELDOUT = 3.0  # pixels
_STRAY_FRAMES = 3.0  # as much as a rocking curve cut by the scan's end can pretend to
_SETTLED, _UNMOVED = 0.3, 1.0  # joint sigmas that a step, and a whole round, need not move the positions' fit by
_FEW_SPOTS = 60  # below it the three sizes of a crystal are one


def prepare(settings: FitSettings, journal: Journal) -> Problem:
    """Read everything, find and index spots, fit their positions. Raises NbtorchError for what a user can put right."""
    if settings.parameters.amplitudes:
        settings = replace(settings, parameters=replace(settings.parameters, scale="frame"))
    experiments = read_expt(settings.data.experiment)
    chosen = entries_to_fit(experiments, *assign_frames(experiments, settings.data), settings.data)
    journal.add(*chosen.notes)
    document, missing = chosen.experiments, chosen.missing
    scene = build_scene(document, chosen.frames, settings, journal)
    started = time.perf_counter(), time.process_time()
    surveys, scene, failed = _survey_all(scene, missing, settings, journal)
    evidence = _index_all(scene, surveys, settings, journal)
    evidence, coarse, history = _positions_stage(scene, evidence, surveys, constant(settings), journal)
    evidence, coarse, rivals = settled(evidence, coarse, settings, lambda items: _blocks(list(items), settings))
    if any(rival.chosen for rival in rivals):
        evidence = _without_strays(evidence, coarse, settings)
    settings = _decide_drift(scene, [e for e in evidence if e.expt.index in surveys], coarse, settings, journal)
    if settings.parameters.scan_varying:
        evidence, coarse, more = _positions_stage(scene, evidence, surveys, settings, journal, coarse)
        history += [replace(row, iteration=len(history) + row.iteration) for row in more]
    widths = measure_widths([item.expt for item in evidence], [item.observed for item in evidence])
    settings = _with_estimates(settings, widths, evidence, journal)
    scene, evidence = _rebuilt(document, scene, evidence, settings)
    parameters = parameter_set(scene, settings, seen=evidence)
    journal.add(*told_from_scales(parameters.parameters_))
    moved = carry_over(coarse, parameters) if history else ()
    start = _start_positions(evidence, parameters, settings)
    counting = gathered({number: seen.look.counts for number, seen in surveys.items()})[scene.experiments[0].index]
    noise = {number: seen.noise(settings.data, counting) for number, seen in surveys.items()}
    problem = Problem(
        settings=settings,
        scene=scene,
        evidence=tuple(evidence),
        stacks={number: seen.stack for number, seen in surveys.items()},
        noise=noise,
        counting=counting,
        widths=widths,
        parameters=parameters,
        history=tuple(history),
        start_px=tuple(start),
        rms_start=_rms_at_start(evidence, start),
        by_positions=parameters.values.detach().clone(),
        moved_by_positions=moved,
        failed=tuple(failed),
        journal=journal,
        rivals=rivals,
        amplitudes_given=scene.has_amplitudes,
    )
    return replace(problem, wall_s=time.perf_counter() - started[0], cpu_s=time.process_time() - started[1])


def _survey_all(
    scene: Scene, missing: Missing, settings: FitSettings, journal: Journal
) -> tuple[dict[int, Survey], Scene, list[FrameRow]]:
    """What is on the frames of this process's share of the experiments, those that are left, and those that are not.

    An experiment that cannot be read, or whose frame is ``missing``, is left out, and told, while others remain.
    """
    surveys: dict[int, Survey] = {}
    failures: dict[int, NbtorchError] = {}
    told = Journal()
    reader = FrameReader(scene.experiments[0].entry.detector, settings.data.mask)
    for expt in dealt(scene.experiments):
        try:
            surveys[expt.index] = survey(expt, FrameStack(expt.images, reader, told), settings.data)
        except NbtorchError as problem:
            failures[expt.index] = problem
    for number, error in missing.items():
        journal.say("frame_left_out", f"left out: {error}", experiment=number)
    journal.add(*listed(told.entries))
    for seen in surveys.values():
        seen.stack.journal = journal
    left = gathered(dict.fromkeys(surveys, True))
    failures = gathered(failures)
    if not left:
        raise next(iter(failures.values()))
    images = {number: scene.document.entries[number].images for number in missing}
    images |= {expt.index: expt.images for expt in scene.experiments}
    failed = [
        FrameRow(number, str(images[number][0]), 0, None, None, ok=False, message=str(error))
        for number, error in sorted((missing | failures).items())
    ]
    _say_how_shared(len(left), journal)
    return surveys, replace(scene, experiments=tuple(s for s in scene.experiments if s.index in left)), failed


def _say_how_shared(expts: int, journal: Journal) -> None:
    if count() > expts:
        said = (
            f"{count()} processes share {expts} still{'s' * (expts > 1)} or scan{'s' * (expts > 1)}, and one is never "
            f"divided: {count() - expts} of them will have nothing to do. trainer.devices={expts} does the same"
        )
        journal.say("idle_processes", said, processes=count(), experiments=expts)
    elif count() > 1:
        said = f"{count()} processes share {expts} stills or scans"
        journal.say("shared_by_processes", said, processes=count(), experiments=expts)


def _index_all(scene: Scene, surveys: dict[int, Survey], settings: FitSettings, journal: Journal) -> list[Evidence]:
    """Spots of every experiment with their indices from the start model. Raises DataError where there are none."""
    given = None
    if settings.data.spots is not None:
        framed = len(scene.experiments) > 1 or not scene.experiments[0].still
        given = read_spot_list(settings.data.spots, scene.detector.config, framed=framed)
        given = given.of_frames(settings.data.frame_range)
    mine = []
    for expt in (expt for expt in scene.experiments if expt.index in surveys):
        spots = surveys[expt.index].spots
        if given is not None:
            spots = given.of_experiment(spots, expt.index, still=expt.still)
        mine.append(assign(expt, spots, settings, expt.model))
    evidence = _of_all(mine, scene.experiments)
    found, indexed = sum(len(item.spots) for item in evidence), sum(len(item.observed) for item in evidence)
    if found == 0:
        raise DataError(
            f"{sum(len(expt.images) for expt in scene.experiments)} frames",
            "no spot stands out of them",
            "Look at the frames",
        )
    if indexed == 0:
        raise DataError(
            f"{found} spots",
            "the start geometry predicts no reflection where any of them is",
            "Check data.experiment against the frames: draw both with nb-refine --check",
        )
    journal.say("spots_indexed", f"found {found} spots, {indexed} with an index", found=found, indexed=indexed)
    return evidence


def _of_all(mine: Sequence[Evidence], expts: Sequence[FitExperiment]) -> list[Evidence]:
    """The evidence of all processes for ``expts``, where ``mine`` is this one's."""
    told = gathered({item.expt.index: (item.spots, item.observed, item.rejected) for item in mine})
    return [Evidence(expt, *told[expt.index]) for expt in expts]


def _start_positions(evidence: list[Evidence], parameters: ParameterSet, settings: FitSettings) -> list[Tensor]:
    """Where the given geometry predicted the observed spots, [n, 2] an experiment; NaN where it did not."""
    now = parameters.values.detach().clone()
    every = PositionObjective([position_block(e.expt, e.observed, settings.detector.parallax) for e in evidence])
    with torch.no_grad():
        parameters.values.copy_(parameters.start)
        found = every.residuals(parameters)
        parameters.values.copy_(now)
    return [
        torch.where(valid[:, None], (block.target - residual)[:, :2], torch.nan)
        for block, (residual, valid) in zip(every.blocks, found, strict=True)
    ]


def _rms_at_start(evidence: list[Evidence], start: list[Tensor]) -> tuple[float, float]:
    rows = [
        torch.stack([item.observed.fast, item.observed.slow], dim=1) - px
        for item, px in zip(evidence, start, strict=True)
    ]
    both = torch.cat(rows) if rows else torch.full((1, 2), torch.nan, dtype=torch.float64)
    both = both[torch.isfinite(both).all(1)]
    fast, slow = (both**2).mean(0).sqrt().tolist()
    return fast, slow


def parameter_set(
    scene: Scene, settings: FitSettings, *, coarse: bool = False, seen: Sequence[Evidence] = ()
) -> ParameterSet:
    """The parameters of all experiments; ``coarse`` holds those that positions do not tell, ``seen`` brings amplitudes.

    Raises ConfigError where what the user says of single ones cannot be meant.
    """
    flags, later = settings.parameters, []
    if coarse:
        # what the spots' widths will set free, and what there will be then
        flags = replace(flags, n_cells=flags.n_cells or settings.crystal.n_cells is None)
        later = [name for expt in scene.experiments for name in spread_names(expt.index)]
        later += [NAMES] * flags.amplitudes
    rows: list[Parameter] = detector_parameters(scene.detector, flags)
    rows += beam_parameters(scene.experiments[0].model.beam, flags)
    for expt in scene.experiments:
        crystal = expt.model.crystal
        knots = dict.fromkeys(flags.scan_varying, crystal.config.knots)
        rows += at_knots(orientation_parameters(expt.index, flags.orientation), knots.get("orientation", ()))
        of_cell = cell_parameters(expt.index, crystal, replace(settings, parameters=flags))
        rows += at_knots(of_cell, knots.get("cell", ()))
        rows += size_parameters(expt.index, crystal, flags)
        rows += mosaic_parameters(expt.index, crystal, flags.mosaic_spread)
        rows.append(scale_parameter(expt.index, free=True))
    if flags.amplitudes and seen:
        hkl = torch.cat([item.observed.fitted().hkl for item in seen])
        group = scene.experiments[0].model.crystal.config.space_group
        rows += amplitude_parameters(scene.structure_factors, hkl, group, flags)
    rows = of_shared_crystals(rows, shared_crystals(scene))
    rows = structured(rows, settings.parameters, later)
    rows = with_scale_held(rows) if flags.amplitudes and seen else rows
    return ParameterSet(told_by_positions(rows) if coarse else rows, model_tensors(scene))


def constant(settings: FitSettings) -> FitSettings:
    """``settings`` with crystals that do not drift."""
    return replace(settings, parameters=replace(settings.parameters, scan_varying=()))


def _decide_drift(
    scene: Scene, evidence: list[Evidence], coarse: ParameterSet, settings: FitSettings, journal: Journal
) -> FitSettings:
    """``settings`` with those curves alone that the positions determine.

    ``evidence`` is this process's share; the decision is that of all.
    """
    asked, flags = settings.parameters.scan_varying, settings.parameters
    if not asked or not settings.solver.coarse:
        return settings
    if not any(expt.model.crystal.drifts for expt in scene.experiments):
        decision = too_short(asked, flags.knot_spacing)
    else:

        def make(kinds: Kinds) -> ParameterSet:
            chosen = replace(flags, scan_varying=kinds)
            return parameter_set(scene, replace(settings, parameters=chosen), coarse=True)

        decision = choose(_blocks(evidence, settings), coarse, asked, make)
    journal.add(decision.reason)
    return replace(settings, parameters=replace(flags, scan_varying=decision.kinds))


def _positions_stage(
    scene: Scene,
    evidence: list[Evidence],
    held: Collection[int],
    settings: FitSettings,
    journal: Journal,
    start: ParameterSet | None = None,
) -> tuple[list[Evidence], ParameterSet, list[Iteration]]:
    """Rounds of a robust fit of positions from the values of ``start``, spots being assigned anew after each.

    ``held``: the numbers of the experiments that are this process's share.
    """
    parameters = parameter_set(scene, settings, coarse=True)
    if start is not None:
        carry_over(start, parameters)
    history: list[Iteration] = []
    near = False
    if not settings.solver.coarse or not parameters.free:
        return evidence, parameters, history
    for round_ in range(settings.solver.coarse_rounds):
        mine = [item for item in evidence if item.expt.index in held]
        objective = PositionObjective(_blocks(mine, settings))
        objective.estimate_spread(parameters)
        solver, moved = LevenbergMarquardt(), 0.0
        for _ in range(8):
            step = solver.step(objective, parameters)
            fast, slow = objective.rms(parameters)
            history.append(Iteration(len(history), "positions", step.loss_after, fast, slow, step.damping, step.move))
            moved = max(moved, step.move)
            if not step.accepted or step.move < _SETTLED:
                break
        # once the positions fit to a pixel, a wide search would only find indices by chance
        nearly, near = near, fast**2 + slow**2 < 1
        if round_ > 0 and near == nearly and moved < _UNMOVED:
            break  # the spots' indices would be the same again
        mine = [assign(e.expt, e.spots, settings, moved_experiment(e.expt, parameters), near=near) for e in mine]
        assigned = _of_all(mine, scene.experiments)
        evidence = [a if len(a.observed) else b for a, b in zip(assigned, evidence, strict=True)]
    mine = _without_strays([item for item in evidence if item.expt.index in held], parameters, settings)
    evidence = _of_all(mine, scene.experiments)
    fast, slow = PositionObjective(_blocks(mine, settings)).rms(parameters)
    spots = sum(len(e.observed) for e in evidence)
    said = f"positions: {spots} spots, rms {fast:.2f}, {slow:.2f} px (fast, slow)"
    journal.say("positions_fitted", said, spots=spots, rms_px=[fast, slow])
    return evidence, parameters, history


def _blocks(evidence: list[Evidence], settings: FitSettings) -> list[PositionBlock]:
    """The positions of the spots that the fit may see."""
    return [position_block(e.expt, e.observed.fitted(), settings.detector.parallax) for e in evidence]


def _without_strays(items: list[Evidence], parameters: ParameterSet, settings: FitSettings) -> list[Evidence]:
    """``items`` without the spots that stayed far from their predictions: their indices are wrong, or they are no
    spots.

    Far is six times the experiment's own spread, and never less than a pixel. Held-out spots are to be scored: of them
    only those go that cannot be the reflection, by frames or by more than three pixels.
    """
    seen = PositionObjective(_blocks(items, settings))
    seen.estimate_spread(parameters)
    every = PositionObjective([position_block(e.expt, e.observed, settings.detector.parallax) for e in items])
    each = zip(items, seen.spread, every.blocks, every.residuals(parameters), strict=True)
    return [_close(item, spread, *left, block.spindle_share) for item, spread, block, left in each]


def _close(item: Evidence, spread: Tensor, residual: Tensor, valid: Tensor, spindle_share: Tensor) -> Evidence:
    """``item`` without its spots whose ``residual`` [n, 3] is far out of ``spread`` [3]; as it is if none were left."""
    reach = torch.clamp(_STRAY * spread[:2], min=1.0)
    late = (residual[:, 2].abs() * spindle_share > _STRAY_FRAMES) & (not item.expt.still)
    far = (residual[:, :2].abs() > reach).any(1) | late | ~valid
    another = (residual[:, :2].abs() > _STRAY_HELDOUT).any(1) | late | ~valid
    stray = torch.where(item.observed.heldout, another & far, far)
    if bool(stray.all()):
        return item
    distance = residual[:, :2].norm(dim=1)
    reasons = [
        (int(item.observed.found[i]), f"{float(distance[i]):.1f} px from its prediction")
        for i in torch.nonzero(stray)[:, 0].tolist()
    ]
    return replace(item, observed=item.observed[~stray], rejected=(*item.rejected, *reasons))


def _with_estimates(settings: FitSettings, widths: Widths, evidence: list[Evidence], journal: Journal) -> FitSettings:
    """``settings`` with the crystal's size and mosaic spread as the spots tell them."""
    crystal, flags = settings.crystal, settings.parameters
    if crystal.n_cells is None:
        cells = ", ".join(f"{n:.1f}" for n in widths.n_cells)
        said = f"crystal.n_cells = {cells}: from the spots' width, rms {widths.pixel:.2f} px"
        journal.say("n_cells_from_width", said, "choice", n_cells=list(widths.n_cells), width_px=widths.pixel)
        crystal = replace(crystal, n_cells=widths.n_cells)
        if not flags.n_cells:
            said = "crystal.n_cells is refined: an estimate of the spots' width is no measurement"
            journal.say("n_cells_freed", said, "choice")
            flags = replace(flags, n_cells=True)
    scan = any(not item.expt.still for item in evidence)
    if crystal.mosaic_spread is None and scan:
        said = f"crystal.mosaic_spread = {widths.mosaic_spread:.3f}°: from the spots' width over the frames"
        journal.say("mosaic_spread_from_width", said, "choice", mosaic_spread_deg=widths.mosaic_spread)
        # a free one begins where spots are plainly broadened: the span of a spread grows with its start
        spread = max(widths.mosaic_spread, 0.03) if flags.mosaic_spread else widths.mosaic_spread
        crystal = replace(crystal, mosaic_spread=spread)
    elif crystal.mosaic_spread is None and flags.mosaic_spread:
        crystal = replace(crystal, mosaic_spread=0.05)
        said = "crystal.mosaic_spread = 0.05° to start with: a still does not tell it from a width"
        journal.say("mosaic_spread_assumed", said, "assumption", mosaic_spread_deg=0.05)
    spots = sum(len(item.observed) for item in evidence) / len(evidence)
    if flags.n_cells and flags.n_cells_tie == "independent" and spots < _FEW_SPOTS:
        flags = replace(flags, n_cells_tie="size")
        said = f"the crystal has one size along all axes: {spots:.0f} spots do not tell three"
        journal.say("one_size", said, "choice", spots_per_experiment=spots)
    return replace(settings, crystal=crystal, parameters=flags)


def _rebuilt(
    document: ExperimentList, scene: Scene, evidence: list[Evidence], settings: FitSettings
) -> tuple[Scene, list[Evidence]]:
    """The scene with the estimated crystals in it, and the evidence that belongs to its experiments."""
    entries = {expt.index: expt.images for expt in scene.experiments}
    fresh = build_scene(document, entries, settings, Journal(), scene.structure_factors)
    return fresh, [replace(item, expt=expt) for item, expt in zip(evidence, fresh.experiments, strict=True)]
