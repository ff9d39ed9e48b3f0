"""From settings to a problem: read, find spots, index them, and bring the geometry to within a pixel."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace

from nbtorch.io import ExperimentList
from refine.fit.drift_choice import decide_drift
from refine.fit.estimates import with_estimates
from refine.fit.find_crystals import known_cell, oriented, with_placeholders, without_crystal
from refine.fit.first_indices import index_all
from refine.fit.fit_parameters import parameter_set
from refine.fit.indexing_choice import settled
from refine.fit.position_fit import constant, fit_positions, refit_moved
from refine.fit.problem import Problem
from refine.fit.start_positions import rms_at_start, start_positions
from refine.fit.surveying import survey_all
from refine.frames.assign_frames import unused_files
from refine.frames.start_document import start_document
from refine.indexing.assignment import Evidence
from refine.parameters.amplitudes import told_from_scales
from refine.positions.scan_varying import carry_over
from refine.processes import gathered
from refine.records.journal import Journal
from refine.scene.entries import entries_to_fit
from refine.scene.scene import Scene, build_scene
from refine.settings.fit_settings import FitSettings
from refine.spots.widths import measure_widths


def prepare(settings: FitSettings, journal: Journal) -> Problem:
    """Read everything, find and index spots, fit their positions. Raises NbtorchError for what a user can put right."""
    if settings.parameters.amplitudes:
        settings = replace(settings, parameters=replace(settings.parameters, scale="frame"))
    experiments, assigned, notes = start_document(settings)
    journal.add(*notes)
    chosen = entries_to_fit(experiments, assigned.frames, assigned.missing, settings.data)
    if assigned.unused:
        journal.add(unused_files(assigned.unused))
    journal.add(*chosen.notes)
    document, bare = chosen.experiments, without_crystal(chosen.experiments)
    known = known_cell(settings) if bare else None
    if known is not None:
        document = with_placeholders(document, bare, known)
    scene = build_scene(document, chosen.frames, settings, journal)
    started = time.perf_counter(), time.process_time()
    surveys, scene, failed = survey_all(scene, chosen.missing, settings, journal)
    if known is not None:
        document, lost = oriented(document, bare, known, scene, surveys, journal)
        scene = _without(scene, document, settings, lost)
        surveys = {number: seen for number, seen in surveys.items() if number not in lost}
    found = fit_positions(scene, index_all(scene, surveys, settings, journal), surveys, constant(settings), journal)
    found, rivals = settled(found, settings)
    mine = [item for item in found.evidence if item.expt.index in surveys]
    settings = decide_drift(scene, mine, found.parameters, settings, journal)
    if settings.parameters.scan_varying:
        found = fit_positions(scene, found.evidence, surveys, settings, journal, found.parameters).following(found)
    widths = measure_widths([item.expt for item in found.evidence], [item.observed for item in found.evidence])
    settings = with_estimates(settings, widths, found.evidence, journal)
    scene, evidence = _rebuilt(document, scene, found.evidence, settings)
    found = refit_moved(scene, evidence, surveys, settings, found)
    parameters = parameter_set(scene, settings, seen=evidence)
    journal.add(*told_from_scales(parameters.parameters_))
    moved = carry_over(found.parameters, parameters) if found.ran else ()
    start = start_positions(evidence, parameters, settings.detector.parallax)
    counting = gathered({number: seen.look.counts for number, seen in surveys.items()})[scene.experiments[0].index]
    problem = Problem(
        settings=settings,
        scene=scene,
        evidence=tuple(evidence),
        stacks={number: seen.stack for number, seen in surveys.items()},
        noise={number: seen.noise(settings.data, counting) for number, seen in surveys.items()},
        counting=counting,
        widths=widths,
        parameters=parameters,
        history=found.history,
        start_px=tuple(start),
        rms_start=rms_at_start(evidence, start),
        by_positions=parameters.values.detach().clone() if found.ran else None,
        moved_by_positions=moved,
        failed=tuple(failed),
        journal=journal,
        rivals=rivals,
        amplitudes_given=scene.has_amplitudes,
    )
    return replace(problem, wall_s=time.perf_counter() - started[0], cpu_s=time.process_time() - started[1])


def _without(scene: Scene, document: ExperimentList, settings: FitSettings, lost: Collection[int]) -> Scene:
    """The scene of ``document`` without the experiments ``lost``."""
    frames = {expt.index: expt.images for expt in scene.experiments if expt.index not in lost}
    return build_scene(document, frames, settings, Journal(), scene.structure_factors)


def _rebuilt(
    document: ExperimentList, scene: Scene, evidence: list[Evidence], settings: FitSettings
) -> tuple[Scene, list[Evidence]]:
    """The scene with the estimated crystals in it, and the evidence that belongs to its experiments."""
    entries = {expt.index: expt.images for expt in scene.experiments}
    fresh = build_scene(document, entries, settings, Journal(), scene.structure_factors)
    return fresh, [replace(item, expt=expt) for item, expt in zip(evidence, fresh.experiments, strict=True)]
