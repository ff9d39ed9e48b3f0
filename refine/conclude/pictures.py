"""Pictures of the spots that the model explains best and worst."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from refine.parameters.parameter_set import ParameterSet
from refine.pixels.fit_quality import box_chi_square
from refine.pixels.objective import PixelObjective
from refine.processes import listed
from refine.records.outcome import SpotImage

_PICTURES = 6


def pictures(objective: PixelObjective, parameters: ParameterSet) -> tuple[SpotImage, ...]:
    """Observed, model and z of the spots that fit best and worst, among those bright enough to look at."""
    ranked: list[tuple[float, SpotImage]] = []
    for index, block in enumerate(objective.blocks):
        fit = objective.fit_boxes(index, block.model(parameters))
        strength = fit.signal.sum(1) / (fit.signal.sum(1) + (1 / fit.weight.clamp(min=1e-30)).sqrt().amax(1)).sqrt()
        chi = box_chi_square(block, fit)
        bright = strength >= strength.median()
        bright_boxes = torch.nonzero(bright)[:, 0]
        places = bright_boxes[chi[bright_boxes].argsort(stable=True)].tolist()
        chosen = dict.fromkeys((*places[:_PICTURES], *places[-_PICTURES:]))  # no more of an experiment can be shown
        ranked.extend((float(chi[box]), _picture(objective, index, box, fit.total, float(chi[box]))) for box in chosen)
    images = [image for _, image in sorted(listed(ranked), key=lambda row: row[0])]
    worst = images[::-1][:_PICTURES]
    best = images[: len(images) - len(worst)][:_PICTURES]
    return (*best, *(replace(image, kind="worst") for image in worst))


def _picture(objective: PixelObjective, index: int, box: int, model_counts: Tensor, chi: float) -> SpotImage:
    """One shoebox summed over its frames."""
    block, noise = objective.blocks[index], objective.noise[index]
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
