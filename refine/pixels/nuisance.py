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

from refine.pixels.losses import Noise, variance
from refine.pixels.spot_errors import SpotErrors, error_columns

_ROUNDS_NEARBY = 3
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

    def rows(self, errors: Tensor) -> Tensor:
        """The design, a row a number: spot (where its scale is free), background, ``errors`` [B, Q, E]; the target."""
        spot = self.model[:, None] if self.free_scale else self.model[:, None][:, :0]
        target = self.counts if self.free_scale else self.counts - self.model
        return torch.cat([spot, self.columns.mT, errors.mT, target[:, None]], dim=1)

    def fit(self, weight: Tensor, errors: Tensor, rows: Tensor | None = None) -> BoxFit:
        """Least squares under ``weight`` [B, Q] with the spots' own ``errors`` [B, Q, E]; ``rows``: as above."""
        rows = self.rows(errors) if rows is None else rows
        first, last = int(self.free_scale), int(self.free_scale) + self.columns.shape[-1]
        solution, inverse = _solve(rows, weight, errors.shape[-1])
        scale, sigma, signal = torch.ones_like(weight[:, 0]), torch.zeros_like(weight[:, 0]), self.model
        if self.free_scale:
            solution = self._without_negative(solution, rows, weight)
            scale, sigma = solution[:, 0], inverse[:, 0, 0].clamp(min=0).sqrt()
            signal = scale[:, None] * self.model
        background, error = solution[:, first:last], solution[:, last:]
        total = torch.maximum(_sum(rows[:, first:last], background), self.least) + signal
        if errors.shape[-1]:
            total = total + _sum(rows[:, last:-1], error)
        return BoxFit(scale, background, total, signal, weight, sigma, errors, (error**2).sum(1))

    def _without_negative(self, solution: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
        """``solution`` with the background alone in the boxes whose scale is negative."""
        negative = solution[:, 0] < 0
        if not bool(negative.any()):
            return solution
        last = 1 + self.columns.shape[-1]
        alone, _ = _solve(torch.cat([rows[negative, 1:last], rows[negative, -1:]], dim=1), weight[negative])
        changed = solution.clone()
        changed[negative] = torch.nn.functional.pad(alone, (1, solution.shape[-1] - last))
        return changed


def _sum(rows: Tensor, solution: Tensor) -> Tensor:
    """Σ rows·solution [B, Q] of ``rows`` [B, n, Q] and ``solution`` [B, n]: for few rows faster than a product."""
    return (rows * solution[..., None]).sum(1)


def _solve(rows: Tensor, weight: Tensor, known: int = 0) -> tuple[Tensor, Tensor]:
    """Weighted least squares of each box: solution [B, n] and inverse normal matrix [B, n, n].

    rows: [B, n + 1, Q] the design, a row a number, and last the target. The last ``known`` numbers of the solution are
    expected to be 0 ± 1.
    """
    gram = (rows * weight[:, None]) @ rows.mT
    normal, pulled = gram[:, :-1, :-1], gram[:, :-1, -1]
    inverse = _inverse(normal, known)
    return (inverse * pulled[:, None]).sum(-1), inverse


def _inverse(normal: Tensor, known: int) -> Tensor:
    """Inverse [B, n, n] of normal matrices, the last ``known`` numbers being expected to be 0 ± 1."""
    size = normal.diagonal(dim1=1, dim2=2)
    if known:
        normal, size = normal.clone(), size.clone()
        size[:, -known:] += 1
        normal.diagonal(dim1=1, dim2=2).copy_(size)
    # scaled to a unit diagonal first: scales and backgrounds differ by many orders of magnitude; an empty column
    # (a spot that does not reach its box) has no solution but 0
    empty = size <= 0
    root = torch.where(empty, 0, size.clamp(min=1e-300).rsqrt())
    across = root[:, :, None] * root[:, None, :]
    return torch.linalg.inv(normal * across + torch.diag_embed(empty + _RIDGE)) * across


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
    weight = use / variance(noise, torch.maximum(mean, floor) + signal, signal, floor)
    return _scored(boxes, noise, floor, use, (weight, columns[..., :0]), effects, rounds)


def solve_nearby(
    model: Tensor,
    columns: Tensor,
    counts: Tensor,
    noise: Noise,
    start: BoxFit,
    *,
    free_scale: bool,
    effects: Effects | None = None,
) -> BoxFit:
    """:func:`solve_boxes` from the fit ``start`` of a model close by: fewer rounds come as near to the answer."""
    use = (start.weight > 0).to(counts)
    _, floor = _mean_and_floor(counts, use)
    boxes = _Boxes(model, columns, counts, _least(noise, floor), free_scale)
    return _scored(boxes, noise, floor, use, (start.weight, start.errors), effects, _ROUNDS_NEARBY)


def _scored(
    boxes: _Boxes,
    noise: Noise,
    floor: Tensor,
    use: Tensor,
    begun: tuple[Tensor, Tensor],
    effects: Effects | None,
    rounds: int,
) -> BoxFit:
    """Rounds of Fisher scoring for the pixels in ``use`` [B, Q]; ``begun``: the first weights and errors."""
    errors = begun[1]
    rows = boxes.rows(errors)
    fit = boxes.fit(begun[0], errors, rows)
    for _ in range(rounds - 1):
        if effects is not None:
            errors = effects.columns(fit.signal)
            rows = boxes.rows(errors)
        fit = boxes.fit(use / variance(noise, fit.total, fit.signal, floor), errors, rows)
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
    inverse = _inverse(weighted.mT @ columns, known)
    return jacobian - columns @ (inverse @ (weighted.mT @ jacobian))
