"""The share of restraints, and of the header's own uncertainty, in loss and normal equations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from refine.least_squares.normal import Arrow, add_diagonal
from refine.parameters.parameter_set import ParameterSet


def restraint_loss(parameters: ParameterSet) -> float:
    """Σ r² over the free restrained parameters, r of :func:`restraints`, and the headers' Σ((value − start)/span)²."""
    free, values = parameters.free, parameters.values.detach()
    held, _ = restraints(parameters, free)
    return float((held**2 + ((values - parameters.start)[free] / parameters.column("span", free)) ** 2).sum())


def restraints(parameters: ParameterSet, place: Sequence[int]) -> tuple[Tensor, Tensor]:
    """How far values at ``place`` are from their targets, in the restraints' sigmas, and its derivative [len(place)].

    r = (value − target)/σ, and target·ln(value/target)/σ of what is known in proportion: were their sigmas taken from
    the targets alone, those that are too small would count for more, and pull the scale of all with them.
    """
    values, target = parameters.values.detach()[place], parameters.target[place]
    sigma = parameters.column("restraint", place)
    ratio = torch.where(parameters.logarithmic[place], values / target, 1)
    plain = (values - target) / sigma
    return torch.where(parameters.logarithmic[place], target * ratio.log() / sigma, plain), 1 / (ratio * sigma)


def restrained(arrow: Arrow, parameters: ParameterSet) -> Arrow:
    """``arrow`` with the restraints' share of matrix and gradient."""
    shared, locals_ = parameters.shared, [parameters.local[block] for block in arrow.blocks]
    found = [_stiffness(parameters, place) for place in (shared, *locals_)]
    arrow = add_diagonal(arrow, found[0][0], [stiff for stiff, _ in found[1:]])
    own = tuple(g + pull for g, (_, pull) in zip(arrow.local_gradient, found[1:], strict=True))
    return arrow._replace(shared_gradient=arrow.shared_gradient + found[0][1], local_gradient=own)


def _stiffness(parameters: ParameterSet, place: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The second derivatives of restraints and spans [len(place)], and their pull towards target and start.

    A header is a measurement too, if a poor one: a direction that the data do not determine stays where it was.
    """
    values = parameters.values.detach()
    held, slope = restraints(parameters, place)
    header = parameters.column("span", place) ** -2
    return slope**2 + header, (parameters.start - values)[place] * header - held * slope
