"""What ``nb-refine --check`` found, as plain values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """A line through ``points`` (x, y) of a drawing."""

    label: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, eq=False)
class Drawing:
    """One frame as a PNG (data URI) of ``width`` × ``height``, (x, y, label) of what is marked on it, and lines."""

    title: str
    note: str
    png: str
    width: int
    height: int
    predicted: tuple[tuple[float, float, str], ...]
    found: tuple[tuple[float, float], ...]
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True)
class ExperimentCheck:
    """What one still or scan holds: reflections predicted on the detector, spots found, and how far apart they are."""

    name: str
    frames: int
    lost: int
    predicted: int | None  # None: there is no crystal to predict from
    found: int
    offset: float | None  # median pixels from a found spot to the nearest prediction
