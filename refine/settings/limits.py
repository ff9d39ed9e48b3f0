"""Ranges of numbers that a user may set, checked in one way and told in one way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from nbtorch.errors import ConfigError


@dataclass(frozen=True)
class Limit:
    """From ``low`` to ``high``, ends included; ``above`` leaves ``low`` itself out."""

    low: float
    high: float = math.inf
    above: bool = False

    def holds(self, value: float) -> bool:
        """Whether ``value`` lies within."""
        return (value > self.low if self.above else value >= self.low) and value <= self.high

    def __str__(self) -> str:
        floor = f"more than {self.low:g}" if self.above else f"{self.low:g} or more"
        return floor if math.isinf(self.high) else f"{floor}, and at most {self.high:g}"


POSITIVE = Limit(0, above=True)
NOT_NEGATIVE = Limit(0)
ONE_OR_MORE = Limit(1)


def check(group: str, settings: object, limits: Mapping[str, Limit]) -> None:
    """Raises ConfigError for the first field of ``settings`` out of its limits; None and text pass, lists by item."""
    for name, limit in limits.items():
        value = getattr(settings, name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, (int, float)) and not limit.holds(item):
                shown = list(value) if isinstance(value, tuple) else value
                raise ConfigError(f"{group}.{name}={shown}", f"it must be {limit}", f"Change {group}.{name}")


def not_empty(group: str, settings: object, name: str) -> None:
    """Raises ConfigError where a list holds nothing."""
    if not getattr(settings, name):
        raise ConfigError(f"{group}.{name}=[]", "it names nothing", f"Give {group}.{name} an entry")
