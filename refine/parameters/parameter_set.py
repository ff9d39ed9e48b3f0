"""The physical parameters of a fit: name, unit, start, range, bounds, and which numbers of the models they move.

Every parameter moves entries of the models' own parameters linearly (a cubic cell's a moves three lengths), so the
map from a vector of values to the models is one small matrix a tensor, and its derivative is that matrix. A spread is
fitted as its square, in which the image is linear at 0: its entries move with the root of its value.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nbtorch.errors import ConfigError
from refine.parameters.kinds import Kind

_MANY = ("structure_factors.amplitudes",)  # tensors of many numbers, each moved by one parameter


@dataclass(frozen=True)
class Entry:
    """``tensor``[``index``] (flattened) moves by ``coefficient`` when the parameter moves by 1.

    ``offset`` is how far it stands off the models' own value at the parameter's start. ``block``: of that crystal
    alone, where a parameter that several share moves each one's own numbers; None: of every one that has the tensor.
    """

    tensor: str
    index: int
    coefficient: float = 1.0
    offset: float = 0.0
    block: int | None = None


class Follower(NamedTuple):
    """A number that is ``ratio`` times a parameter, by symmetry or because the user ties it; ``start`` as given.

    ``stem`` is its name without the knot of a curve, "" where it is none.
    """

    name: str
    ratio: float
    start: float
    stem: str = ""


def at_knot(name: str, phi: float) -> str:
    """What ``name`` is called at the spindle angle ``phi`` (degrees) of a curve."""
    return f"{name}@{phi:g}"


@dataclass(frozen=True)
class Parameter:
    """One number that can be refined.

    ``span`` is how far a header is typically wrong: the scale of steps, and what "not determined by the data" is
    measured against. ``block`` is the crystal it belongs to, None where all share it. ``restraint`` is a sigma that
    ties the value to ``target``, or to ``start`` where there is none, in proportion where it is ``logarithmic``.
    ``follows`` is what is tied to it. Of a ``squared`` one all numbers but those of ``follows`` are squares, and of
    sigmas what they make of a square: ``unit`` is that of the number itself. ``knot`` is the spindle angle (degrees)
    of a point of a curve.
    """

    name: str
    kind: Kind
    unit: str
    start: float
    span: float
    entries: tuple[Entry, ...]
    block: int | None = None
    lower: float = -math.inf
    upper: float = math.inf
    free: bool = True
    restraint: float | None = None
    target: float | None = None
    logarithmic: bool = False
    follows: tuple[Follower, ...] = ()
    knot: float | None = None
    squared: bool = False

    def told(self, value: float) -> float:
        """The number itself, as a user has it, of a ``value`` of this parameter."""
        return math.sqrt(max(value, 0.0)) if self.squared and math.isfinite(value) else value

    def kept(self, number: float) -> float:
        """The inverse of :meth:`told`."""
        return math.copysign(number**2, number) if self.squared else number

    def sigma_kept(self, number: float, sigma: float) -> float:
        """The sigma of this parameter's value where a user's ``number`` has ``sigma``: what that adds to the square."""
        return (abs(number) + sigma) ** 2 - number**2 if self.squared else sigma

    def sigma_told(self, value: float, sigma: float) -> float:
        """The inverse of :meth:`sigma_kept` at a ``value`` of this parameter."""
        return math.sqrt(max(value, 0.0) + sigma) - math.sqrt(max(value, 0.0)) if self.squared else sigma

    @property
    def stem(self) -> str:
        """The name without the knot of a curve: crystal[0].rot_x of crystal[0].rot_x@20."""
        return self.name if self.knot is None else self.name.removesuffix(at_knot("", self.knot))

    def entries_of(self, block: int) -> list[Entry]:
        """The entries that move ``block``."""
        return [entry for entry in self.entries if entry.block in (None, block)]


class _Sparse(NamedTuple):
    """A matrix of ``size`` rows with few ``coefficient`` other than 0, at ``row`` and ``column``."""

    row: Tensor
    column: Tensor
    coefficient: Tensor
    size: int

    def __matmul__(self, values: Tensor) -> Tensor:
        return values.new_zeros(self.size).index_add(0, self.row, self.coefficient * values[self.column])


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
        self._places: dict[Kind, dict[int | None, int]] = {}
        start = torch.tensor([parameter.start for parameter in parameters], dtype=torch.float64)
        targets = [p.start if p.target is None else p.target for p in parameters]
        self.register_buffer("start", start)
        self.register_buffer("target", torch.tensor(targets, dtype=torch.float64), persistent=False)
        logarithmic = torch.tensor([parameter.logarithmic for parameter in parameters], dtype=torch.bool)
        self.register_buffer("logarithmic", logarithmic, persistent=False)
        squared = torch.tensor([parameter.squared for parameter in parameters], dtype=torch.bool)
        self.register_buffer("squared", squared, persistent=False)
        self.values = nn.Parameter(self.clamp(start))
        self._tensors = [self._shifted(block, given) for block, given in enumerate(tensors)]
        self.release({index for index, parameter in enumerate(parameters) if parameter.free})
        self._maps = [self._matrices(block) for block in range(len(tensors))]

    start: Tensor
    target: Tensor
    logarithmic: Tensor
    squared: Tensor

    def __len__(self) -> int:
        return len(self.parameters_)

    def release(self, free: Collection[int]) -> None:
        """Let the parameters at ``free`` move and hold the others where they are."""
        self.free = sorted(free)
        self.shared = [i for i in self.free if self.parameters_[i].block is None]
        blocks = range(len(self._tensors))
        self.local = [[i for i in self.free if self.parameters_[i].block == block] for block in blocks]

    def twin(self, values: Tensor | None = None, free: Collection[int] | None = None) -> ParameterSet:
        """The same parameters with ``values`` [T] and ``free`` of their own (None: as they are here), to be tried."""
        kept = (self.parameters_, self._tensors, self._maps, self._places)
        twin = deepcopy(self, {id(part): part for part in kept})
        if values is not None:
            with torch.no_grad():
                twin.values.copy_(values)
        if free is not None:
            twin.release(free)
        return twin

    def of_block(self, block: int) -> list[int]:
        """Indices of the free parameters that move ``block``: the shared ones, then its own."""
        return self.shared + self.local[block]

    def changes(self, block: int, free: Tensor | None = None, of: Sequence[int] | None = None) -> dict[str, Tensor]:
        """The model tensors of ``block`` as the values say, by name.

        free: [len(of)] values in the place of the current ones, for differentiation; tensors that none of them moves do
        not depend on it. ``of``: the indices of their parameters, None for those of :meth:`of_block`.
        """
        indices, columns = self._maps[block]
        moved = self._moving(self.values.detach() if free is not None else self.values)
        along, moving = moved, set(columns)
        if free is not None:
            chosen = self.of_block(block) if of is None else of
            place = torch.tensor(chosen, dtype=torch.long, device=self.start.device)
            along = moved.index_put((place,), self._moving(free, place))
            moving = {entry.tensor for index in chosen for entry in self.parameters_[index].entries}
        moved, along = moved[indices], along[indices]
        return {
            name: (self._tensors[block][name].reshape(-1) + matrix @ (along if name in moving else moved)).reshape(
                self._tensors[block][name].shape
            )
            for name, matrix in columns.items()
        }

    def _moving(self, values: Tensor, place: Tensor | None = None) -> Tensor:
        """What entries move by where the parameters (those at ``place``) have ``values``: roots of what is squared."""
        start = self.start if place is None else self.start[place]
        squared = self.squared if place is None else self.squared[place]
        # the root of 1 in the place of what is no square: a root of 0 would spoil the gradient
        roots = torch.where(squared, values, 1).sqrt() - torch.where(squared, start, 1).sqrt()
        return torch.where(squared, roots, values - start)

    def _shifted(self, block: int, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors ``given`` for ``block`` with the offsets of the entries that move it."""
        tensors = dict(given)
        for parameter in self.parameters_ if given else ():
            for entry in parameter.entries_of(block) if parameter.block in (None, block) else ():
                if entry.offset:
                    moved = tensors[entry.tensor].clone()
                    moved.view(-1)[entry.index] += entry.offset
                    tensors[entry.tensor] = moved
        return tensors

    def tensors_named(self, name: str) -> list[Tensor]:
        """The starts of ``name``, flattened, one for each block that has it."""
        return [block[name].reshape(-1) for block in self._tensors if name in block]

    def index_of(self, kind: Kind, block: int) -> int:
        """The index of the one parameter of ``kind`` that moves ``block``."""
        if kind not in self._places:
            rows = [(i, row) for i, row in enumerate(self.parameters_) if row.kind == kind]
            moved = [(b, i) for i, row in rows for b in ({row.block, *(e.block for e in row.entries)} - {None})]
            self._places[kind] = dict(moved)
        return self._places[kind][block]

    def _matrices(self, block: int) -> tuple[Tensor, dict[str, Tensor | _Sparse]]:
        """Indices of the parameters that move ``block`` at all, and for each tensor its matrix [numel, those].

        That of the amplitudes, many and each moved by one parameter, is sparse.
        """
        chosen = [i for i, p in enumerate(self.parameters_) if p.block in (None, block) and self._tensors[block]]
        matrices: dict[str, Any] = {}
        many: dict[str, list[tuple[int, int, float]]] = {}
        for column, index in enumerate(chosen):
            for entry in self.parameters_[index].entries_of(block):
                if entry.tensor in _MANY:
                    many.setdefault(entry.tensor, []).append((entry.index, column, entry.coefficient))
                    continue
                base = self._tensors[block][entry.tensor]
                shape = (base.numel(), len(chosen))
                if entry.tensor not in matrices:
                    matrices[entry.tensor] = torch.zeros(shape, dtype=base.dtype, device=base.device)
                matrices[entry.tensor][entry.index, column] += entry.coefficient
        for name, found in many.items():
            base = self._tensors[block][name]
            row, place, coefficient = zip(*found, strict=True)
            matrices[name] = _Sparse(
                torch.tensor(row, device=base.device),
                torch.tensor(place, device=base.device),
                torch.tensor(coefficient, dtype=base.dtype, device=base.device),
                base.numel(),
            )
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


class Match(NamedTuple):
    """The parameter at ``place`` is, or is followed by, what a pattern names: ``ratio`` times its value."""

    place: int
    ratio: float = 1.0


def matching(parameters: Sequence[Parameter], pattern: str, key: str, expected: Collection[str] = ()) -> list[Match]:
    """The parameters that a name or shell ``pattern`` means: by their names, those of curves, or of what follows them.

    ``expected``: names, or shell patterns of names, that there will be once the spots have been seen. Raises
    ConfigError, naming the setting ``key``, for a pattern that matches nothing.
    """
    # a name holds brackets, as in crystal[0].a, which a shell pattern would read as a set of characters
    escaped = pattern.replace("[", "[[]")

    def named(name: str) -> bool:
        return name == pattern or fnmatch.fnmatchcase(name, escaped)

    found: dict[int, Match] = {}
    for index, row in enumerate(parameters):
        if named(row.name) or named(row.stem):
            found[index] = Match(index)
        else:
            ratios = [f.ratio for f in row.follows if named(f.name) or (f.stem and named(f.stem))]
            if ratios:
                found[index] = Match(index, ratios[0])
    if found:
        return list(found.values())
    # a knot of a curve is none where the crystal turns out not to drift
    stem = pattern.rpartition("@")[0]
    awaited = any(named(name) or fnmatch.fnmatchcase(pattern, name) for name in expected)
    if awaited or (stem and matching(parameters, stem, key, expected)):
        return []
    known = ", ".join(parameter.name for parameter in parameters[:12])
    raise ConfigError(f"{key}: parameter pattern {pattern!r}", "it matches none", f"Use names such as {known}")


def switch(
    parameters: Sequence[Parameter], fix: Sequence[str], free: Sequence[str], expected: Collection[str] = ()
) -> list[Parameter]:
    """``parameters`` with those matching a shell pattern of ``fix`` held and of ``free`` released.

    Raises ConfigError for a pattern that matches nothing.
    """
    switched = list(parameters)
    for key, patterns, state in (("fix", fix, False), ("free", free, True)):
        for pattern in patterns:
            for index, _ in matching(switched, pattern, f"parameters.{key}", expected):
                switched[index] = replace(switched[index], free=state)
    return switched
