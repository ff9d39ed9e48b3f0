"""Smooth curves through knots: the natural cubic spline as a linear map of the values at its knots."""

from __future__ import annotations

import torch
from torch import Tensor


def natural_curvatures(knots: Tensor) -> Tensor:
    """S [n, n]: the second derivatives at ``knots`` [n] (rising) of the natural cubic spline of values y are S @ y.

    Continuity of the first derivative at the inner knots, no curvature at the two ends (de Boor, A Practical Guide to
    Splines, ch. IV; Press et al., Numerical Recipes §3.3). Two knots give the straight line.
    """
    n, gap = len(knots), knots.diff()
    left, right = torch.eye(n).to(knots), torch.zeros(n, n).to(knots)
    for i in range(1, n - 1):
        left[i, i - 1 : i + 2] = torch.stack([gap[i - 1] / 6, (gap[i - 1] + gap[i]) / 3, gap[i] / 6])
        right[i, i - 1 : i + 2] = torch.stack([1 / gap[i - 1], -1 / gap[i - 1] - 1 / gap[i], 1 / gap[i]])
    return torch.linalg.solve(left, right)


def spline_weights(at: Tensor, knots: Tensor, curvatures: Tensor) -> Tensor:
    """W [J, n]: the natural cubic spline of values y [n] at ``knots`` [n] is W @ y at the points ``at`` [J].

    curvatures: [n, n] of :func:`natural_curvatures`. Beyond the first and the last knot the curve is constant.
    Differentiable in ``at``, twice and more within an interval.
    """
    inside = torch.minimum(torch.maximum(at, knots[0]), knots[-1])
    below = (torch.searchsorted(knots, inside.detach().contiguous(), right=True) - 1).clamp(0, len(knots) - 2)
    gap = knots[below + 1] - knots[below]
    up = ((inside - knots[below]) / gap)[:, None]
    down = 1 - up
    place = torch.eye(len(knots)).to(knots)
    bend = gap[:, None] ** 2 / 6
    line = down * place[below] + up * place[below + 1]
    return line + bend * ((down**3 - down) * curvatures[below] + (up**3 - up) * curvatures[below + 1])
