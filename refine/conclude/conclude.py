"""From a fit that ended to its outcome."""

from __future__ import annotations

from dataclasses import replace

from refine.conclude.amplitude_rows import split, without_amplitudes
from refine.conclude.box_rows import box_rows
from refine.conclude.correlations import correlation
from refine.conclude.frame_pictures import frame_pictures
from refine.conclude.frame_rows import frame_rows
from refine.conclude.goodness import goodness, with_positions
from refine.conclude.model_values import model_values
from refine.conclude.parameter_rows import parameter_rows
from refine.conclude.refined_models import refined_beams, refined_crystals, refined_detector
from refine.conclude.sigmas import known_sigmas, which_sigmas
from refine.conclude.spot_boxes import spot_boxes
from refine.conclude.spot_rows import radial_rms, rms, spot_rows
from refine.fit import of_all
from refine.fit.judge import judged
from refine.fit.loop import Loop
from refine.fit.mistakes import would_fit
from refine.fit.problem import Problem
from refine.parameters.kinds import AMPLITUDE, SCALE
from refine.parameters.moved_experiment import moved_experiment
from refine.parameters.parameter_set import ParameterSet
from refine.processes import exchange, total_number
from refine.records.journal import JournalEntry, merged
from refine.records.outcome import Outcome, Share
from refine.records.verdict import Verdict

_FISHER_UP_TO = 1.2  # mean z² under the spots up to which the model explains the data, and Fisher's sigmas hold


def outcome(problem: Problem, module: Loop) -> Outcome:
    """Everything there is to report."""
    objective, parameters = module.objective, module.values
    z2, _ = of_all.misfit(objective, objective.fits(parameters))
    explained = z2 <= _FISHER_UP_TO and module.stage.model_error == 0
    drawings = 0 if explained else problem.settings.solver.bootstrap
    known = known_sigmas(problem, module, drawings) if parameters.free else None
    experiments = [moved_experiment(item.expt, parameters) for item in problem.evidence]
    rows = parameter_rows(parameters, known, explained)
    closing = [which_sigmas(known, explained, drawings), *_warnings(problem, parameters, z2)]
    crystal = problem.evidence[0].expt.model.crystal.config
    rows, amplitudes = split(rows, crystal, friedel=problem.settings.parameters.friedel)
    spots = spot_rows(problem, parameters, experiments, box_rows(objective, parameters), module.left_out)
    fit_to_pixels = goodness(objective, parameters, z2, module.stage.name)
    detector_end = refined_detector(experiments[0].detector)
    beams, crystals = refined_beams(problem, experiments), refined_crystals(problem, experiments)
    models = detector_end, list(beams.values()), list(crystals.values())
    found = Outcome(
        parameters=rows,
        undetermined=known.undetermined if known else (),
        weakest=known.weakest if known else None,
        correlation=without_amplitudes(correlation(known), parameters) if known else None,
        amplitudes=amplitudes,
        converged=module.converged,
        message=module.message,
        history=tuple(module.history),
        spots=spots,
        frames=frame_rows(problem, spots, _shared_scales(module), module.left_out),
        frame_pictures=frame_pictures(problem),
        spot_boxes=spot_boxes(objective, parameters),
        goodness=with_positions(fit_to_pixels, radial_rms(spots)),
        detector_start=problem.scene.document.entries[0].detector,
        detector_end=detector_end,
        detectors={item.expt.entry.detector_index: detector_end for item in problem.evidence},
        beams=beams,
        crystals=crystals,
        rms_start_px=problem.rms_start,
        rms_end_px=rms(spots, heldout=False),
        rms_heldout_px=rms(spots, heldout=True),
        solve_wall_s=module.wall_s,
        solve_cpu_s=total_number(module.cpu_s),
        model=model_values(problem, module, rows, models),
        journal=merged(*exchange(module.journal.entries), closing),
        processes=tuple(exchange(Share(tuple(block.index for block in objective.blocks), module.cpu_s))),
    )
    if not problem.settings.advanced.judge:
        return replace(found, verdict=Verdict("not judged"))
    return judged(found, problem, module, would_fit)


def _warnings(problem: Problem, parameters: ParameterSet, z2: float) -> list[JournalEntry]:
    """What a reader should know before trusting the numbers, besides what the parameters' rows say."""
    found = []
    if z2 > 3:
        said = f"the residuals under the spots are not noise: their mean square is {z2:.1f} of it"
        found.append(JournalEntry("residuals_under_spots", said, "warning", {"mean_z2": z2}))
    spots = sum(len(item.observed) for item in problem.evidence)
    free = sum(parameters.parameters_[i].kind != AMPLITUDE for i in parameters.free)
    if 2 * spots < 3 * free:
        said = f"{free} parameters were fitted to {spots} spots"
        found.append(JournalEntry("few_spots", said, "warning", {"parameters": free, "spots": spots}))
    return found


def _shared_scales(module: Loop) -> dict[int, float]:
    """The scales of the crystals by experiment; none where every spot has its own."""
    if module.objective.free_scales:
        return {}
    values = module.values.values.detach().tolist()
    numbers = [item.expt.index for item in module.problem.evidence]
    return {number: values[module.values.index_of(SCALE, number)] for number in numbers}
