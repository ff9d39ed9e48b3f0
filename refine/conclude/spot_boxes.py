"""The pixels of spots as the report shows them: the brighter ones, from the best explained to the worst."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from refine.parameters.parameter_set import ParameterSet
from refine.pixels.fit_quality import box_chi_square
from refine.pixels.objective import PixelObjective
from refine.processes import listed
from refine.records.pictures import SpotBox

T = TypeVar("T")
MAX_BOXES = 240  # that a report shows: with more it grows past what mail takes
MAX_PIXELS = 250_000  # of all of them


class _Ranked(NamedTuple):
    chi: float
    block: int
    box: int


def spot_boxes(objective: PixelObjective, parameters: ParameterSet) -> tuple[SpotBox, ...]:
    """Observed, model and z of spots bright enough to look at, the best explained first; of all processes."""
    fits = [objective.fit_boxes(i, block.model(parameters)) for i, block in enumerate(objective.blocks)]
    ranked: list[_Ranked] = []
    sizes: list[float] = []
    for index, (block, fit) in enumerate(zip(objective.blocks, fits, strict=True)):
        noise = (1 / fit.weight.clamp(min=1e-30)).sqrt().amax(1)
        strength = fit.signal.sum(1) / (fit.signal.sum(1) + noise).sqrt()
        chi = box_chi_square(block, fit).tolist()
        bright = torch.nonzero((strength >= strength.median()) & block.boxes.valid.any(1))[:, 0]
        ranked += [_Ranked(chi[box], index, box) for box in bright.tolist()]
        sizes += block.boxes.valid[bright].sum(1).tolist()
    chosen = [_box(objective, row, fits[row.block].total) for row in spread(sorted(ranked), _most(sizes))]
    boxes = sorted(listed(chosen), key=lambda box: box.chi_square)
    return tuple(spread(boxes, _most([box.observed.size for box in boxes])))


def _most(sizes: Sequence[float]) -> int:
    """How many boxes of these ``sizes`` (pixels) a report may hold."""
    return min(MAX_BOXES, max(1, int(MAX_PIXELS * len(sizes) / sum(sizes)))) if sizes else 0


def spread(ranked: Sequence[T], most: int) -> list[T]:
    """At most ``most`` of ``ranked``, spread evenly over the ranks, the first and the last among them."""
    places = np.linspace(0, len(ranked) - 1, min(len(ranked), most)).round().astype(int).tolist()
    return [ranked[place] for place in dict.fromkeys(places)]


def _box(objective: PixelObjective, row: _Ranked, total: Tensor) -> SpotBox:
    """The pixels of one shoebox, as an array over the frames that it holds."""
    block, noise = objective.blocks[row.block], objective.noise[row.block]
    boxes, box = block.boxes, row.box
    good = boxes.valid[box]
    place = torch.stack([boxes.frame[box], boxes.slow[box].long(), boxes.fast[box].long()])[:, good]
    corner = place.amin(1)
    shape = tuple((place.amax(1) - corner + 1).tolist())
    where = tuple(place - corner[:, None])

    def laid_out(values: Tensor) -> np.ndarray:
        image = torch.full(shape, torch.nan, dtype=torch.float32)
        image[where] = values.float()
        return np.asarray(image.numpy())

    observed, model = boxes.counts[box][good], total[box][good]
    variance = model * float(noise.gain[box, 0]) + float(noise.readout[box, 0]) ** 2
    z = (observed - model) / variance.clamp(min=1e-12).sqrt()
    frame, slow, fast = corner.tolist()
    h, k, l = boxes.hkl[box].tolist()  # noqa: E741
    images = laid_out(observed), laid_out(model), laid_out(z)
    return SpotBox(block.index, int(boxes.panel[box]), h, k, l, fast, slow, frame, row.chi, *images)
