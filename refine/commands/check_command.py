"""``nb-refine --check``: read everything, draw the predictions on the frames, fit nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nbtorch.config import Exposure
from nbtorch.errors import DataError, NbtorchError
from nbtorch.io import ExptUpdates, write_expt
from nbtorch.io.atomic import write_text
from nbtorch.render.excited import Excited, excited_reflections
from refine.commands.check_frames import check_frames
from refine.fit.surveying import readers_of
from refine.frames.assign_frames import unused_files
from refine.frames.frame_stack import FrameStack, MeasuredFrame
from refine.frames.start_document import start_document
from refine.records.checked import Drawing, ExperimentCheck
from refine.records.journal import Journal
from refine.records.run_folder import CHECK, claim_output
from refine.report.canvas import Canvas
from refine.report.check import describe, page
from refine.scene.entries import entries_to_fit
from refine.scene.scene import FitExperiment, build_scene
from refine.settings.request import Request
from refine.spots.find_spots import Spots
from refine.spots.survey import find

IMPORTED = "imported.expt"  # what the headers say, without crystals
MAX_DRAWN = 8  # frames, spread over all of them


def check(request: Request, folder: Path, journal: Journal) -> None:
    """Read what ``request`` names, write check.html into ``folder`` and print a line for each still or scan.

    Raises NbtorchError for whatever cannot be read, and DataError where nothing is predicted on the detector.
    """
    document, assigned, notes = start_document(request.fit)
    journal.add(*notes)
    chosen = entries_to_fit(document, assigned.frames, assigned.missing, request.fit.data)
    if assigned.unused:
        journal.add(unused_files(assigned.unused))
    journal.add(*chosen.notes)
    for number, error in chosen.missing.items():
        journal.say("frame_left_out", f"left out: {error}", experiment=number)
    if not any(chosen.experiments.entries[number].crystal for number in chosen.frames):
        with claim_output(folder, CHECK, overwrite=request.overwrite) as target:
            rows, drawings = check_frames(chosen, request.fit.data, journal, MAX_DRAWN)
            said = [note.sentence for note in notes]
            write_expt(target.parent / IMPORTED, chosen.experiments, ExptUpdates(), overwrite=request.overwrite)
            write_text(target, page(request.fit.data, rows, drawings, said), overwrite=True)
        journal.say("predictions_drawn", f"spots and geometry drawn on the frames: {target.absolute()}")
        journal.say("geometry_written", f"geometry as an experiment list, to be indexed: {target.parent / IMPORTED}")
        return
    scene = build_scene(chosen.experiments, chosen.frames, request.fit, journal)
    with claim_output(folder, CHECK, overwrite=request.overwrite) as target:
        rows, drawings = [], []
        failure: NbtorchError | None = None
        total = sum(len(expt.images) for expt in scene.experiments)
        wanted = set(np.unique(np.linspace(0, total - 1, MAX_DRAWN).round().astype(int)).tolist())
        first = 0
        readers = readers_of(scene, request.fit, journal)
        for expt in scene.experiments:
            stack = FrameStack(expt.images, readers[expt.entry.pixel_files], journal)
            try:
                found = find(expt, stack.frames())
            except NbtorchError as error:  # told by the stack; the others are looked at
                failure, first = error, first + len(expt.images)
                continue
            excited = excited_reflections(expt.model, whole_range(expt), request.fit.data.dmin or None)
            rows.append(_row(expt, stack, excited, found))
            journal.say("start_checked", describe(rows[-1]))
            for i in sorted({i - first for i in wanted} & set(range(len(expt.images)))):
                frame = stack.frame(i)
                drawings += [] if frame is None else [_draw(expt, i, frame, excited, found)]
            first += len(expt.images)
        if failure is not None and not rows:
            raise failure
        if not any(row.predicted for row in rows):
            raise nothing_predicted(request.fit.data.experiment or str(request.fit.data.frames))
        write_text(target, page(request.fit.data, rows, drawings), overwrite=True)
    journal.say("predictions_drawn", f"predictions drawn on the frames: {target.absolute()}")


def nothing_predicted(experiment: str) -> DataError:
    """The error of a start geometry that puts no spot on the detector."""
    return DataError(
        f"the start geometry of {experiment}",
        "it predicts no spot on the detector",
        "Check the distance, beam centre, wavelength and the directions of the axes",
    )


def whole_range(expt: FitExperiment) -> Exposure:
    """The spindle range of all frames of ``expt`` as one exposure."""
    exposures = expt.exposures(1)
    return Exposure(exposures[0].phi_start, sum(exposure.oscillation for exposure in exposures))


def _row(expt: FitExperiment, stack: FrameStack, excited: Excited, found: Spots) -> ExperimentCheck:
    distances = []
    for panel in np.unique(found.panel):
        here = excited.panel == panel
        if here.any():
            predicted = np.stack([excited.fast[here], excited.slow[here]], 1)
            chosen = found.panel == panel
            seen = np.stack([found.fast[chosen], found.slow[chosen]], 1)
            gaps = np.linalg.norm(seen[:, None] - predicted[None], axis=-1)
            distances += gaps.min(1).tolist()
    offset = float(np.median(distances)) if distances else None
    name = f"crystal {expt.index}" + (", still" if expt.still else ", scan")
    return ExperimentCheck(name, len(expt.images), len(stack.lost), len(excited), len(found), offset)


def _draw(expt: FitExperiment, index: int, frame: MeasuredFrame, excited: Excited, found: Spots) -> Drawing:
    """Frame ``index`` of ``expt`` with the reflections and spots on it."""
    detector = expt.model.detector.config
    canvas = Canvas(detector)
    exposure = expt.exposures(1)[index]
    low, high = sorted((exposure.phi_start, exposure.phi_start + exposure.oscillation))
    on_frame = np.full(len(excited), True) if expt.still else (excited.phi >= low) & (excited.phi < high)
    seen = (found.first_frame <= index) & (found.last_frame >= index)
    predicted = [
        (*canvas.place(panel, fast, slow), " ".join(map(str, hkl)))
        for hkl, panel, fast, slow in zip(
            excited.hkl[on_frame].tolist(),
            excited.panel[on_frame].tolist(),
            excited.fast[on_frame].tolist(),
            excited.slow[on_frame].tolist(),
            strict=True,
        )
    ]
    spots = [canvas.place(*at) for at in zip(found.panel[seen], found.fast[seen], found.slow[seen], strict=True)]
    png, width, height = canvas.paint(frame.counts, frame.valid)
    return Drawing(
        expt.images[index].name,
        f"{len(predicted)} predicted, {len(spots)} found",
        png,
        width,
        height,
        tuple(predicted),
        tuple(spots),
    )
