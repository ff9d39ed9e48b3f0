"""Of a fit that failed: which usual mistake of a header, undone, would explain its spots. Positions only."""

from __future__ import annotations

from dataclasses import replace

from nbtorch.errors import NbtorchError
from refine.fit.fit_parameters import parameter_set
from refine.fit.outliers import fitted_blocks
from refine.fit.position_fit import constant
from refine.fit.problem import Problem
from refine.indexing.assignment import Evidence, assign
from refine.processes import count
from refine.records.journal import Journal
from refine.scene.scene import build_scene
from refine.spots.spot_list import ListedSpots
from refine.verdict.mistakes import Mistake, mistakes
from refine.verdict.rivals import Indexing, Weighing, refitted, rms

_SPOTS = 150  # the brightest, which bounds the time
_EXPLAINS, _SURELY = 0.6, 0.85  # shares of them: to be told, and to look no further
_RMS = 1.5  # pixels


def would_fit(problem: Problem) -> str:
    """A sentence about the mistake that explains most of the spots; "" where none does."""
    item = max(problem.evidence, key=lambda one: len(one.spots))
    if count() > 1 or isinstance(item.spots, ListedSpots) or not problem.settings.solver.coarse:
        return ""
    spots = item.spots[:_SPOTS]
    best, told = _EXPLAINS * len(spots), ""
    for mistake in mistakes():
        try:
            found = _tried(problem, replace(item, spots=spots), mistake)
        except (NbtorchError, ArithmeticError):
            continue
        if found is not None and found[1] < _RMS and found[0] > best:
            best = found[0]
            told = (
                f"with {mistake.words} the model explains {found[0]} of the {len(spots)} brightest spots, "
                f"rms {found[1]:.2f} px: check the header"
            )
            if found[0] >= _SURELY * len(spots):
                break
    return told


def _tried(problem: Problem, item: Evidence, mistake: Mistake) -> tuple[int, float] | None:
    """Spots with an index and their rms (px) once ``mistake`` is undone and the positions are fitted."""
    index, document = item.expt.index, problem.scene.document
    changed = mistake.undo(document.entries[index])
    if changed is None:
        return None
    entries = tuple(changed if i == index else entry for i, entry in enumerate(document.entries))
    settings = constant(problem.settings)
    scene = build_scene(
        replace(document, entries=entries), {index: item.expt.images}, settings, Journal(),
        problem.scene.structure_factors,
    )  # fmt: skip
    expt = scene.experiments[0]
    begun = assign(expt, item.spots, settings, expt.model)
    parameters = parameter_set(scene, settings, coarse=True)
    if not parameters.free:
        return None
    how = Weighing(settings, lambda items: fitted_blocks(list(items), settings))
    found = refitted(Indexing(mistake.words, (begun,), parameters), how)
    return None if found is None else (found.explained, rms(found, how))
