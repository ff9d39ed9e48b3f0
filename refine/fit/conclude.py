"""From a fit that ended to its outcome: parameters with their sigmas, spots, frames, pictures, refined models."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from nbtorch.config import BeamConfig, CrystalConfig, DetectorConfig, Mat3
from nbtorch.models import Crystal, Detector, Experiment
from refine.fit import of_all
from refine.fit.amplitude_rows import split, without_amplitudes
from refine.fit.judge import judged
from refine.fit.loop import Loop
from refine.fit.mistakes import would_fit
from refine.fit.problem import Problem
from refine.fit.restraint_rows import followed, limits
from refine.fit.shoebox_choice import predicted_centres
from refine.fit.spread_rows import of_spread
from refine.indexing.assignment import Evidence
from refine.least_squares.bootstrap import bootstrap_sigmas
from refine.least_squares.objective import DataObjective, Joint
from refine.least_squares.uncertainty import Uncertainty, uncertainty
from refine.parameters.gauge import gauge_directions
from refine.parameters.kinds import AMPLITUDE, SCALE
from refine.parameters.moved_experiment import moved_experiment
from refine.parameters.parameter_set import ParameterSet
from refine.pixels.fit_quality import box_chi_square
from refine.processes import exchange, listed, total, total_number
from refine.records.finite import finite
from refine.records.journal import JournalEntry, merged
from refine.records.outcome import (
    Correlation,
    FrameRow,
    Goodness,
    Outcome,
    Pair,
    ParameterRow,
    Share,
    SpotImage,
    SpotRow,
)
from refine.scene.scene import FitExperiment

_FISHER_UP_TO = 1.2  # mean z² under the spots up to which the model explains the data, and Fisher's sigmas hold
_PICTURES = 6
_DEGENERATE = 0.98
_IN_ONE_MATRIX = 200  # parameters: of more, all correlations would grow with their square
_MOST_PAIRS = 50


def outcome(problem: Problem, module: Loop) -> Outcome:
    """Everything there is to report."""
    objective, parameters = module.objective, module.values
    z2, _ = of_all.misfit(objective, objective.fits(parameters))
    explained = z2 <= _FISHER_UP_TO and module.stage.model_error == 0
    drawings = 0 if explained else problem.settings.solver.bootstrap
    known = _uncertainty(problem, module, drawings) if parameters.free else None
    experiments = [moved_experiment(item.expt, parameters) for item in problem.evidence]
    rows = parameter_rows(parameters, known, explained)
    closing = [_which_sigmas(known, explained, drawings), *warnings(problem, module, z2)]
    crystal = problem.evidence[0].expt.model.crystal.config
    rows, amplitudes = split(rows, crystal, friedel=problem.settings.parameters.friedel)
    spots = spot_rows(problem, parameters, module.left_out)
    detector_end = refined_detector(experiments[0].detector)
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
        frames=frame_rows(problem, spots, module),
        images=pictures(problem, module),
        goodness=goodness(problem, module, z2),
        detector_start=problem.scene.document.entries[0].detector,
        detector_end=detector_end,
        detectors={item.expt.entry.detector_index: detector_end for item in problem.evidence},
        beams=refined_beams(problem, experiments),
        crystals=refined_crystals(problem, experiments),
        rms_start_px=problem.rms_start,
        rms_end_px=rms(spots, heldout=False),
        rms_heldout_px=rms(spots, heldout=True),
        solve_wall_s=module.wall_s,
        solve_cpu_s=total_number(module.cpu_s),
        journal=merged(*exchange(module.journal.entries), closing),
        processes=tuple(exchange(Share(tuple(block.index for block in objective.blocks), module.cpu_s))),
    )
    return judged(found, problem, module, would_fit)


def _uncertainty(problem: Problem, module: Loop, drawings: int) -> Uncertainty:
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


def _which_sigmas(known: Uncertainty | None, explained: bool, drawings: int) -> JournalEntry:
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


def parameter_rows(parameters: ParameterSet, known: Uncertainty | None, explained: bool) -> tuple[ParameterRow, ...]:
    """One row a parameter and one for each that follows it; sigmas are Fisher's where all is ``explained``."""
    place = {name: i for i, name in enumerate(known.names)} if known else {}
    bounds, values = parameters.at_bound(), parameters.values.detach().tolist()
    rows = []
    for i, parameter in enumerate(parameters.parameters_):
        free = i in parameters.free
        if parameter.kind == SCALE and not free:
            continue
        sigma = model = drawn = None
        if known is not None and free:
            at = place[parameter.name]
            model = finite(float(known.model[at]))
            sigma = model if explained else finite(float(known.sandwich[at]))
            drawn = None if known.bootstrap is None or sigma is None else float(known.bootstrap[at])
        row = ParameterRow(
            parameter.name,
            parameter.unit,
            parameter.start,
            values[i],
            sigma,
            model,
            free,
            free and bounds[i],
            sigma_bootstrap=drawn,
            kind=parameter.kind.name,
            owner=parameter.kind.owner,
        )
        row = replace(of_spread(row, parameter), **limits(parameter, free=free))
        rows.append(row)
        rows += [followed(row, follower.name, follower.ratio, follower.start) for follower in parameter.follows]
    return tuple(rows)


def correlation(known: Uncertainty) -> Correlation:
    """Correlations, with the pairs that cannot be told apart: all of few parameters; of many the shared ones', and of
    each crystal its own and what they have with the shared ones."""
    if len(known.names) <= _IN_ONE_MATRIX:
        return _degenerate(known.names, known.correlation())
    blocks = [_degenerate(*known.correlation_of(number)) for number in range(len(known.covariance.own))]
    shared = known.covariance.n_shared
    pairs = dict.fromkeys(pair for block in blocks for pair in block.degenerate)
    own = tuple(replace(block, names=block.names[shared:], matrix=block.matrix[shared:, shared:], degenerate=())
                for block in blocks)  # fmt: skip
    whole = blocks[0]
    return Correlation(whole.names[:shared], whole.matrix[:shared, :shared], tuple(pairs)[:_MOST_PAIRS], own)


def _degenerate(names: tuple[str, ...], correlations: Tensor) -> Correlation:
    """``correlations`` [n, n] of ``names`` with the pairs that cannot be told apart."""
    matrix = correlations.numpy()
    rows, columns = np.nonzero(np.triu(np.abs(matrix), 1) > _DEGENERATE)
    found = zip(rows[:_MOST_PAIRS], columns[:_MOST_PAIRS], strict=True)
    return Correlation(names, matrix, tuple((names[i], names[j], float(matrix[i, j])) for i, j in found))


def spot_rows(problem: Problem, parameters: ParameterSet, left_out: Mapping[int, str]) -> tuple[SpotRow, ...]:
    """One row a spot found, indexed or not."""
    rows: list[SpotRow] = []
    for item, start in zip(problem.evidence, problem.start_px, strict=True):
        end, valid = predicted_centres(problem, item, parameters)
        seen, still = item.observed, item.expt.still
        frame = [float(item.expt.index)] * len(seen) if still else seen.frame.tolist()
        hkl, begun, ended = seen.hkl.tolist(), start.tolist(), end.tolist()
        columns = (seen.panel, seen.fast, seen.slow, seen.counts, valid, seen.heldout)
        absent = left_out.get(item.expt.index, "")
        for i, row in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
            panel, fast, slow, counts, on_panel, held = row
            reason = absent if on_panel else "no longer predicted on its panel"
            rows.append(
                SpotRow(
                    frame[i], panel, hkl[i][0], hkl[i][1], hkl[i][2], fast, slow, None if still else frame[i],
                    begun[i][0], begun[i][1], ended[i][0], ended[i][1], counts, None,
                    used=not reason and not held, heldout=held, reason=reason,
                )
            )  # fmt: skip
        rows.extend(_rejected_rows(item))
    return tuple(rows)


def _rejected_rows(item: Evidence) -> list[SpotRow]:
    """Spots that were found and not indexed, with the reason."""
    nan, rows = float("nan"), []
    for place, reason in item.rejected:
        spots = item.spots
        frame = float(item.expt.index) if item.expt.still else float(spots.frame[place])
        where = float(spots.fast[place]), float(spots.slow[place])
        rows.append(
            SpotRow(frame, int(spots.panel[place]), 0, 0, 0, *where, None if item.expt.still else frame, nan, nan, nan,
                    nan, float(spots.counts[place]), None, used=False, reason=reason)
        )  # fmt: skip
    return rows


def rms(spots: tuple[SpotRow, ...], *, heldout: bool) -> Pair | None:
    """rms (fast, slow) of observed − predicted at the end over the used or the held-out spots."""
    rows = [
        (spot.observed_fast_px - spot.end_fast_px, spot.observed_slow_px - spot.end_slow_px)
        for spot in spots
        if (spot.heldout if heldout else spot.used)
        and spot.observed_fast_px is not None
        and spot.observed_slow_px is not None
    ]
    values = np.array([row for row in rows if np.isfinite(row).all()])
    if len(values) == 0:
        return None
    fast, slow = np.sqrt((values**2).mean(0)).tolist()
    return fast, slow


def frame_rows(problem: Problem, spots: tuple[SpotRow, ...], module: Loop) -> tuple[FrameRow, ...]:
    """One row a frame, those that failed too, in the order of the experiments."""
    parameters = module.values
    values, all_lost = parameters.values.detach().tolist(), problem.lost_frames()
    of_experiment: dict[int, list[FrameRow]] = {row.index: [row] for row in problem.failed}
    of_frame: dict[int, list[SpotRow]] = {}
    for spot in spots:
        if spot.used:
            of_frame.setdefault(int(spot.frame), []).append(spot)
    for item in problem.evidence:
        rows = of_experiment.setdefault(item.expt.index, [])
        scale = values[parameters.index_of(SCALE, item.expt.index)]
        absent = module.left_out.get(item.expt.index, "")
        for z, path in enumerate(item.expt.images):
            number = item.expt.index if item.expt.still else z
            here = tuple(of_frame.get(number, ()))
            pair = rms(here, heldout=False)
            lost = next((message for message in all_lost[item.expt.index] if str(path) in message), absent)
            px = None if pair is None else math.hypot(*pair)
            rows.append(FrameRow(number, str(path), len(here), px, scale, ok=not lost, message=lost))
    ordered = [row for _, rows in sorted(of_experiment.items()) for row in rows]
    return tuple(replace(row, index=number) for number, row in enumerate(ordered))


def pictures(problem: Problem, module: Loop) -> tuple[SpotImage, ...]:
    """Observed, model and z of the spots that fit best and worst, among those bright enough to look at."""
    ranked: list[tuple[float, SpotImage]] = []
    objective, parameters = module.objective, module.values
    for index, block in enumerate(objective.blocks):
        fit = objective.fit_boxes(index, block.model(parameters))
        strength = fit.signal.sum(1) / (fit.signal.sum(1) + (1 / fit.weight.clamp(min=1e-30)).sqrt().amax(1)).sqrt()
        chi = box_chi_square(block, fit)
        bright = strength >= strength.median()
        bright_boxes = torch.nonzero(bright)[:, 0]
        places = bright_boxes[chi[bright_boxes].argsort(stable=True)].tolist()
        chosen = dict.fromkeys((*places[:_PICTURES], *places[-_PICTURES:]))  # no more of an experiment can be shown
        ranked.extend((float(chi[box]), _picture(module, index, box, fit.total, float(chi[box]))) for box in chosen)
    images = [image for _, image in sorted(listed(ranked), key=lambda row: row[0])]
    worst = images[::-1][:_PICTURES]
    best = images[: len(images) - len(worst)][:_PICTURES]
    return (*best, *(replace(image, kind="worst") for image in worst))


def _picture(module: Loop, index: int, box: int, model_counts: Tensor, chi: float) -> SpotImage:
    """One shoebox summed over its frames."""
    block, noise = module.objective.blocks[index], module.objective.noise[index]
    boxes = block.boxes
    good = boxes.valid[box]
    slow, fast = boxes.slow[box][good].long(), boxes.fast[box][good].long()
    shape = int(slow.max() - slow.min()) + 1, int(fast.max() - fast.min()) + 1
    place = slow - slow.min(), fast - fast.min()

    def summed(values: Tensor) -> np.ndarray:
        image = torch.zeros(shape, dtype=torch.float64)
        return np.asarray(image.index_put(place, values[box][good].double(), accumulate=True).numpy())

    observed, model = summed(boxes.counts), summed(model_counts)
    seen = summed(boxes.valid.double())
    variance = model * float(noise.gain[box, 0]) + seen * float(noise.readout[box, 0]) ** 2
    z = np.where(seen > 0, (observed - model) / np.sqrt(np.maximum(variance, 1e-12)), np.nan)
    h, k, l = boxes.hkl[box].tolist()  # noqa: E741
    label = f"({h} {k} {l}) panel {int(boxes.panel[box])}, crystal {block.index}, chi² {chi:.2f}"
    return SpotImage(label, "best", observed, model, z)


def goodness(problem: Problem, module: Loop, z2: float) -> Goodness:
    """Residuals of the pixels under spots in units of their noise."""
    objective, parameters = module.objective, module.values
    values, sums = [torch.zeros(0, dtype=torch.float64)], torch.zeros(2, dtype=torch.float64)
    for index, block in enumerate(objective.blocks):
        fit = objective.fit_boxes(index, block.model(parameters))
        z = (block.boxes.counts - fit.total) * fit.weight.sqrt()
        values.append(z[block.boxes.valid & (fit.signal**2 * fit.weight > 0.1)])
        sums += torch.stack([(z[block.boxes.valid] ** 2).sum(), torch.tensor(block.boxes.n_pixels).to(sums)])
    z_all = torch.cat(listed([torch.cat(values)])).numpy()
    square, pixels = total(sums).tolist()
    histogram, edges = np.histogram(np.clip(z_all, -6, 6), bins=48, range=(-6, 6))
    spread = float(np.std(z_all)) if len(z_all) else None
    return Goodness(
        reduced_chi_square=square / max(pixels, 1),
        sigma_z=spread,
        edges_z=tuple(edges.tolist()),
        histogram_z=tuple(histogram.astype(float).tolist()),
        extra={"mean_z2_under_spots": z2, "pixels": int(pixels), "stage": module.stage.name},
    )


def warnings(problem: Problem, module: Loop, z2: float) -> list[JournalEntry]:
    """What a reader should know before trusting the numbers, besides what the parameters' rows say."""
    found = []
    if z2 > 3:
        said = f"the residuals under the spots are not noise: their mean square is {z2:.1f} of it"
        found.append(JournalEntry("residuals_under_spots", said, "warning", {"mean_z2": z2}))
    spots = sum(len(item.observed) for item in problem.evidence)
    free = sum(module.values.parameters_[i].kind != AMPLITUDE for i in module.values.free)
    if 2 * spots < 3 * free:
        said = f"{free} parameters were fitted to {spots} spots"
        found.append(JournalEntry("few_spots", said, "warning", {"parameters": free, "spots": spots}))
    return found


def refined_detector(detector: Detector) -> DetectorConfig:
    """The configuration of ``detector`` with its panels where the fit left them."""
    frames = detector.frames().detach().numpy()
    panels = tuple(
        replace(panel, fast_axis=tuple(frame[0]), slow_axis=tuple(frame[1]), origin=tuple(frame[3]), normal=None)
        for panel, frame in zip(detector.config.panels, frames.tolist(), strict=True)
    )
    return replace(detector.config, panels=panels)


def refined_beams(problem: Problem, experiments: list[Experiment]) -> dict[int, BeamConfig]:
    """Beams by their index in the document."""
    beams = {}
    for item, experiment in zip(problem.evidence, experiments, strict=True):
        beam, entry = experiment.beam, item.expt.entry
        direction = (beam.direction / beam.direction.norm()).tolist()
        changed = replace(entry.beam, direction=tuple(direction), wavelength=float(beam.wavelength.detach()))
        if beam.polarized:
            changed = replace(changed, kahn_factor=float(beam.kahn_factor.detach().clamp(-1, 1)))
        beams[entry.beam_index] = changed
    return beams


def refined_crystals(problem: Problem, experiments: list[Experiment]) -> dict[int, CrystalConfig]:
    """Crystals by their index in the document."""
    crystals = {}
    for item, experiment in zip(problem.evidence, experiments, strict=True):
        crystal, entry = experiment.crystal, item.expt.entry
        assert entry.crystal is not None
        assert entry.crystal_index is not None
        with torch.no_grad():
            turn, cell = crystal.lab_rotation().tolist(), crystal.mean_cell().tolist()
        crystals[entry.crystal_index] = replace(
            entry.crystal,
            cell=tuple(cell),
            orientation=(tuple(turn[0]), tuple(turn[1]), tuple(turn[2])),
            n_cells=tuple(crystal.n_cells.tolist()),
            scan_points=scan_points(crystal, item.expt),
        )
    return crystals


@torch.no_grad()
def scan_points(crystal: Crystal, expt: FitExperiment) -> tuple[Mat3, ...]:
    """Rows a, b, c of a crystal that drifts, at the start of every frame and the last's end: dxtbx's scan points."""
    scan = expt.entry.scan
    if not crystal.drifts or scan is None:
        return ()
    phi = scan.phi_start + scan.oscillation * torch.arange(len(expt.images) + 1, dtype=torch.float64)
    rows = crystal.vectors_at(phi)[0].tolist()
    return tuple((tuple(a), tuple(b), tuple(c)) for a, b, c in rows)
