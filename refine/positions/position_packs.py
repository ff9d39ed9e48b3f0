"""Stills whose spots are predicted together: as many small operations for a pack of them as for one.

Predicting some hundred spots costs what starting its few hundred operations costs, so that the same operations on many
stills at once (``torch.vmap``) are several times faster than one still after the other. The values are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nbtorch.functional.tangents import tangents
from refine.parameters.parameter_set import ParameterSet

if TYPE_CHECKING:
    from refine.positions.position_block import PositionBlock

_MOST_SPOTS = 4000  # of a pack, which bounds the memory


class PositionPack:
    """Blocks of positions whose experiments differ in numbers alone."""

    def __init__(self, blocks: Sequence[PositionBlock]) -> None:
        self.blocks = tuple(blocks)
        observed = [block.positions.observed for block in blocks]
        # padded with spots that are there, so that no derivative of the padding can be infinite
        most = max(len(seen) for seen in observed)
        rows = [torch.arange(most, device=seen.panel.device).clamp(max=len(seen) - 1) for seen in observed]
        self._spots = tuple(
            torch.stack([getattr(seen, name)[row] for seen, row in zip(observed, rows, strict=True)])
            for name in ("hkl", "panel", "frame")
        )
        self._given = _different(blocks)

    def residuals(self, parameters: ParameterSet) -> None:
        """Let every block know its residuals at the current values."""
        with torch.no_grad():
            value, valid = self._predicted(parameters, parameters.values.detach())
        self._tell(parameters, value, valid)

    def jacobians(self, parameters: ParameterSet) -> list[Tensor]:
        """Derivatives [n, 3, T] of each block's predictions; every block knows its residuals afterwards."""
        places = [parameters.of_block(block.index) for block in self.blocks]
        now = parameters.values.detach()
        if not any(places):
            self.residuals(parameters)
            return [now.new_zeros(*block.target.shape, 0) for block in self.blocks]
        # the shared parameters first, then each block's own: a direction moves one parameter of every block
        chosen = parameters.shared + [index for block in self.blocks for index in parameters.local[block.index]]
        column_of = {index: column for column, index in enumerate(chosen)}
        few = [block.few_directions(parameters, place) for block, place in zip(self.blocks, places, strict=True)]
        along = now.new_zeros(max(len(each.along) for each in few), len(chosen))
        for each, place in zip(few, places, strict=True):
            along[: len(each.along), [column_of[index] for index in place]] = each.along
        index = torch.tensor(chosen, dtype=torch.long, device=now.device)
        found = tangents(lambda free: self._predicted(parameters, now.index_put((index,), free)), now[index], along)
        (value, valid), (columns, _) = found
        self._tell(parameters, value, valid)
        if columns is None:
            columns = value.new_zeros(len(along), *value.shape)
        return [
            each.expanded(columns[: len(each.along), number, : len(block.target)], block.positions.observed.panel)
            for number, (each, block) in enumerate(zip(few, self.blocks, strict=True))
        ]

    def _tell(self, parameters: ParameterSet, value: Tensor, valid: Tensor) -> None:
        for number, block in enumerate(self.blocks):
            count = len(block.target)
            block.remember(parameters, value[number, :count], valid[number, :count])

    def _predicted(self, parameters: ParameterSet, values: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions [S, n, 3] and validity [S, n] of S blocks with the parameters' ``values`` [all].

        n is the most spots of a block; what follows a block's own is its last, repeated.
        """
        changes = [parameters.changes(b.index, values[parameters.of_block(b.index)]) for b in self.blocks]
        if len(self.blocks) == 1:
            value, valid = self.blocks[0].predicted(changes[0])
            return value[None], valid[None]
        tensors = dict(self._given)
        dims: dict[str, int | None] = dict.fromkeys(tensors, 0)
        of_detector = {
            f"detector.{name}" for name, _ in self.blocks[0].positions.experiment.detector.named_parameters()
        }
        for name in changes[0].keys() - {"scale"}:
            full, shared = f"experiment.{name}", name in of_detector  # the detector is that of all
            tensors[full] = changes[0][name] if shared else torch.stack([of_one[name] for of_one in changes])
            dims[full] = None if shared else 0
        model = self.blocks[0].positions

        def one(own: dict[str, Tensor], *spots: Tensor) -> tuple[Tensor, Tensor]:
            found: tuple[Tensor, Tensor] = torch.func.functional_call(model, own, spots, tie_weights=False)
            return found

        together: tuple[Tensor, Tensor] = torch.func.vmap(one, in_dims=(dims, 0, 0, 0))(tensors, *self._spots)
        return together


def packs_of(blocks: Sequence[PositionBlock]) -> list[PositionPack]:
    """``blocks`` with spots in packs of those that differ in numbers alone; a scan is a pack by itself."""
    kinds: dict[Any, list[list[PositionBlock]]] = {}
    for block in blocks:
        if not len(block.target):
            continue
        packs = kinds.setdefault(_kind(block), [])
        size = len(packs[-1]) * max(len(other.target) for other in packs[-1]) if packs else _MOST_SPOTS
        if size + len(block.target) > _MOST_SPOTS:
            packs.append([])
        packs[-1].append(block)
    return [PositionPack(pack) for packs in kinds.values() for pack in packs]


def _kind(block: PositionBlock) -> Any:
    """What the blocks of a pack have in common."""
    positions = block.positions
    if positions.scan is not None:
        return block.index
    crystal = positions.experiment.crystal.config
    settings = crystal.shape, crystal.fudge, crystal.construction, replace(crystal.mosaic, spread=0.0)
    shapes = tuple((name, tensor.shape) for name, tensor in _tensors(block).items())
    return id(positions.experiment.detector), settings, positions.exposure, positions.parallax, shapes


def _tensors(block: PositionBlock) -> dict[str, Tensor]:
    """All tensors of the block's experiment by name, detached."""
    model = block.positions
    return {name: tensor.detach() for name, tensor in (*model.named_parameters(), *model.named_buffers())}


def _different(blocks: Sequence[PositionBlock]) -> dict[str, Tensor]:
    """The tensors [S, …] in which the experiments of S blocks differ, by name."""
    of_all = [_tensors(block) for block in blocks]
    return {
        name: torch.stack([tensors[name] for tensors in of_all])
        for name, first in of_all[0].items()
        if any(tensors[name].data_ptr() != first.data_ptr() for tensors in of_all)
    }
