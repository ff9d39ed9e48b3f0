"""Scales and backgrounds of shoeboxes, solved for inside the loss at every step: variable projection.

A box's model is µ = s·m + Z·b: the rendered spot m with its scale s ≥ 0, and a background Z·b > 0. Given m they are
the answer to a weighted linear problem, repeated with the variance of the model it gave (Fisher scoring). What is left
of the residuals' dependence on the geometry is orthogonal to scale and background, so that wrong amplitudes cannot
pull the geometry (Golub and Pereyra, SIAM J. Numer. Anal. 10, 413, 1973; in Kaufman's approximation).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from refine.losses import Noise, variance

_RIDGE = 1e-10  # relative; a column that is all zero must not make the small systems singular


class BoxFit(NamedTuple):
    """The nuisances of B boxes and the model they make."""

    scale: Tensor  # [B] s, 0 where the data want it negative
    background: Tensor  # [B, C]
    total: Tensor  # [B, Q] µ
    signal: Tensor  # [B, Q] s·m
    weight: Tensor  # [B, Q] 1/variance, 0 for pixels that do not count
    scale_sigma: Tensor  # [B]


def _solve(columns: Tensor, weight: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted least squares of each box: solution [B, n] and inverse normal matrix [B, n, n]; columns [B, Q, n]."""
    weighted = columns * weight[..., None]
    normal = columns.transpose(1, 2) @ weighted
    size = normal.diagonal(dim1=1, dim2=2)
    # scaled to a unit diagonal first: scales and backgrounds differ by many orders of magnitude; an empty column
    # (a spot that does not reach its box) has no solution but 0
    empty = size <= 0
    root = torch.where(empty, 0, size.clamp(min=1e-300).rsqrt())
    scaled = normal * root[:, :, None] * root[:, None, :]
    inverse = torch.linalg.inv(scaled + torch.diag_embed(empty + _RIDGE)) * root[:, :, None] * root[:, None, :]
    return (inverse @ (weighted.transpose(1, 2) @ counts[..., None]))[..., 0], inverse


def solve_boxes(
    model: Tensor, columns: Tensor, counts: Tensor, valid: Tensor, noise: Noise, *, free_scale: bool, rounds: int = 6
) -> BoxFit:
    """The best scale and background of every box.

    model: [B, Q] the rendered spot. columns: [B, Q, C] background design. counts, valid: [B, Q]. free_scale False
    holds every scale at 1 (one scale a frame is then a parameter of the fit).
    """
    use = valid.to(counts)
    mean = (counts * use).sum(1, keepdim=True) / use.sum(1, keepdim=True).clamp(min=1)
    # the smallest mean that makes sense for a pixel: what one count in the whole box would give, spread over it
    floor = torch.maximum(0.05 * mean, 1 / use.sum(1, keepdim=True).clamp(min=1)) / 10
    design = torch.cat([model[..., None], columns], dim=-1) if free_scale else columns
    target = counts if free_scale else counts - model
    signal = torch.zeros_like(model) if free_scale else model
    total = torch.maximum(mean, floor).expand_as(counts) + (0 if free_scale else 1) * model
    weight, solution, inverse = use, torch.zeros_like(design[:, 0]), torch.zeros_like(design[:, 0, 0])
    for _ in range(rounds):
        weight = use / variance(noise, total, signal, floor)
        solution, inverse = _solve(design, weight, target)
        if free_scale:
            negative = solution[:, 0] < 0
            alone, _ = _solve(columns, weight, counts)
            clamped = torch.cat([torch.zeros_like(solution[:, :1]), alone], dim=1)
            solution = torch.where(negative[:, None], clamped, solution)
            signal = solution[:, :1] * model
        offset = (columns @ solution[:, 1 if free_scale else 0 :, None])[..., 0]
        total = torch.maximum(offset, floor) + signal
    scale = solution[:, 0] if free_scale else torch.ones_like(mean[:, 0])
    sigma = inverse[:, 0, 0].clamp(min=0).sqrt() if free_scale else torch.zeros_like(scale)
    return BoxFit(scale, solution[:, 1 if free_scale else 0 :], total, signal, weight, sigma)


def project(columns: Tensor, weight: Tensor, jacobian: Tensor) -> Tensor:
    """``jacobian`` [B, Q, T] less what the nuisance ``columns`` [B, Q, n] explain of it under ``weight`` [B, Q]."""
    weighted = columns * weight[..., None]
    _, inverse = _solve(columns, weight, torch.zeros_like(weight))
    explained = inverse @ (weighted.transpose(1, 2) @ jacobian)
    return jacobian - columns @ explained
