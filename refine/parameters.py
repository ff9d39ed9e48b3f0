"""The physical parameters of a fit: name, unit, start, range, bounds, and which numbers of the models they move.

Every parameter moves entries of the models' own parameters linearly (a cubic cell's a moves three lengths), so the
map from a vector of values to the models is one small matrix a tensor, and its derivative is that matrix.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from nbtorch.errors import ConfigError


@dataclass(frozen=True)
class Entry:
    """``tensor``[``index``] (flattened) moves by ``coefficient`` when the parameter moves by 1."""

    tensor: str
    index: int
    coefficient: float = 1.0


@dataclass(frozen=True)
class Parameter:
    """One number that can be refined.

    ``span`` is how far a header is typically wrong: the scale of steps, and what "not determined by the data" is
    measured against. ``block`` is the crystal it belongs to, None where all share it. ``restraint`` is a sigma that
    ties the value to ``start``. ``follows`` names what is tied to it by symmetry.
    """

    name: str
    unit: str
    start: float
    span: float
    entries: tuple[Entry, ...]
    block: int | None = None
    lower: float = -math.inf
    upper: float = math.inf
    free: bool = True
    restraint: float | None = None
    follows: tuple[str, ...] = ()


class ParameterSet(nn.Module):
    """All parameters of a fit; ``values`` [T] is what a solver moves.

    ``tensors`` gives the start of every model tensor that an entry names, a dict for each block: the names are those of
    a :class:`nbtorch.Experiment` ("detector.shift", "crystal.cell") or "scale". An empty dict stands for a number that
    no block has.
    """

    def __init__(self, parameters: Sequence[Parameter], tensors: Sequence[Mapping[str, Tensor]]) -> None:
        super().__init__()
        names = [parameter.name for parameter in parameters]
        if len(set(names)) != len(names):
            raise ConfigError(f"parameters {names}", "two have one name", "Rename the groups of the detector")
        self.parameters_ = tuple(parameters)
        start = torch.tensor([parameter.start for parameter in parameters], dtype=torch.float64)
        self.values = nn.Parameter(start.clone())
        self.register_buffer("start", start)
        self._tensors = [dict(block) for block in tensors]
        self.release({index for index, parameter in enumerate(parameters) if parameter.free})
        self._maps = [self._matrices(block) for block in range(len(tensors))]

    start: Tensor

    def __len__(self) -> int:
        return len(self.parameters_)

    def release(self, free: Collection[int]) -> None:
        """Let the parameters at ``free`` move and hold the others where they are."""
        self.free = sorted(free)
        self.shared = [i for i in self.free if self.parameters_[i].block is None]
        blocks = range(len(self._tensors))
        self.local = [[i for i in self.free if self.parameters_[i].block == block] for block in blocks]

    def of_block(self, block: int) -> list[int]:
        """Indices of the free parameters that move ``block``: the shared ones, then its own."""
        return self.shared + self.local[block]

    def changes(self, block: int, free: Tensor | None = None) -> dict[str, Tensor]:
        """The model tensors of ``block`` as the values say, by name.

        free: [len(of_block(block))] values in the place of the current ones, for differentiation; tensors that none of
        them moves do not depend on it.
        """
        indices, columns = self._maps[block]
        moved = (self.values.detach() if free is not None else self.values) - self.start
        along, moving = moved, set(columns)
        if free is not None:
            chosen = self.of_block(block)
            place = torch.tensor(chosen, dtype=torch.long, device=self.start.device)
            along = moved.index_put((place,), free - self.start[place])
            moving = {entry.tensor for index in chosen for entry in self.parameters_[index].entries}
        moved, along = moved[indices], along[indices]
        return {
            name: (self._tensors[block][name].reshape(-1) + matrix @ (along if name in moving else moved)).reshape(
                self._tensors[block][name].shape
            )
            for name, matrix in columns.items()
        }

    def _matrices(self, block: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Indices of the parameters that move ``block`` at all, and for each tensor its matrix [numel, those]."""
        chosen = [i for i, p in enumerate(self.parameters_) if p.block in (None, block) and self._tensors[block]]
        matrices: dict[str, Tensor] = {}
        for column, index in enumerate(chosen):
            for entry in self.parameters_[index].entries:
                base = self._tensors[block][entry.tensor]
                shape = (base.numel(), len(chosen))
                matrix = matrices.setdefault(entry.tensor, torch.zeros(shape, dtype=base.dtype, device=base.device))
                matrix[entry.index, column] += entry.coefficient
        return torch.tensor(chosen, dtype=torch.long), matrices

    def column(self, attribute: str, indices: Sequence[int] | None = None) -> Tensor:
        """One attribute of the parameters (all, or those at ``indices``) as a tensor; None counts as infinity."""
        chosen = self.parameters_ if indices is None else [self.parameters_[i] for i in indices]
        values = [getattr(parameter, attribute) for parameter in chosen]
        numbers = [math.inf if value is None else float(value) for value in values]
        return torch.tensor(numbers, dtype=torch.float64, device=self.start.device)

    def clamp(self, values: Tensor) -> Tensor:
        """``values`` [T] brought within their bounds. Bounds are the fit's business: no model clamps."""
        return torch.minimum(torch.maximum(values, self.column("lower")), self.column("upper"))

    def at_bound(self) -> list[bool]:
        """Whether each value sits on one of its bounds."""
        values = self.values.detach()
        close = 1e-9 * self.column("span")
        low, high = values <= self.column("lower") + close, values >= self.column("upper") - close
        return [bool(flag) for flag in (low | high)]


def switch(parameters: Sequence[Parameter], fix: Sequence[str], free: Sequence[str]) -> list[Parameter]:
    """``parameters`` with those matching a shell pattern of ``fix`` held and of ``free`` released.

    Raises ConfigError for a pattern that matches nothing.
    """
    switched = list(parameters)
    for patterns, state in ((fix, False), (free, True)):
        for pattern in patterns:
            # a name holds brackets, as in crystal[0].a, which a shell pattern would read as a set of characters
            escaped = pattern.replace("[", "[[]")
            hits = [i for i, p in enumerate(switched) if p.name == pattern or fnmatch.fnmatch(p.name, escaped)]
            if not hits:
                known = ", ".join(parameter.name for parameter in switched[:12])
                raise ConfigError(f"parameter pattern {pattern!r}", "it matches none", f"Use names such as {known}")
            for index in hits:
                switched[index] = replace(switched[index], free=state)
    return switched
