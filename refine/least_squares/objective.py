"""What a solver needs of an objective: its loss, and its normal equations at the current values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from refine.least_squares.normal import Arrow
from refine.parameters.panel_columns import Scores
from refine.parameters.parameter_set import ParameterSet


@dataclass(frozen=True)
class Linearization:
    """The loss at some values, its arrow-shaped normal equations, and each block's scores.

    ``held``: what the objective itself keeps fixed while a step is tried, one entry a block.
    """

    loss: float
    arrow: Arrow
    held: tuple[Any, ...]
    scores: tuple[Scores, ...]


class NumberedBlock(Protocol):
    """A part of the data that knows the number of its experiment."""

    index: int


class Objective(Protocol):
    """A sum of squares, or a likelihood, over the blocks of all processes."""

    @property
    def blocks(self) -> Sequence[NumberedBlock]:
        """This process's blocks."""
        ...

    def loss(self, parameters: ParameterSet, held: Linearization | None = None) -> float:
        """The loss at the current values; with ``held`` its weights are those of that linearization."""
        ...

    def linearize(self, parameters: ParameterSet) -> Linearization:
        """Loss and normal equations at the current values."""
        ...
