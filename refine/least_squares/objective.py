"""What a solver needs of an objective: its loss, and its normal equations at the current values.

An objective gives the parts of its own blocks. :meth:`DataObjective.loss` and :meth:`DataObjective.linearize` sum them
with the restraints, as one process does; :class:`Joint` sums those of all processes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, NamedTuple, Protocol

from refine.least_squares.normal import Arrow, BlockNormal, assemble, joint
from refine.least_squares.restraint_terms import restrained, restraint_loss
from refine.parameters.panel_columns import Scores
from refine.parameters.parameter_set import ParameterSet
from refine.processes import is_first, total_number


@dataclass(frozen=True)
class Linearization:
    """The loss at some values, its arrow-shaped normal equations, and each block's scores.

    ``held``: what the objective itself keeps fixed while a step is tried, one entry a block.
    """

    loss: float
    arrow: Arrow
    held: tuple[Any, ...]
    scores: tuple[Scores, ...]


class BlockParts(NamedTuple):
    """What the blocks of one process add to a :class:`Linearization`, one entry a block; without restraints."""

    losses: tuple[float, ...]
    normals: tuple[BlockNormal, ...]
    held: tuple[Any, ...]
    scores: tuple[Scores, ...]


class NumberedBlock(Protocol):
    """A part of the data that knows the number of its experiment."""

    index: int


class Objective(Protocol):
    """A sum of squares, or a likelihood, with restraints."""

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


class DataObjective(ABC):
    """An :class:`Objective` that is a sum over the blocks of one process."""

    @property
    @abstractmethod
    def blocks(self) -> Sequence[NumberedBlock]:
        """The blocks that are summed."""

    @abstractmethod
    def losses(self, parameters: ParameterSet, held: Linearization | None = None) -> list[float]:
        """The loss of every block at the current values; with ``held`` its weights are those of that linearization."""

    @abstractmethod
    def parts(self, parameters: ParameterSet) -> BlockParts:
        """Losses, normal equations and scores of every block at the current values."""

    def loss(self, parameters: ParameterSet, held: Linearization | None = None) -> float:
        """The loss of the blocks and the restraints."""
        return _summed(self.losses(parameters, held), restraint_loss(parameters))

    def linearize(self, parameters: ParameterSet) -> Linearization:
        """Loss and normal equations of the blocks and the restraints."""
        parts = self.parts(parameters)
        own = restrained(self.assembled(parts, parameters), parameters)
        return Linearization(_summed(parts.losses, restraint_loss(parameters)), own, parts.held, parts.scores)

    def assembled(self, parts: BlockParts, parameters: ParameterSet) -> Arrow:
        """The normal equations of the blocks, without restraints."""
        return assemble(parts.normals, len(parameters.shared), [block.index for block in self.blocks])


class Joint:
    """The objective of all processes, where ``own`` is this one's: the only place where losses are added up over them.

    Each process gives its blocks, the first also the restraints. Every process must ask alike.
    """

    def __init__(self, own: DataObjective) -> None:
        self.own = own

    @property
    def blocks(self) -> Sequence[NumberedBlock]:
        """This process's blocks."""
        return self.own.blocks

    def loss(self, parameters: ParameterSet, held: Linearization | None = None) -> float:
        """The loss of the blocks of all processes and the restraints."""
        return total_number(_summed(self.own.losses(parameters, held), _restraints_once(parameters)))

    def linearize(self, parameters: ParameterSet) -> Linearization:
        """Loss and normal equations of all processes; what is held, and scores, are of this process's blocks."""
        parts = self.own.parts(parameters)
        arrow = restrained(joint(self.own.assembled(parts, parameters)), parameters)
        loss = total_number(_summed(parts.losses, _restraints_once(parameters)))
        return Linearization(loss, arrow, parts.held, parts.scores)


def _restraints_once(parameters: ParameterSet) -> float:
    return restraint_loss(parameters) if is_first() else 0.0


def _summed(losses: Sequence[float], first: float) -> float:
    """The sum in order: Python's own sum rounds differently from one version to the next."""
    return reduce(add, losses, first)
