"""The checks that settings share: each raises, with what was given, why it fails and what to change."""

from __future__ import annotations

import math

from nbtorch.errors import ConfigError, GeometryError

Vec3 = tuple[float, float, float]


def choice(name: str, value: str, valid: tuple[str, ...]) -> None:
    """Raises ConfigError where ``value`` is not one of ``valid``."""
    if value not in valid:
        raise ConfigError(f"{name}={value!r}", "it is not a known choice", f"Use one of: {', '.join(valid)}")


def positive(name: str, value: float, *, zero: bool = False) -> None:
    """Raises ConfigError where ``value`` is not finite and more than zero; ``zero`` allows it to be zero."""
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        bound = "zero or more" if zero else "more than zero"
        raise ConfigError(f"{name}={value!r}", f"it must be a finite number, {bound}", f"Change {name}")


def at_most(name: str, value: float, most: float, unit: str) -> None:
    """Raises ConfigError where ``value`` is not a finite number from zero to ``most``."""
    positive(name, value, zero=True)
    if value > most:
        raise ConfigError(
            f"{name}={value!r}", f"more than {most:g} {unit} is no spread of an experiment", "Check the unit"
        )


def direction(name: str, value: Vec3) -> None:
    """Raises GeometryError where ``value`` has no direction."""
    if not all(math.isfinite(x) for x in value) or math.hypot(*value) == 0:
        raise GeometryError(f"{name}={value!r}", "a direction needs a finite, non-zero length", f"Change {name}")


def across(name: str, value: Vec3, travel: Vec3) -> None:
    """Raises GeometryError where ``value`` lies along ``travel``."""
    x, y, z = (a / math.hypot(*value) for a in value)
    u, v, w = (a / math.hypot(*travel) for a in travel)
    if math.hypot(y * w - z * v, z * u - x * w, x * v - y * u) < 1e-6:
        raise GeometryError(f"{name}={value!r}", f"it lies along the beam {travel!r}", "Give one across the beam")
