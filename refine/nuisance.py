"""Scales and backgrounds of shoeboxes, solved for inside the loss at every step: variable projection.

A box's model is µ = s·m + Z·b: the rendered spot m with its scale s ≥ 0, and a background Z·b > 0. Given m they are
the answer to a weighted linear problem, repeated with the variance of the model it gave (Fisher scoring). What is left
of the residuals' dependence on the geometry is orthogonal to scale and background, so that wrong amplitudes cannot
pull the geometry (Golub and Pereyra, SIAM J. Numer. Anal. 10, 413, 1973; in Kaufman's approximation). Where spots are
not quite their model they have errors of their own besides, of a known spread: refine/spot_errors.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from refine.losses import Noise, variance
from refine.spot_errors import SpotErrors, error_columns

_RIDGE = 1e-10  # relative; a column that is all zero must not make the small systems singular


class BoxFit(NamedTuple):
    """The nuisances of B boxes and the model they make."""

    scale: Tensor  # [B] s, 0 where the data want it negative
    background: Tensor  # [B, C]
    total: Tensor  # [B, Q] µ
    signal: Tensor  # [B, Q] s·m
    weight: Tensor  # [B, Q] 1/variance, 0 for pixels that do not count
    scale_sigma: Tensor  # [B]
    errors: Tensor  # [B, Q, E] columns of the spots' own errors; E = 0 where they have none
    penalty: Tensor  # [B] Σ(error/σ)²


@dataclass(frozen=True)
class Effects:
    """The spread of the spots' own errors, and ``place`` [B, Q, 3] (fast, slow, frame) of every pixel."""

    spread: SpotErrors
    place: Tensor

    def columns(self, signal: Tensor) -> Tensor:
        """Design [B, Q, E] of the errors of spots ``signal`` [B, Q], in units of their spread."""
        return error_columns(signal, self.place) * signal.new_tensor(self.spread.sigmas)


@dataclass(frozen=True)
class _Boxes:
    """What is given of B boxes: see :func:`solve_boxes`. ``floor`` [B, 1] is the least background that makes sense."""

    model: Tensor
    columns: Tensor
    counts: Tensor
    use: Tensor
    floor: Tensor
    noise: Noise
    free_scale: bool

    def fit(self, total: Tensor, signal: Tensor, errors: Tensor) -> BoxFit:
        """One round of scoring: least squares with the variance of the model ``total``."""
        weight = self.use / variance(self.noise, total, signal, self.floor)
        spot = self.model[..., None] if self.free_scale else self.columns[..., :0]
        first, last = spot.shape[-1], spot.shape[-1] + self.columns.shape[-1]
        target = self.counts if self.free_scale else self.counts - self.model
        solution, inverse = _solve(torch.cat([spot, self.columns, errors], dim=-1), weight, target, errors.shape[-1])
        scale, sigma, signal = torch.ones_like(weight[:, 0]), torch.zeros_like(weight[:, 0]), self.model
        if self.free_scale:
            solution = self._without_negative(solution, weight)
            scale, sigma = solution[:, 0], inverse[:, 0, 0].clamp(min=0).sqrt()
            signal = scale[:, None] * self.model
        background, error = solution[:, first:last], solution[:, last:]
        total = torch.maximum(_times(self.columns, background), self.floor) + signal + _times(errors, error)
        return BoxFit(scale, background, total, signal, weight, sigma, errors, (error**2).sum(1))

    def _without_negative(self, solution: Tensor, weight: Tensor) -> Tensor:
        """``solution`` with the background alone in the boxes whose scale is negative."""
        alone, _ = _solve(self.columns, weight, self.counts)
        alone = torch.nn.functional.pad(alone, (1, solution.shape[-1] - alone.shape[-1] - 1))
        return torch.where(solution[:, :1] < 0, alone, solution)


def _times(columns: Tensor, solution: Tensor) -> Tensor:
    return (columns @ solution[..., None])[..., 0]


def _solve(columns: Tensor, weight: Tensor, counts: Tensor, known: int = 0) -> tuple[Tensor, Tensor]:
    """Weighted least squares of each box: solution [B, n] and inverse normal matrix [B, n, n]; columns [B, Q, n].

    The last ``known`` numbers of the solution are expected to be 0 ± 1.
    """
    weighted = columns * weight[..., None]
    normal = columns.transpose(1, 2) @ weighted
    if known:
        normal.diagonal(dim1=1, dim2=2)[:, -known:] += 1
    size = normal.diagonal(dim1=1, dim2=2)
    # scaled to a unit diagonal first: scales and backgrounds differ by many orders of magnitude; an empty column
    # (a spot that does not reach its box) has no solution but 0
    empty = size <= 0
    root = torch.where(empty, 0, size.clamp(min=1e-300).rsqrt())
    scaled = normal * root[:, :, None] * root[:, None, :]
    inverse = torch.linalg.inv(scaled + torch.diag_embed(empty + _RIDGE)) * root[:, :, None] * root[:, None, :]
    return _times(inverse, (weighted.transpose(1, 2) @ counts[..., None])[..., 0]), inverse


def solve_boxes(
    model: Tensor,
    columns: Tensor,
    counts: Tensor,
    valid: Tensor,
    noise: Noise,
    *,
    free_scale: bool,
    effects: Effects | None = None,
    rounds: int = 6,
) -> BoxFit:
    """The best scale and background of every box, and its spot's own errors where ``effects`` allows them.

    model: [B, Q] the rendered spot. columns: [B, Q, C] background design. counts, valid: [B, Q]. free_scale False
    holds every scale at 1 (one scale a frame is then a parameter of the fit).
    """
    use = valid.to(counts)
    pixels = use.sum(1, keepdim=True).clamp(min=1)
    mean = (counts * use).sum(1, keepdim=True) / pixels
    # the smallest mean that makes sense for a pixel: what one count in the whole box would give, spread over it
    floor = torch.maximum(0.05 * mean, 1 / pixels) / 10
    boxes = _Boxes(model, columns, counts, use, floor, noise, free_scale)
    signal = torch.zeros_like(model) if free_scale else model
    fit = boxes.fit(torch.maximum(mean, floor) + signal, signal, columns[..., :0])
    for _ in range(rounds - 1):
        errors = fit.errors if effects is None else effects.columns(fit.signal)
        fit = boxes.fit(fit.total, fit.signal, errors)
    return fit


def project(columns: Tensor, weight: Tensor, jacobian: Tensor, known: int = 0) -> Tensor:
    """``jacobian`` [B, Q, T] less what the nuisance ``columns`` [B, Q, n] explain of it under ``weight`` [B, Q].

    The last ``known`` columns are of numbers that are 0 ± 1 beforehand, and explain the less for it.
    """
    weighted = columns * weight[..., None]
    _, inverse = _solve(columns, weight, torch.zeros_like(weight), known)
    explained = inverse @ (weighted.transpose(1, 2) @ jacobian)
    return jacobian - columns @ explained
