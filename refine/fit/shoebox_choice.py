"""Where the shoeboxes of a pixel fit lie, how large they are, and how finely they are rendered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from nbtorch.config import Exposure, RenderSettings
from nbtorch.errors import DataError
from nbtorch.functional.absences import Listing
from nbtorch.models import StructureFactors
from nbtorch.render.excited import excited_reflections
from refine.fit.problem import Problem
from refine.frames.shoeboxes import BoxPlan, cut, plan_boxes
from refine.indexing.assignment import Evidence
from refine.parameters.kinds import AMPLITUDE
from refine.parameters.moved_experiment import moved_experiment
from refine.parameters.parameter_set import ParameterSet
from refine.pixels.block import Block
from refine.positions.position_block import block_of
from refine.processes import exchange


def half_widths(problem: Problem) -> tuple[int, int]:
    """Half widths of the boxes in pixels and frames."""
    across = problem.settings.loss.box_half_width or int(np.clip(np.ceil(3.5 * problem.widths.pixel + 1.5), 4, 15))
    return across, int(np.clip(np.ceil(3.0 * problem.widths.frame + 0.5), 1, 30))


def phi_steps(problem: Problem, evidence: Evidence) -> int:
    """Spindle steps a frame: no further apart than the rms of the rocking curve, which smears them."""
    if problem.settings.render.phi_steps is not None:
        return problem.settings.render.phi_steps
    scan = evidence.expt.entry.scan
    if evidence.expt.still or scan is None:
        return 1
    return int(np.clip(np.ceil(abs(scan.oscillation) / max(problem.widths.rocking, 1e-3)), 2, 10))


def background_kind(problem: Problem, evidence: Evidence, half: tuple[int, int]) -> str:
    """A plane a frame where a box holds enough background for one, a constant in all its frames where it does not."""
    kind = problem.settings.loss.background
    counts = float(np.median(evidence.spots.background)) * (2 * half[0] + 1) ** 2 if len(evidence.spots) else 0.0
    gain = float(np.median(problem.noise[evidence.expt.index][0]))
    if kind == "auto":
        kind = "plane" if counts / gain >= 20 else "constant"
    return "constant" if kind == "constant" else "plane"


def observed_plan(problem: Problem, evidence: Evidence, parameters: ParameterSet) -> BoxPlan:
    """Boxes on the predicted places of the spots that the fit may see."""
    seen = evidence.observed.fitted()
    centre, valid = predicted_centres(problem, evidence, parameters)
    centre = centre[~evidence.observed.heldout.numpy()]
    keep = valid[~evidence.observed.heldout.numpy()] & listed(problem.scene.structure_factors, seen.hkl.numpy())
    hkl, panel = seen.hkl.numpy()[keep], seen.panel.numpy()[keep]
    n_frames = len(evidence.expt.images)
    plan, _ = plan_boxes(problem.detector, hkl, panel, centre[keep], half_widths(problem), n_frames)
    return plan


def listed(factors: StructureFactors, hkl: np.ndarray) -> np.ndarray:
    """Whether the amplitude of each of ``hkl`` [n, 3] is known [n]: pixels of others have no model."""
    return np.asarray(factors.listing(torch.as_tensor(hkl)).numpy() == Listing.LISTED)


def predicted_centres(problem: Problem, evidence: Evidence, parameters: ParameterSet) -> tuple[np.ndarray, np.ndarray]:
    """Predicted (fast, slow, frame) [n, 3] of the observed spots at the current values, and their validity [n]."""
    block = block_of(evidence.expt, evidence.observed, problem.settings.detector.parallax)
    with torch.no_grad():
        value, valid = block.predicted(parameters.changes(evidence.expt.index))
    centre = value.numpy().copy()
    if evidence.expt.still:
        centre[:, 2] = 0.5
    return centre, valid.numpy() & np.isfinite(centre).all(1)


def bright_plan(problem: Problem, evidence: Evidence, parameters: ParameterSet) -> BoxPlan:
    """Boxes on every reflection that should give at least ``loss.min_counts`` photons at the crystal's scale."""
    experiment = moved_experiment(evidence.expt, parameters)
    exposure = evidence.expt.exposures(1)[0]
    scan = evidence.expt.entry.scan
    if not evidence.expt.still and scan is not None:
        exposure = Exposure(scan.phi_start, scan.oscillation * len(evidence.expt.images))
    reach = np.degrees(2.5 * 0.4 / min(problem.widths.n_cells)) / 10 + 0.3
    dmin = problem.settings.data.dmin or None
    excited = excited_reflections(experiment, exposure, dmin=dmin, margin=float(reach))
    frame = np.full(len(excited.panel), 0.5)
    if not evidence.expt.still and scan is not None:
        frame = (excited.phi - scan.phi_start) / scan.oscillation
    centre = np.stack([excited.fast, excited.slow, frame], axis=1)
    half = half_widths(problem)
    plan, _ = plan_boxes(problem.detector, excited.hkl, excited.panel, centre, half, len(evidence.expt.images))
    if len(plan) == 0:
        raise DataError("the amplitudes", "no reflection is predicted on the detector", "Check data.experiment")
    block = make_block(problem, evidence, plan, "constant")
    expected = block.model(parameters).sum(1)
    held = {tuple(row) for row in evidence.observed.hkl[evidence.observed.heldout].tolist()}
    seen = np.array([tuple(row) not in held for row in plan.hkl.tolist()])
    seen &= listed(experiment.structure_factors, plan.hkl)
    bright = plan[(expected.numpy() >= problem.settings.loss.min_counts) & seen]
    # a cache of the disk: what it lets go of here is read again where it is needed after all
    problem.stacks[evidence.expt.index].keep(bright, observed_plan(problem, evidence, parameters))
    return bright


def of_refined(plan: BoxPlan, parameters: ParameterSet, factors: StructureFactors) -> BoxPlan:
    """``plan`` without the reflections whose amplitude is no parameter, where others' are.

    A wrong amplitude that is held would pull what all share.
    """
    rows = [row for row in parameters.parameters_ if row.kind == AMPLITUDE]
    if not rows:
        return plan
    slots = [entry.index for row in rows for entry in row.entries]
    return plan[np.isin(factors.slots(torch.as_tensor(plan.hkl)).numpy(), slots)]


def hold_dark_amplitudes(blocks: Sequence[Block], parameters: ParameterSet) -> None:
    """Let ``blocks`` know which free amplitudes shine in their boxes, and hold the others: no pixel tells them."""
    amplitudes = {i for i in parameters.free if parameters.parameters_[i].kind == AMPLITUDE}
    if not amplitudes:
        return
    for block in blocks:
        block.find_amplitudes(parameters)
    mine = {int(i) for block in blocks if block.amplitudes is not None for i in block.amplitudes.parameter.unique()}
    seen = set().union(*exchange(mine))
    parameters.release({i for i in parameters.free if i not in amplitudes or i in seen})


def make_block(
    problem: Problem, evidence: Evidence, plan: BoxPlan, background: str, oversample: int | None = None
) -> Block:
    """The block of ``evidence`` with the shoeboxes of ``plan``."""
    expt = evidence.expt
    boxes = cut(plan, problem.stacks[expt.index], problem.noise[expt.index])
    settings = problem.settings.render
    rendering = RenderSettings(
        mode="exact",
        oversample=settings.oversample or oversample or auto_oversample(problem),
        precision=settings.precision,
        backend=settings.backend,
    )
    return Block(expt.index, expt.model, expt.exposures(phi_steps(problem, evidence)), boxes, rendering, background)


def auto_oversample(problem: Problem) -> int:
    """Sub-pixels a side: no further apart than the rms of a spot, 2 or 3.

    A pixel integrates; its centre alone misses 1/12 px² of the spot's variance, which the crystal's size would take on.
    """
    return int(np.clip(np.ceil(1.0 / problem.widths.pixel), 2, 3))
