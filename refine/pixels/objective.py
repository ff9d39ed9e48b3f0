"""The loss of a joint fit, and its Gauss–Newton form with scales and backgrounds projected out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from refine.least_squares.normal import BlockNormal
from refine.least_squares.objective import BlockParts, DataObjective, Linearization
from refine.parameters.panel_columns import PanelColumns, Scores
from refine.parameters.parameter_set import ParameterSet
from refine.pixels.block import Block
from refine.pixels.losses import Noise, chi_square, deviance
from refine.pixels.nuisance import BoxFit, Effects, project, solve_boxes, solve_held, solve_nearby
from refine.pixels.spot_errors import SpotErrors


class PixelObjective(DataObjective):
    """The data of this process's blocks and how they are compared with the model.

    free_scales: every box has a scale of its own (solved inside the loss); otherwise each block's "scale" is one of
    its parameters. ``box_weights``: [B] of each block, robust weights. ``errors``: of single spots, where they are not
    quite their model. ``held``: fits whose weights serve throughout. Where the variance grows with the square of the
    signal they must: weights that follow the model would reward one that is bright where nothing is seen.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        noise: Sequence[Noise],
        box_weights: Sequence[Tensor],
        *,
        free_scales: bool,
        errors: SpotErrors | None = None,
        held: Sequence[BoxFit] | None = None,
    ) -> None:
        self._blocks = tuple(blocks)
        self.noise = tuple(noise)
        self.box_weights = tuple(box_weights)
        self.free_scales = free_scales
        self.errors = errors
        self.held = held

    @property
    def blocks(self) -> tuple[Block, ...]:
        """This process's blocks."""
        return self._blocks

    def fit_boxes(self, block: int, model: Tensor, start: BoxFit | None = None) -> BoxFit:
        """The nuisances of ``block`` given its rendered spots [B, Q]; ``start``: those of a model close by."""
        if self.held is not None:
            return self._fit_held(block, model, self.held[block])
        boxes, columns = self.blocks[block].boxes, self.blocks[block].columns
        effects = None if self.errors is None else Effects(self.errors, boxes.place)
        noise, free = self.noise[block], self.free_scales
        if start is not None:
            return solve_nearby(model, columns, boxes.counts, noise, start, free_scale=free, effects=effects)
        return solve_boxes(model, columns, boxes.counts, boxes.valid, noise, free_scale=free, effects=effects)

    def fits(self, parameters: ParameterSet) -> list[BoxFit]:
        """The nuisances of every block at the current values."""
        return [self.fit_boxes(index, block.model(parameters)) for index, block in enumerate(self.blocks)]

    def _fit_held(self, block: int, model: Tensor, held: BoxFit) -> BoxFit:
        counts, columns = self.blocks[block].boxes.counts, self.blocks[block].columns
        return solve_held(model, columns, counts, self.noise[block], held, free_scale=self.free_scales)

    def _is_deviance(self, block: int) -> bool:
        """Whether the loss is a likelihood; else it is a chi-square, whose weights are held while steps compare."""
        return self.noise[block].counting and self.noise[block].model_error == 0 and self.errors is None

    def box_losses(self, block: int, fit: BoxFit) -> Tensor:
        """Loss [B] of every box under the weights of ``fit``."""
        boxes = self.blocks[block].boxes
        if self._is_deviance(block):
            return torch.where(boxes.valid, deviance(boxes.counts, fit.total), 0).sum(1)
        spread = torch.where(fit.weight > 0, 1 / fit.weight, 1)
        return torch.where(boxes.valid, chi_square(boxes.counts, fit.total, spread), 0).sum(1) + fit.penalty

    def losses(self, parameters: ParameterSet, held: Linearization | None = None) -> list[float]:
        """The loss of every block at the current values, weights as in ``held``."""
        found = []
        for index, block in enumerate(self.blocks):
            model = block.model(parameters)
            if held is None:
                fit = self.fit_boxes(index, model)
            elif self._is_deviance(index):
                fit = self.fit_boxes(index, model, held.held[index])
            else:
                fit = self._fit_held(index, model, held.held[index])
            found.append(self._block_loss(index, fit))
        return found

    def _block_loss(self, index: int, fit: BoxFit) -> float:
        return float((self.box_weights[index] * self.box_losses(index, fit)).sum())

    @torch.no_grad()
    def parts(self, parameters: ParameterSet) -> BlockParts:
        """Losses, normal equations, fits and scores of every block at the current values."""
        losses, fits, scores, normals = [], [], [], []
        for index, block in enumerate(self.blocks):
            model, columns = block.panel_columns(parameters)
            fit = self.fit_boxes(index, model)
            score = self._scores(index, model, columns, fit)
            losses.append(self._block_loss(index, fit))
            fits.append(fit)
            scores.append(score)
            normals.append(BlockNormal(*score.total()))
        return BlockParts(tuple(losses), tuple(normals), tuple(fits), tuple(scores))

    def _scores(self, index: int, model: Tensor, jacobian: PanelColumns, fit: BoxFit) -> Scores:
        """Per-box gradient and Gauss–Newton matrix, with the nuisances projected out."""
        block, use = self.blocks[index], self.box_weights[index][:, None]
        moved = jacobian.columns * (fit.scale[:, None, None] if self.free_scales else 1)
        scaled = (fit.scale > 0).to(model)[:, None] * model
        spot = scaled[..., None] if self.free_scales else block.columns[..., :0]
        design = torch.cat([spot, block.columns, fit.errors], dim=-1)
        across = project(design, fit.weight, moved, fit.errors.shape[-1])
        weighted = across * (fit.weight * use)[..., None]
        residual = torch.where(block.boxes.valid, block.boxes.counts - fit.total, 0)
        # Jᵀ·W·(y − µ): what the nuisances explain of J is orthogonal to the residual, but for their own expectations
        pulled = moved * (fit.weight * use)[..., None]
        gradient = (pulled.transpose(1, 2) @ residual[..., None])[..., 0]
        return Scores(gradient, weighted.transpose(1, 2) @ moved, jacobian.panel, jacobian.spread, jacobian.own)
