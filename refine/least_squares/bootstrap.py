"""A bootstrap over reflections: how far the values scatter when reflections are drawn again, with replacement.

It checks the sandwich without sharing its algebra (Efron, Ann. Statist. 7, 1, 1979): a drawing weighs each reflection
by how often it was drawn, and its fit is one Gauss–Newton step from the fit of all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from refine.least_squares.levenberg_marquardt import over_all
from refine.least_squares.normal import BlockNormal, assemble, joint, solve_arrow
from refine.least_squares.restraint_terms import restrained
from refine.parameters.panel_columns import Scores
from refine.parameters.parameter_set import ParameterSet


@torch.no_grad()
def bootstrap_sigmas(
    blocks: Sequence[int], scores: Sequence[Scores], parameters: ParameterSet, drawings: int, seed: int
) -> Tensor:
    """Standard deviations [T] of the free parameters over ``drawings`` of the reflections of ``blocks``.

    ``scores`` are those of the blocks at the values of ``parameters``. Of several processes each draws its own blocks'
    reflections, and all call this together; a seed gives the same drawings however the blocks are shared.
    """
    sources = [torch.Generator().manual_seed(seed * 1_000_003 + number) for number in blocks]
    ends = []
    for _ in range(drawings):
        times = [_drawn(len(score.few_gradient), source) for score, source in zip(scores, sources, strict=True)]
        normals = [BlockNormal(*score.total(often)) for score, often in zip(scores, times, strict=True)]
        arrow = restrained(joint(assemble(normals, len(parameters.shared), blocks)), parameters)
        ends.append(over_all(arrow, *solve_arrow(arrow), parameters)[parameters.free])
    return torch.stack(ends).std(0)


def _drawn(count: int, source: torch.Generator) -> Tensor:
    """How often [count] each of ``count`` things comes up in as many draws."""
    if count == 0:
        return torch.zeros(0, dtype=torch.float64)
    drawn = torch.randint(count, (count,), generator=source)
    return torch.bincount(drawn, minlength=count).double()
