"""Columns of a Jacobian where many parameters only move panels: few columns a pixel serve for all of them.

A pixel sees a detector through the twelve numbers of its own panel's frame (axes and origin) alone, and rigid motions
have six of them free. So however many bodies of a hierarchy move, six columns a pixel are computed, and each
parameter's are a combination of these that depends on the panel: J = columns·spread[panel]. The cost of a frame then
does not grow with the number of modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nbtorch.models import Detector
from nbtorch.render.tangents import SceneTangents
from refine.parameters.parameter_set import ParameterSet

_RANK = 1e-12  # of the largest singular value


class PanelColumns(NamedTuple):
    """Derivatives of the pixels of B boxes by T parameters, as few ``columns`` [B, Q, R].

    ``spread`` [panels, R, T] makes the T of them for boxes on ``panel`` [B]; None where R = T and they are the same.
    The last C of the R columns may be ``own`` [B, C]: derivatives by parameters that are each box's own choice, the
    places of which among the T it says; those of ``spread`` are then the first R − C.
    """

    columns: Tensor
    panel: Tensor
    spread: Tensor | None
    own: Tensor | None = None

    def expanded(self) -> Tensor:
        """All columns [B, Q, T]."""
        if self.spread is None:
            return self.columns
        return self.columns @ spread_of_boxes(self.panel, self.spread, self.own)


def spread_of_boxes(panel: Tensor, spread: Tensor, own: Tensor | None) -> Tensor:
    """What makes all columns of every box [B, R, T] from its few; see :class:`PanelColumns`."""
    if own is None:
        return spread[panel]
    chosen = torch.nn.functional.one_hot(own, spread.shape[2]).to(spread)
    return torch.cat([spread[panel], chosen], dim=1)


class Scores(NamedTuple):
    """What each box of a block says about the block's free parameters, the nuisances being projected out.

    ``few_gradient`` [B, R] is JᵀW(y − µ) and ``few_matrices`` [B, R, R] JᵀWJ, in the columns of :class:`PanelColumns`.
    """

    few_gradient: Tensor
    few_matrices: Tensor
    panel: Tensor | None = None
    spread: Tensor | None = None
    own: Tensor | None = None

    @property
    def gradient(self) -> Tensor:
        """JᵀW(y − µ) [B, T]."""
        return self._expanded(self.few_gradient)

    @property
    def matrices(self) -> Tensor:
        """JᵀWJ [B, T, T]: many numbers; sums of them are made by :meth:`total`."""
        if self.spread is None or self.panel is None:
            return self.few_matrices
        spread = spread_of_boxes(self.panel, self.spread, self.own)
        return spread.mT @ self.few_matrices @ spread

    def _expanded(self, few: Tensor) -> Tensor:
        """Numbers [B, T] of all columns from those of the few [B, R]."""
        if self.spread is None or self.panel is None:
            return few
        shared = self.spread.shape[1]
        every = (few[:, None, :shared] @ self.spread[self.panel])[:, 0]
        return every if self.own is None else every.scatter_add(1, self.own, few[:, shared:])

    def without_leverage(self, covariance: Tensor, share: float) -> Tensor:
        """Each box's gradient g as it would be if the box, whose matrix H is, had not been fitted: (1 − share·H·C)⁻¹·g
        with the ``covariance`` C [T, T], in the few columns [B, R].

        With H = SᵀMS and g = Sᵀγ it is Sᵀ·(1 − share·M·S·C·Sᵀ)⁻¹γ, of which this is what Sᵀ spreads.
        """
        among = covariance.expand(len(self.few_gradient), *covariance.shape)
        if self.spread is not None and self.panel is not None:
            shared = self.spread @ covariance  # [panels, R, T]
            rows, among = shared[self.panel], (shared @ self.spread.mT)[self.panel]
            if self.own is not None:
                mixed = rows.gather(2, self.own[:, None].expand(-1, rows.shape[1], -1))
                corner = covariance[self.own[:, :, None], self.own[:, None]]
                among = torch.cat([torch.cat([among, mixed], 2), torch.cat([mixed.mT, corner], 2)], 1)
        eye = torch.eye(among.shape[-1], dtype=among.dtype, device=among.device)
        system = eye - share * self.few_matrices @ among
        solved: Tensor = torch.linalg.solve(system, self.few_gradient[..., None])
        return solved[..., 0]

    def total(self, times: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Sums over the boxes, each counted ``times`` [B], by default once: JᵀWJ [T, T] and JᵀW(y − µ) [T]."""
        of_boxes, pulls = self.few_matrices, self.few_gradient
        if times is not None:
            of_boxes, pulls = of_boxes * times[:, None, None], pulls * times[:, None]
        if self.spread is None or self.panel is None:
            return of_boxes.sum(0), pulls.sum(0)
        panels, few, every = self.spread.shape
        shared = of_boxes[:, :few, :few]
        matrices = shared.new_zeros(panels, few, few).index_add(0, self.panel, shared)
        gradient = shared.new_zeros(panels, few).index_add(0, self.panel, pulls[:, :few])
        matrix = (self.spread.mT @ matrices @ self.spread).sum(0)
        summed = (gradient[:, None] @ self.spread).sum((0, 1))
        if self.own is None:
            return matrix, summed
        place, count = self.own, self.own.shape[1]
        mixed = self.spread[self.panel].mT @ of_boxes[:, :few, few:]  # [B, T, C]
        crossed = matrix.new_zeros(every, every).index_add(0, place.flatten(), mixed.mT.flatten(0, 1))
        rows, columns = place[:, :, None].expand(-1, -1, count), place[:, None].expand(-1, count, -1)
        matrix = matrix.index_put((rows, columns), of_boxes[:, few:, few:], accumulate=True)
        summed = summed.index_add(0, place.flatten(), pulls[:, few:].flatten())
        return matrix + crossed + crossed.T, summed


def merged(of_frames: Sequence[SceneTangents]) -> tuple[list[SceneTangents], Tensor] | None:
    """Fewer tangents [R, …] of every frame's scene, and ``spread`` [panels, R, T]; None where there would not be fewer.

    Frames differ in the tangents of their basis alone.
    """
    first = of_frames[0]
    if first.frame is None:
        return None
    frame, only = first.frame, _moves_panels_alone(of_frames)
    of_panels = frame[only].movedim(0, 1).flatten(2)  # [panels, those, 12]
    _, size, axes = torch.linalg.svd(of_panels, full_matrices=False)
    rank = int((size > _RANK * size.max()).sum(1).max()) if size.numel() else 0
    if rank >= int(only.sum()):
        return None
    basis, rest = axes[:, :rank], torch.nonzero(~only)[:, 0]
    spread = frame.new_zeros(len(basis), rank + len(rest), len(only))
    spread[:, :rank, only] = basis @ of_panels.mT
    spread[:, rank + torch.arange(len(rest), device=rest.device), rest] = 1
    motions = basis.movedim(1, 0).unflatten(2, frame.shape[2:])

    def fewer(dots: SceneTangents) -> SceneTangents:
        kept = [None if dot is None else torch.cat([dot.new_zeros(rank, *dot.shape[1:]), dot[rest]]) for dot in dots]
        return SceneTangents(*kept)._replace(frame=torch.cat([motions, frame[rest]]))

    return [fewer(dots) for dots in of_frames], spread


class Directions(NamedTuple):
    """Parameters that move different panels share a direction ``along`` [D, T] (Curtis, Powell and Reid, J. Inst. Math.
    Appl. 13, 117, 1974): ``of`` [T] is each one's, and ``moves`` [panels, T] what it moves."""

    along: Tensor
    of: Tensor
    moves: Tensor

    def expanded(self, columns: Tensor, panel: Tensor) -> Tensor:
        """Derivatives [n, …, T] from those along the directions, [D, n, …], of n things on ``panel`` [n]."""
        every = columns.movedim(0, -1)[..., self.of]
        moves = self.moves[panel].to(every)
        return every * moves.reshape(len(panel), *[1] * (every.dim() - 2), -1)


def directions(parameters: ParameterSet, chosen: Sequence[int], detector: Detector) -> Directions:
    """As few directions as serve for the parameters at ``chosen``."""
    every = frozenset(range(len(detector.config.panels)))
    own: list[frozenset[int]] = []
    taken: list[frozenset[int]] = []
    of: list[int] = []
    for index in chosen:
        row, panels = parameters.parameters_[index], every
        if row.kind.owner == "detector":  # rigid bodies, three numbers each
            entries = row.entries
            panels = frozenset(p for entry in entries for p in detector.groups[entry.index // 3].all_panels())
        number = next((n for n, used in enumerate(taken) if not used & panels), len(taken))
        taken[number : number + 1] = [panels.union(*taken[number : number + 1])]
        own.append(panels)
        of.append(number)
    moves = torch.tensor([[panel in panels for panels in own] for panel in sorted(every)])
    place = torch.tensor(of, dtype=torch.long)
    along = torch.nn.functional.one_hot(place, max(len(taken), 1)).T.to(parameters.start)
    return Directions(along, place, moves)


def _moves_panels_alone(of_frames: Sequence[SceneTangents]) -> Tensor:
    """Which tangents [T] move panels, and nothing else in any frame."""
    first = of_frames[0]
    assert first.frame is not None
    others = [dot for dot in first._replace(frame=None) if dot is not None]
    others += [dots.basis for dots in of_frames[1:] if dots.basis is not None]
    alone = first.frame.flatten(1).any(1)
    for dot in others:
        alone = alone & ~dot.reshape(len(alone), -1).any(1)
    return alone
