"""A fit of spot positions alone, made ready: a list of indexed spots and an experiment list, no frames."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nbtorch.errors import DataError
from nbtorch.io import ExperimentList, read_expt
from nbtorch.io.frames import Image, file_of
from nbtorch.io.refl import read_refl
from refine.fit.fit_parameters import parameter_set
from refine.fit.outliers import fitted_blocks, without_outliers
from refine.fit.position_fit import PositionFit, constant, fit_positions
from refine.fit.problem import Problem
from refine.fit.start_positions import rms_at_start, start_positions
from refine.frames.assign_frames import images_of
from refine.indexing.assignment import Evidence, assign
from refine.least_squares.levenberg_marquardt import LevenbergMarquardt
from refine.least_squares.objective import Joint
from refine.positions.objective import PositionObjective
from refine.positions.scan_varying import carry_over
from refine.records.journal import Journal
from refine.records.outcome import Iteration
from refine.scene.entries import entries_to_fit
from refine.scene.scene import Scene, build_scene
from refine.settings.fit_settings import FitSettings
from refine.spots.find_spots import Spots
from refine.spots.reflection_list import REFLECTION_TABLE, indexed_rows, reflection_list, spots_of
from refine.spots.spot_list import SpotList, read_spot_list
from refine.spots.widths import measure_widths

_FAR = 3.5  # spreads of its experiment's residuals from which on a spot is an outlier


def without_frames(settings: FitSettings) -> bool:
    """Whether there are listed spots to fit and no frame: none is given, and none that the .expt names is there."""
    data = settings.data
    if data.spots is None or data.frames is not None or not data.experiment:
        return False
    entries = read_expt(data.experiment).entries
    return not any(file_of(image).exists() for entry in entries for image in images_of(entry))


def prepare_positions(settings: FitSettings, journal: Journal) -> Problem:
    """Read the spots, fit their positions. Raises NbtorchError for what a user can put right."""
    started = time.perf_counter(), time.process_time()
    settings = of_positions(settings)
    assert settings.data.experiment is not None
    document = read_expt(settings.data.experiment)
    chosen = entries_to_fit(document, named_frames(document), {}, settings.data)
    journal.add(*chosen.notes)
    scene = build_scene(chosen.experiments, chosen.frames, settings, journal)
    said = "there are no frames: the positions of the spots alone are fitted"
    journal.say("positions_alone", said, "choice")
    scene, evidence = _listed(scene, document, settings, journal)
    numbers = {item.expt.index for item in evidence}
    found = fit_positions(scene, evidence, numbers, constant(settings), journal)
    if not found.ran:
        raise DataError("a fit of positions", "no parameter that they tell is free", "Free one: parameters=detector")
    found, settled = polished(found, settings, journal)
    return replace(_problem(scene, found, settings, journal, started), positions_settled=settled)


def polished(found: PositionFit, settings: FitSettings, journal: Journal) -> tuple[PositionFit, bool]:
    """``found`` after as many steps as it takes, outliers left out once more; and whether it converged.

    A step that gains or moves less than the solver's tolerances ends it, as it ends a stage of a pixel fit.
    """
    rows, settled, evidence = list(found.history), False, found.evidence
    most = len(rows) + settings.solver.max_iterations
    for last in (False, True):
        objective = PositionObjective(fitted_blocks(evidence, settings))
        objective.estimate_spread(found.parameters)
        solver, settled = LevenbergMarquardt(), False
        while not settled and len(rows) < most:
            step = solver.step(Joint(objective), found.parameters)
            fast, slow = objective.rms(found.parameters)
            rows.append(Iteration(len(rows), "positions", step.loss_after, fast, slow, step.damping, step.move))
            gained = step.loss_before - step.loss_after > settings.solver.tolerance * abs(step.loss_before)
            settled = not (step.accepted and gained and step.move >= settings.solver.step_tolerance)
        if (
            not last
        ):  # once: spreads of what is left, asked again and again, would eat up a distribution with wide wings
            evidence = without_outliers(evidence, found.parameters, settings, _FAR)
    fast, slow = PositionObjective(fitted_blocks(evidence, settings)).rms(found.parameters)
    said = f"positions, without outliers: {_number(evidence)} spots, rms {fast:.3f}, {slow:.3f} px (fast, slow)"
    journal.say("positions_fitted", said, spots=_number(evidence), rms_px=[fast, slow])
    return replace(found, evidence=evidence, history=tuple(rows)), settled


def _number(evidence: Sequence[Evidence]) -> int:
    """Spots that count."""
    return sum(len(item.observed) for item in evidence)


def of_positions(settings: FitSettings) -> FitSettings:
    """``settings`` with what only pixels tell held: sizes, mosaic spreads, amplitudes."""
    flags = replace(settings.parameters, n_cells=False, mosaic_spread=False, amplitudes=False)
    data = replace(settings.data, amplitudes="none")
    crystal = replace(settings.crystal, mosaic_spread=settings.crystal.mosaic_spread or 0.0)
    advanced = replace(settings.advanced, judge=False)  # its rules ask for the frames' spots
    return replace(settings, parameters=flags, data=data, crystal=crystal, advanced=advanced)


def named_frames(document: ExperimentList) -> dict[int, tuple[Image, ...]]:
    """The frames that every experiment stands for, whether the list names them or not."""
    found: dict[int, tuple[Image, ...]] = {}
    for number, entry in enumerate(document.entries):
        count = 1 if entry.scan is None else entry.scan.n_frames
        named = images_of(entry) if entry.images else ()
        found[number] = named if len(named) == count else tuple(Path(f"frame {n + 1}") for n in range(count))
    return found


def _listed(
    scene: Scene, document: ExperimentList, settings: FitSettings, journal: Journal
) -> tuple[Scene, list[Evidence]]:
    """The evidence of the experiments that have listed spots, and the scene of those alone."""
    assert settings.data.spots is not None
    given, seen = _spots(Path(settings.data.spots), scene, document, journal)
    evidence = []
    for expt in scene.experiments:
        spots = given.of_experiment(seen, expt.index, still=expt.still)
        if len(spots):
            evidence.append(assign(expt, spots, settings, expt.model))
    bare = [str(expt.index) for expt in scene.experiments if expt.index not in {e.expt.index for e in evidence}]
    if not evidence:
        raise DataError(
            settings.data.spots, "no spot in it has an index", "Give indexed spots, or frames to find them on"
        )
    if bare:
        few = ", ".join(bare[:10]) + (", …" if len(bare) > 10 else "")
        journal.say(
            "experiments_without_spots", f"no spots are listed of experiment {few}", "warning", number=len(bare)
        )
    total = sum(len(item.observed) for item in evidence)
    journal.say("spots_listed", f"{total} indexed spots of {len(evidence)} experiments", spots=total)
    return replace(scene, experiments=tuple(item.expt for item in evidence)), evidence


def _spots(path: Path, scene: Scene, document: ExperimentList, journal: Journal) -> tuple[SpotList, Spots]:
    """The rows with an index, and the same spots with their brightness and extent where the file has them."""
    if path.suffix == REFLECTION_TABLE:
        table = read_refl(path)
        rows = indexed_rows(table)
        listed = reflection_list(table, document.entries, range(len(document.entries)))
        bare = len(table) - len(rows)
        if bare:
            journal.say("spots_without_index", f"{bare} spots of {path.name} have no index: left out", number=bare)
        return listed, spots_of(table, rows, listed)
    framed = len(scene.experiments) > 1 or not scene.experiments[0].still
    listed = read_spot_list(path, scene.detector.config, framed=framed)
    none = np.zeros(0)
    return listed, Spots(**{name: none.astype(np.int64 if name in _WHOLE else float) for name in Spots.__annotations__})


_WHOLE = ("panel", "n_pixels", "first_frame", "last_frame")


def _problem(
    scene: Scene, found: PositionFit, settings: FitSettings, journal: Journal, started: tuple[float, float]
) -> Problem:
    parameters = parameter_set(scene, settings)
    moved = carry_over(found.parameters, parameters)
    start = start_positions(found.evidence, parameters, settings.detector.parallax)
    return Problem(
        settings=settings,
        scene=scene,
        evidence=tuple(found.evidence),
        stacks={},
        noise={},
        counting=True,
        widths=measure_widths([e.expt for e in found.evidence], [e.observed for e in found.evidence]),
        parameters=parameters,
        history=found.history,
        start_px=tuple(start),
        rms_start=rms_at_start(found.evidence, start),
        by_positions=parameters.values.detach().clone(),
        positions_alone=True,
        moved_by_positions=moved,
        failed=(),
        journal=journal,
        wall_s=time.perf_counter() - started[0],
        cpu_s=time.process_time() - started[1],
    )
