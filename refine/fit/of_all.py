"""Numbers over the blocks of all processes, where each holds some: what an objective says of its own, put together.

The loop and the preparation ask for them; every process must ask alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from refine.parameters.parameter_set import ParameterSet
from refine.pixels.block import Block
from refine.pixels.fit_quality import misfit_of, misfit_sums, scatter_of, strong_scales
from refine.pixels.nuisance import BoxFit
from refine.pixels.objective import PixelObjective
from refine.positions.objective import PositionObjective, rms_of
from refine.processes import gathered, listed, total


def rms(objective: PositionObjective, parameters: ParameterSet) -> tuple[float, float]:
    """rms (fast, slow) in pixels over the spots of all experiments."""
    return rms_of(torch.cat(listed([objective.offsets(parameters)])))


def misfit(objective: PixelObjective, fits: Sequence[BoxFit]) -> tuple[float, float]:
    """:func:`refine.pixels.fit_quality.misfit_of` the pixels of all experiments."""
    return misfit_of(total(misfit_sums(objective, fits)))


def scale_scatter(blocks: Sequence[Block], fits: Sequence[BoxFit]) -> tuple[float, dict[int, float]]:
    """:func:`refine.pixels.fit_quality.scatter_of` the scales of all experiments."""
    return scatter_of(gathered(strong_scales(blocks, fits)))


def spread(objective: PositionObjective) -> tuple[float, float]:
    """Median over all experiments of the spots' spread: pixels, and frames or excitation errors."""
    pixels, third = torch.stack(listed(objective.spread)).median(0).values[[0, 2]].tolist()
    return pixels, third
