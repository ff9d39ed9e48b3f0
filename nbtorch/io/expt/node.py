"""Typed access to a JSON document: every miss says the file, the place in it and what stands there instead."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from nbtorch.config import Mat3, Vec3
from nbtorch.errors import FileError


@dataclass(frozen=True)
class Node:
    """A value somewhere in the document of ``file``; ``where`` is its place, such as detector[0].panels[3].

    ``seen`` collects the places that were read: what a document holds elsewhere was not used.
    """

    value: Any
    file: Path
    where: str = ""
    seen: set[str] = field(default_factory=set, compare=False, repr=False)

    def fail(self, why: str) -> NoReturn:
        """Raise a FileError about this place."""
        place = f" at {self.where}" if self.where else ""
        raise FileError(f"{self.file}{place}", why, "Check that it is a dxtbx experiment list and is whole")

    def has(self, key: str) -> bool:
        """Whether this object has ``key`` with a value other than null."""
        return isinstance(self.value, dict) and self.value.get(key) is not None

    def __getitem__(self, key: str) -> Node:
        place = f"{self.where}.{key}" if self.where else key
        if not isinstance(self.value, dict):
            self.fail(f"it should be an object with {key!r}, not {_kind(self.value)}")
        if key not in self.value:
            self.fail(f"it has no {key!r}")
        self.seen.add(place)
        return Node(self.value[key], self.file, place, self.seen)

    def list(self, key: str, *, required: bool = False) -> tuple[Node, ...]:
        """The items of the array at ``key``; none where it is absent and not required."""
        if not required and not self.has(key):
            return ()
        return self[key].items()

    def items(self, length: int | None = None) -> tuple[Node, ...]:
        """The items of this array. Raises FileError for another length than ``length``."""
        if not isinstance(self.value, list):
            self.fail(f"it should be an array, not {_kind(self.value)}")
        if length is not None and len(self.value) != length:
            self.fail(f"it should hold {length} values, not {len(self.value)}")
        items = enumerate(self.value)
        return tuple(Node(item, self.file, f"{self.where}[{index}]", self.seen) for index, item in items)

    def number(self) -> float:
        """This value as a finite number."""
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)) or not math.isfinite(self.value):
            self.fail(f"it should be a finite number, not {_kind(self.value)}")
        return float(self.value)

    def numbers(self, length: int | None = None) -> tuple[float, ...]:
        """This array as finite numbers."""
        return tuple(item.number() for item in self.items(length))

    def integer(self) -> int:
        """This value as an integer."""
        number = self.number()
        if number != int(number):
            self.fail(f"it should be an integer, not {number}")
        return int(number)

    def vec3(self) -> Vec3:
        """This array as three numbers."""
        x, y, z = self.numbers(3)
        return x, y, z

    def mat3(self) -> Mat3:
        """This array of nine numbers as the rows of a matrix."""
        return rows3(self.numbers(9))

    def optional(self, key: str, default: float) -> float:
        """The number at ``key``, or ``default`` where it is absent."""
        return self[key].number() if self.has(key) else default

    def text(self, key: str) -> str:
        """The text at ``key``, empty where it is absent."""
        value = self.value.get(key) if isinstance(self.value, dict) else None
        self.seen.add(f"{self.where}.{key}" if self.where else key)
        return value if isinstance(value, str) else ""


def rows3(values: Iterable[float]) -> Mat3:
    """Nine numbers as the three rows of a matrix."""
    a, b, c, d, e, f, g, h, i = (float(value) for value in values)
    return (a, b, c), (d, e, f), (g, h, i)


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "text", type(None): "null", bool: "true or false"}
    return names.get(type(value), repr(value))
