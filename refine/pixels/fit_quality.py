"""How well rendered spots explain the pixels: of all spots, of single ones, and their scales among each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from refine.parameters.parameter_set import ParameterSet
from refine.pixels.block import Block
from refine.pixels.losses import huber_weight
from refine.pixels.nuisance import BoxFit
from refine.pixels.objective import PixelObjective

_HUBER = 2.0


def misfit(
    objective: PixelObjective, parameters: ParameterSet, fits: Sequence[BoxFit] | None = None
) -> tuple[float, float]:
    """:func:`misfit_of` the objective's blocks. ``fits``: at the current values, where they are known."""
    return misfit_of(misfit_sums(objective, objective.fits(parameters) if fits is None else fits))


def misfit_of(sums: Tensor) -> tuple[float, float]:
    """Mean z² over all pixels under spots, and the model_error that makes up for its excess: m² = Σ(y² − v)/Σs².

    Sums, not a mean of ratios: the faint tails that a Gaussian lacks would else make the bright pixels count for
    nothing. ``sums`` [4] are those of :func:`misfit_sums`, of as many blocks as are to count.
    """
    pixels, z2, beyond, signal = sums.tolist()
    if pixels == 0:
        return 1.0, 0.0
    return z2 / pixels, (max(beyond, 0.0) / max(signal, 1e-300)) ** 0.5


def misfit_sums(objective: PixelObjective, fits: Sequence[BoxFit]) -> Tensor:
    """Pixels under spots, Σz², Σ(y² − v) and Σs² [4] of the objective's blocks, whose nuisances are ``fits``."""
    sums = torch.zeros(4, dtype=torch.float64)
    for block, fit, noise in zip(objective.blocks, fits, objective.noise, strict=True):
        under = _under_spot(block, fit)
        y2, s2, weight = ((block.boxes.counts - fit.total) ** 2)[under], (fit.signal**2)[under], fit.weight[under]
        excess = y2 - (1 / weight - noise.model_error**2 * s2)
        sums += torch.stack([under.sum(), (y2 * weight).sum(), excess.sum(), s2.sum()])
    return sums


def box_chi_square(block: Block, fit: BoxFit) -> Tensor:
    """Mean z² [B] over the pixels under each spot (all its pixels where the spot has no signal)."""
    z2 = (block.boxes.counts - fit.total) ** 2 * fit.weight
    under = _under_spot(block, fit)
    any_under = under.any(1, keepdim=True)
    use = torch.where(any_under, under, block.boxes.valid).to(z2)
    return (z2 * use).sum(1) / use.sum(1).clamp(min=1)


def _under_spot(block: Block, fit: BoxFit) -> Tensor:
    """Pixels [B, Q] whose signal is at least a third of their noise."""
    return block.boxes.valid & (fit.signal**2 * fit.weight > 0.1)


class StrongScales(NamedTuple):
    """Of one experiment's strong boxes: the ``median`` of their scales (NaN without any), and each one's relative
    distance from it [n]."""

    median: float
    scatter: Tensor


def scale_scatter(blocks: Sequence[Block], fits: Sequence[BoxFit]) -> tuple[float, dict[int, float]]:
    """:func:`scatter_of` the scales of ``blocks``."""
    return scatter_of(strong_scales(blocks, fits))


def scatter_of(found: Mapping[int, StrongScales]) -> tuple[float, dict[int, float]]:
    """Median relative scatter of the strong boxes' scales about their experiment's median, and those medians.

    Without medians where an experiment has no strong box.
    """
    if any(math.isnan(median) for median, _ in found.values()):
        return math.inf, {}
    scatter = torch.cat([scatter for _, scatter in found.values()])
    return float(scatter.median()), {expt: median for expt, (median, _) in found.items()}


def strong_scales(blocks: Sequence[Block], fits: Sequence[BoxFit]) -> dict[int, StrongScales]:
    """The scales of the strong boxes of each block, by the number of its experiment."""
    found: dict[int, StrongScales] = {}
    for block, fit in zip(blocks, fits, strict=True):
        strong = fit.scale > 10 * fit.scale_sigma
        if int(strong.sum()) < 3:
            strong = fit.scale > 0
        scale = fit.scale[strong]
        if len(scale) == 0:
            found[block.index] = StrongScales(math.nan, scale)
            continue
        weight = (scale / fit.scale_sigma[strong].clamp(min=1e-300)) ** 2
        order = scale.argsort()
        half = int(torch.searchsorted(weight[order].cumsum(0), 0.5 * weight.sum()))
        median = float(scale[order][min(half, len(scale) - 1)])
        found[block.index] = StrongScales(median, (scale / median - 1).abs())
    return found


def robust_weights(blocks: Sequence[Block], fits: Sequence[BoxFit]) -> list[Tensor]:
    """Huber weights [B] of the boxes of every block, from their reduced chi-square."""
    weights = []
    for block, fit in zip(blocks, fits, strict=True):
        reduced = box_chi_square(block, fit)
        weights.append(huber_weight(reduced / reduced.median().clamp(min=1e-3), _HUBER))
    return weights


def wary(block: Block, fit: BoxFit, model_error: float) -> BoxFit:
    """``fit`` with the error of shapes counted where the spot is seen as well as where it is expected."""
    noise = torch.where(fit.weight > 0, 1 / fit.weight, 0)
    seen = block.boxes.counts - (fit.total - fit.signal)
    beyond = torch.where(seen > 3 * noise.sqrt(), seen**2 - fit.signal**2, 0).clamp(min=0)
    return fit._replace(weight=torch.where(fit.weight > 0, 1 / (noise + model_error**2 * beyond).clamp(min=1e-300), 0))
