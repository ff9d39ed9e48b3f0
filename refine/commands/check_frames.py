"""``nb-refine --check`` of frames without crystals: their spots, on what the geometry says of beam and resolution."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from nbtorch.errors import DataError, NbtorchError
from nbtorch.io.expt import ExperimentEntry
from nbtorch.io.frames import Image
from refine.frames.frame_stack import FrameReader, FrameStack, MeasuredFrame
from refine.frames.pixel_maps import pixel_maps
from refine.records.checked import Drawing, ExperimentCheck
from refine.records.journal import Journal
from refine.report.canvas import Canvas
from refine.report.check import describe
from refine.report.rings import rings
from refine.scene.entries import Chosen, is_still
from refine.settings.fit_settings import DataSettings
from refine.spots.find_spots import Spots
from refine.spots.survey import spots_of


def check_frames(
    chosen: Chosen, data: DataSettings, journal: Journal, most: int
) -> tuple[list[ExperimentCheck], list[Drawing]]:
    """A row a still or scan, and drawings of at most ``most`` of all frames.

    Raises the NbtorchError of the last where none can be read, and DataError where no frame has a spot.
    """
    rows, drawings = [], []
    failure: NbtorchError | None = None
    total = sum(len(images) for images in chosen.frames.values())
    wanted = set(np.unique(np.linspace(0, total - 1, most).round().astype(int)).tolist())
    first = 0
    for number, images in sorted(chosen.frames.items()):
        entry = chosen.experiments.entries[number]
        still = is_still(entry, data)
        reader = FrameReader(entry.detector, pixel_maps(entry.detector, entry.pixel_files, data.mask, journal))
        stack = FrameStack(images, reader, journal)
        try:
            found = spots_of(stack.frames(), still=still)
        except NbtorchError as error:  # told by the stack; the others are looked at
            failure, first = error, first + len(images)
            continue
        name = f"experiment {number}, {'still' if still else 'scan'} without a crystal"
        rows.append(ExperimentCheck(name, len(images), len(stack.lost), None, len(found), None))
        journal.say("start_checked", describe(rows[-1]))
        drawings += _drawings(entry, images, stack, found, {i - first for i in wanted})
        first += len(images)
    if failure is not None and not rows:
        raise failure
    if not any(row.found for row in rows):
        raise DataError(f"{total} frames", "no spot stands out of them", "Look at the frames")
    return rows, drawings


def _drawings(
    entry: ExperimentEntry, images: Sequence[Image], stack: FrameStack, found: Spots, wanted: Collection[int]
) -> list[Drawing]:
    frames = [(i, stack.frame(i)) for i in sorted(set(wanted) & set(range(len(images))))]
    return [_draw(entry, images[i].name, i, frame, found) for i, frame in frames if frame is not None]


def _draw(entry: ExperimentEntry, title: str, index: int, frame: MeasuredFrame, found: Spots) -> Drawing:
    canvas = Canvas(entry.detector)
    seen = (found.first_frame <= index) & (found.last_frame >= index)
    spots = [canvas.place(*at) for at in zip(found.panel[seen], found.fast[seen], found.slow[seen], strict=True)]
    png, width, height = canvas.paint(frame.counts, frame.valid)
    lines = rings(canvas, entry.detector, entry.beam)
    return Drawing(title, f"{len(spots)} spots found", png, width, height, (), tuple(spots), lines)
