"""What the pixels of each shoebox say of its spot: scale, integrated intensity, background, and how well it fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from refine.parameters.parameter_set import ParameterSet
from refine.pixels.block import Block
from refine.pixels.fit_quality import box_chi_square
from refine.pixels.nuisance import BoxFit
from refine.pixels.objective import PixelObjective
from refine.processes import gathered
from refine.spots.observations import Observations

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BoxRows:
    """Of the B boxes of one experiment: hkl [B, 3], panel [B], first and last frame [B, 2]; and ``columns``, [B] each.

    ``scale`` multiplies the spot that is rendered with the amplitude given and a crystal of scale 1. It is solved for
    with the background, box by box, also where the fit itself had one scale a crystal. ``intensity`` is the light that
    this spot has in the measured pixels of its box, in the frames' counts; ``background`` the mean of one pixel beneath
    it. ``chi_square`` is the mean squared residual of the pixels under the spot, of the fit itself. NaN: not known.
    """

    hkl: NDArray[np.int64]
    panel: NDArray[np.int64]
    frames: NDArray[np.int64]
    columns: dict[str, Array]

    def at(self, observed: Observations, *, still: bool) -> dict[str, Array]:
        """The ``columns`` [n] of n observed spots; NaN for one that has no box."""
        place = self._places(observed, still=still)
        return {
            name: np.where(place < 0, np.nan, np.append(values, np.nan)[place]) for name, values in self.columns.items()
        }

    def _places(self, observed: Observations, *, still: bool) -> NDArray[np.int64]:
        """The box [n] of each spot, of a reflection that is seen twice the one about its frame; −1 for none."""
        boxes: dict[tuple[int, ...], list[int]] = {}
        for number, key in enumerate(np.column_stack([self.hkl, self.panel]).tolist()):
            boxes.setdefault(tuple(key), []).append(number)
        keys = np.column_stack([observed.hkl.numpy(), observed.panel.numpy()]).tolist()
        found = np.full(len(keys), -1)
        for number, (key, frame) in enumerate(zip(keys, observed.frame.tolist(), strict=True)):
            for box in boxes.get(tuple(key), ()):
                if still or self.frames[box, 0] <= frame < self.frames[box, 1] + 1:
                    found[number] = box
        return found


NAMES = ("scale", "scale_sigma", "intensity", "intensity_sigma", "background", "chi_square")


@torch.no_grad()
def box_rows(objective: PixelObjective, parameters: ParameterSet) -> dict[int, BoxRows]:
    """The boxes of all processes, by the number of their experiment."""
    each = PixelObjective(
        objective.blocks,
        objective.noise,
        objective.box_weights,
        free_scales=True,
        errors=objective.errors,
        held=objective.held,
    )
    mine = {}
    for index, block in enumerate(objective.blocks):
        spots = block.model(parameters)
        fit, own = objective.fit_boxes(index, spots), each.fit_boxes(index, spots)
        light = torch.where(block.boxes.valid, spots, 0).sum(1)
        unit = float(parameters.changes(block.index)["scale"].detach())
        lit = (light > 0) & (own.scale_sigma > 0)
        scale, sigma = torch.where(lit, own.scale, torch.nan), torch.where(lit, own.scale_sigma, torch.nan)
        values = (unit * scale, unit * sigma, scale * light, sigma * light, _background(block, own))
        columns = dict(zip(NAMES, (*values, box_chi_square(block, fit)), strict=True))
        mine[block.index] = _rows(block, {name: column.double().numpy() for name, column in columns.items()})
    return gathered(mine)


def _background(block: Block, fit: BoxFit) -> torch.Tensor:
    """Mean background [B] of the measured pixels of each box, in counts."""
    valid = block.boxes.valid
    pixels = (block.columns * fit.background[:, None]).sum(-1)
    return torch.where(valid, pixels, 0).sum(1) / valid.sum(1)


def _rows(block: Block, columns: dict[str, Array]) -> BoxRows:
    boxes = block.boxes
    last = torch.where(boxes.valid, boxes.frame, -1).amax(1)
    first = torch.where(boxes.valid, boxes.frame, last[:, None]).amin(1)
    frames = torch.stack([first, last], dim=1).numpy()
    return BoxRows(boxes.hkl.numpy(), boxes.panel.numpy(), frames, columns)
