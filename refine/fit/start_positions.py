"""Where the given geometry predicts the spots: what a fit improves on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from refine.indexing.assignment import Evidence
from refine.parameters.parameter_set import ParameterSet
from refine.positions.objective import PositionObjective, rms_of
from refine.positions.position_block import block_of


def start_positions(evidence: Sequence[Evidence], parameters: ParameterSet, parallax: str) -> list[Tensor]:
    """Where the given geometry predicts the observed spots, [n, 2] an experiment; NaN where it does not."""
    every = PositionObjective([block_of(e.expt, e.observed, parallax) for e in evidence])
    found = every.residuals(parameters.twin(parameters.start))
    return [
        torch.where(valid[:, None], (block.target - residual)[:, :2], torch.nan)
        for block, (residual, valid) in zip(every.blocks, found, strict=True)
    ]


def rms_at_start(evidence: Sequence[Evidence], start: Sequence[Tensor]) -> tuple[float, float]:
    """rms (fast, slow) in pixels of the spots about their places in ``start``; NaN without spots."""
    rows = [torch.zeros(0, 2, dtype=torch.float64)]
    for item, px in zip(evidence, start, strict=True):
        rows.append(torch.stack([item.observed.fast, item.observed.slow], dim=1) - px)
    both = torch.cat(rows)
    return rms_of(both[torch.isfinite(both).all(1)])
