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
    """What is given of B boxes: see :func:`solve_boxes`. ``least`` [B, 1]: the smallest background a pixel may have."""

    model: Tensor
    columns: Tensor
    counts: Tensor
    least: Tensor
    free_scale: bool

    def fit(self, weight: Tensor, errors: Tensor) -> BoxFit:
        """Least squares under ``weight`` [B, Q] with the spots' own ``errors`` [B, Q, E]."""
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
        total = torch.maximum(_times(self.columns, background), self.least) + signal + _times(errors, error)
        return BoxFit(scale, background, total, signal, weight, sigma, errors, (error**2).sum(1))

    def _without_negative(self, solution: Tensor, weight: Tensor) -> Tensor:
        """``solution`` with the background alone in the boxes whose scale is negative."""
        if not bool((solution[:, 0] < 0).any()):
            return solution
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
    mean, floor = _mean_and_floor(counts, use)
    boxes = _Boxes(model, columns, counts, _least(noise, floor), free_scale)
    signal = torch.zeros_like(model) if free_scale else model
    fit = boxes.fit(use / variance(noise, torch.maximum(mean, floor) + signal, signal, floor), columns[..., :0])
    for _ in range(rounds - 1):
        errors = fit.errors if effects is None else effects.columns(fit.signal)
        fit = boxes.fit(use / variance(noise, fit.total, fit.signal, floor), errors)
    return fit


def solve_held(
    model: Tensor, columns: Tensor, counts: Tensor, noise: Noise, held: BoxFit, *, free_scale: bool
) -> BoxFit:
    """:func:`solve_boxes` with the weights of ``held`` and the forms of the spots' errors: for steps to be compared."""
    _, floor = _mean_and_floor(counts, (held.weight > 0).to(counts))
    return _Boxes(model, columns, counts, _least(noise, floor), free_scale).fit(held.weight, held.errors)


def _least(noise: Noise, floor: Tensor) -> Tensor:
    """Counts have a background above 0; an integrating detector's pedestal may lie a little off, on either side."""
    return floor if noise.counting else torch.full_like(floor, -torch.inf)


def _mean_and_floor(counts: Tensor, use: Tensor) -> tuple[Tensor, Tensor]:
    """Mean counts [B, 1] of the pixels in ``use``, and the smallest background that makes sense for one of them.

    That is what one count in the whole box would give, spread over it.
    """
    pixels = use.sum(1, keepdim=True).clamp(min=1)
    mean = (counts * use).sum(1, keepdim=True) / pixels
    return mean, torch.maximum(0.05 * mean, 1 / pixels) / 10


def project(columns: Tensor, weight: Tensor, jacobian: Tensor, known: int = 0) -> Tensor:
    """``jacobian`` [B, Q, T] less what the nuisance ``columns`` [B, Q, n] explain of it under ``weight`` [B, Q].

    The last ``known`` columns are of numbers that are 0 ± 1 beforehand, and explain the less for it.
    """
    weighted = columns * weight[..., None]
    _, inverse = _solve(columns, weight, torch.zeros_like(weight), known)
    explained = inverse @ (weighted.transpose(1, 2) @ jacobian)
    return jacobian - columns @ explained
