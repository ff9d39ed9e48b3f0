"""The coarse stage: spot positions, frames of crossing and excitation errors, by robust least squares.

It brings header geometry to within a pixel, where the pixels themselves take over. Residuals are in units of their own
spread, which is estimated anew (median absolute deviation) every round, and Cauchy's loss keeps wrong indices out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from refine.least_squares.normal import BlockNormal
from refine.least_squares.objective import BlockParts, DataObjective, Linearization
from refine.parameters.panel_columns import Scores
from refine.parameters.parameter_set import ParameterSet
from refine.positions.position_block import PositionBlock, Residuals
from refine.positions.position_packs import packs_of

_LEAST = {"pixel": 0.1, "frame": 0.05, "excitation": 2e-5}  # spreads below which residuals are taken as equal
_CAUCHY = (
    1.5  # where a residual's pull starts to fall, in spreads: 95 % of the efficiency of squares on normal residuals
)


def _curvature(weight: Tensor) -> Tensor:
    """The second derivative of Cauchy's loss over its ``weight``, mean over the three directions of a residual: ≥ 1/3.

    Weights alone would make outliers count as measurements, and sigmas too small.
    """
    return 1 - 2 / 3 * (1 - weight)


class PositionObjective(DataObjective):
    """Robust least squares over the positions of this process's experiments: an objective of
    :mod:`refine.least_squares`."""

    def __init__(self, blocks: Sequence[PositionBlock]) -> None:
        self._blocks = tuple(blocks)
        self.spread = [torch.ones(3, dtype=torch.float64) for _ in blocks]
        self._packs = packs_of(blocks)

    @property
    def blocks(self) -> tuple[PositionBlock, ...]:
        """This process's blocks."""
        return self._blocks

    def residuals(self, parameters: ParameterSet) -> list[Residuals]:
        """Observed − predicted of every block at the current values."""
        for pack in self._packs:
            if not all(block.knows(parameters) for block in pack.blocks):
                pack.residuals(parameters)
        return [block.residuals(parameters) for block in self.blocks]

    def _jacobians(self, parameters: ParameterSet) -> list[Tensor]:
        """Derivatives [n, 3, T] of every block's predictions."""
        found = {id(b): c for pack in self._packs for b, c in zip(pack.blocks, pack.jacobians(parameters), strict=True)}
        none = [parameters.start.new_zeros(0, 3, len(parameters.of_block(block.index))) for block in self.blocks]
        return [found.get(id(block), empty) for block, empty in zip(self.blocks, none, strict=True)]

    def estimate_spread(self, parameters: ParameterSet) -> None:
        """Set each experiment's spread [3] from its residuals: 1.48 times their median absolute value."""
        for number, (block, (residual, valid)) in enumerate(zip(self.blocks, self.residuals(parameters), strict=True)):
            third = "frame" if block.positions.scan is not None else "excitation"
            least = torch.tensor([_LEAST["pixel"], _LEAST["pixel"], _LEAST[third]], dtype=residual.dtype)
            if bool(valid.any()):
                median = (residual * block.sharpness)[valid].abs().median(dim=0).values
                pixels = (
                    median[:2].mean().expand(2)
                )  # one spread for both axes: neither can be fitted at the other's cost
                self.spread[number] = torch.maximum(1.4826 * torch.cat([pixels, median[2:]]), least)

    def _weighted(self, number: int, parameters: ParameterSet) -> tuple[Tensor, Tensor]:
        """Residuals in spreads [n, 3] and their Cauchy weights [n, 1], one weight a spot."""
        block = self.blocks[number]
        residual, valid = block.residuals(parameters)
        scaled = residual / self.spread[number]
        scaled = torch.where(valid[:, None], scaled * block.sharpness, 0)
        return scaled, 1 / (1 + (scaled**2).sum(1, keepdim=True) / (3 * _CAUCHY**2))

    def losses(self, parameters: ParameterSet, held: Linearization | None = None) -> list[float]:
        """Σ c²·ln(1 + r²/c²) over the spots of every block."""
        self.residuals(parameters)
        found = []
        for number in range(len(self.blocks)):
            scaled, _ = self._weighted(number, parameters)
            found.append(float((3 * _CAUCHY**2 * torch.log1p((scaled**2).sum(1) / (3 * _CAUCHY**2))).sum()))
        return found

    @torch.no_grad()
    def parts(self, parameters: ParameterSet) -> BlockParts:
        """Losses, normal equations and scores of every block at the current values."""
        normals, scores = [], []
        for number, (block, columns) in enumerate(zip(self.blocks, self._jacobians(parameters), strict=True)):
            columns = columns * (block.sharpness / self.spread[number])[:, :, None]
            scaled, weight = self._weighted(number, parameters)
            weighted = columns * weight[:, :, None]
            curved = (weighted * _curvature(weight)[:, :, None]).transpose(1, 2) @ columns
            score = Scores(torch.einsum("nki,nk->ni", weighted, scaled), curved)
            scores.append(score)
            normals.append(BlockNormal(*score.total()))
        return BlockParts(tuple(self.losses(parameters)), tuple(normals), (), tuple(scores))

    def offsets(self, parameters: ParameterSet) -> Tensor:
        """Observed − predicted (fast, slow) in pixels [n, 2] of the spots with a valid prediction."""
        rows = [torch.zeros(0, 2, dtype=torch.float64)]
        for residual, valid in self.residuals(parameters):
            rows.append(residual[valid][:, :2])
        return torch.cat(rows)

    def rms(self, parameters: ParameterSet) -> tuple[float, float]:
        """rms (fast, slow) in pixels over the spots of the blocks; NaN where there are none."""
        return rms_of(self.offsets(parameters))


def rms_of(offsets: Tensor) -> tuple[float, float]:
    """rms (fast, slow) of ``offsets`` [n, 2]; NaN where there are none."""
    fast, slow = (offsets**2).mean(0).sqrt().tolist() if len(offsets) else (float("nan"), float("nan"))
    return fast, slow
