"""Spots that stay far from their predictions after the fit of positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from refine.indexing.assignment import Evidence
from refine.parameters.parameter_set import ParameterSet
from refine.positions.objective import PositionObjective
from refine.positions.position_block import PositionBlock, block_of
from refine.settings.fit_settings import FitSettings

_FAR = 6.0  # spreads of an experiment's residuals
_WORSE = 2.0  # times the experiments' median spread, to which a bad one is held
_FAR_HELDOUT = 3.0  # pixels
_FAR_FRAMES = 3.0  # as much as a rocking curve cut by the scan's end can pretend to


def fitted_blocks(evidence: Sequence[Evidence], settings: FitSettings) -> list[PositionBlock]:
    """The positions of the spots that the fit may see."""
    return [block_of(e.expt, e.observed.fitted(), settings.detector.parallax) for e in evidence]


def without_outliers(
    items: Sequence[Evidence], parameters: ParameterSet, settings: FitSettings, far: float | None = None
) -> list[Evidence]:
    """``items`` without the spots that stayed far from their predictions: their indices are wrong, or they are no
    spots.

    Far is six times the experiment's own spread and never less than a pixel, or ``far`` times the spread. Held-out
    spots are to be scored: of them only those go that cannot be the reflection, by frames or by more than three pixels.
    """
    if not items:  # a process whose experiments are all lost
        return []
    seen = PositionObjective(fitted_blocks(items, settings))
    seen.estimate_spread(parameters)
    every = PositionObjective([block_of(e.expt, e.observed, settings.detector.parallax) for e in items])
    usual = torch.stack(list(seen.spread)).median(0).values
    each = zip(items, seen.spread, every.blocks, every.residuals(parameters), strict=True)
    return [
        _close(item, reach_of(spread, far, usual), *left, block.spindle_share, keep_one=far is None)
        for item, spread, block, left in each
    ]


def reach_of(spread: Tensor, far: float | None, usual: Tensor) -> Tensor:
    """Pixels [2] from its prediction from which on a spot is an outlier; ``usual``: the experiments' median spread.

    With ``far`` an experiment that scatters by more than _WORSE times the usual has no wider reach for it.
    """
    if far is None:
        return torch.clamp(_FAR * spread[:2], min=1.0)
    return far * torch.minimum(spread[:2], _WORSE * usual[:2])


def _close(
    item: Evidence, reach: Tensor, residual: Tensor, valid: Tensor, spindle_share: Tensor, *, keep_one: bool
) -> Evidence:
    """``item`` without its spots whose ``residual`` [n, 3] is beyond ``reach`` [2]; with ``keep_one`` as it is if none
    were left."""
    late = (residual[:, 2].abs() * spindle_share > _FAR_FRAMES) & (not item.expt.still)
    far = (residual[:, :2].abs() > reach).any(1) | late | ~valid
    another = (residual[:, :2].abs() > _FAR_HELDOUT).any(1) | late | ~valid
    outlier = torch.where(item.observed.heldout, another & far, far)
    if bool(outlier.all()) and keep_one:
        return item
    distance = residual[:, :2].norm(dim=1)
    reasons = [
        (int(item.observed.found[i]), f"{float(distance[i]):.1f} px from its prediction")
        for i in torch.nonzero(outlier)[:, 0].tolist()
    ]
    return replace(item, observed=item.observed[~outlier], rejected=(*item.rejected, *reasons))
