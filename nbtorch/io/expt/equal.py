"""Models of an experiment list compared by value: files of stills hold a copy of one detector for every still."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, Literal

from nbtorch.io.expt.types import ExperimentList


def equal_models(experiments: ExperimentList, kind: Literal["beam", "detector"]) -> dict[int, int]:
    """The first model that each beam or detector equals, by their places in the document; its own for the first.

    A fit that moves one of them writes it to all that map to it.
    """
    first: list[tuple[int, Any]] = []
    found: dict[int, int] = {}
    for entry in experiments.entries:
        index, model = (entry.beam_index, entry.beam) if kind == "beam" else (entry.detector_index, entry.detector)
        if index in found:
            continue
        equal = next((place for place, other in first if other == model), None)
        found[index] = index if equal is None else equal
        if equal is None:
            first.append((index, model))
    return found


def differences(model: Any, other: Any, limit: int = 5) -> tuple[str, ...]:
    """What two models of one type differ in, such as "panels[3].size: (6, 4) and (6, 5)"; ``limit`` at most."""
    return tuple(_differences(model, other, ""))[:limit]


def _differences(model: Any, other: Any, place: str) -> list[str]:
    if model == other:
        return []
    if is_dataclass(model) and type(model) is type(other):
        inside = [
            (f"{place}.{f.name}" if place else f.name, getattr(model, f.name), getattr(other, f.name))
            for f in fields(model)
        ]
    elif (
        isinstance(model, tuple)
        and isinstance(other, tuple)
        and len(model) == len(other)
        and is_dataclass(next(iter(model), None))
    ):
        inside = [(f"{place}[{i}]", a, b) for i, (a, b) in enumerate(zip(model, other, strict=True))]
    else:
        return [f"{place}: {model} and {other}"]
    return [text for where, a, b in inside for text in _differences(a, b, where)]
