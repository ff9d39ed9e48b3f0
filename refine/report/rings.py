"""Rings of equal resolution and the place of the beam, for a drawing of a frame."""

from __future__ import annotations

import math

import numpy as np

from nbtorch.config import BeamConfig, DetectorConfig, PanelConfig
from refine.records.checked import Line
from refine.report.canvas import Canvas

RESOLUTIONS = (20.0, 10.0, 5.0, 3.0, 2.0, 1.5, 1.2, 1.0, 0.8)  # Å
STEPS = 240  # points of a ring
ACROSS = 8.0  # dots of the cross where the beam is


def rings(canvas: Canvas, detector: DetectorConfig, beam: BeamConfig) -> tuple[Line, ...]:
    """The rings of ``RESOLUTIONS`` that meet the detector, in pieces where they leave it, and a cross at the beam."""
    lines = [piece for d in RESOLUTIONS if d > beam.wavelength / 2 for piece in _ring(canvas, detector, beam, d)]
    travel = np.asarray(beam.direction, dtype=float)
    centre = _place(canvas, detector, travel)
    if centre is not None:
        x, y = centre
        lines += [
            Line("the beam", ((x - ACROSS, y), (x + ACROSS, y))),
            Line("the beam", ((x, y - ACROSS), (x, y + ACROSS))),
        ]
    return tuple(lines)


def _ring(canvas: Canvas, detector: DetectorConfig, beam: BeamConfig, d: float) -> list[Line]:
    travel = np.asarray(beam.direction, dtype=float)
    travel /= np.linalg.norm(travel)
    first = np.cross(travel, (0.0, 1.0, 0.0) if abs(travel[1]) < 0.9 else (1.0, 0.0, 0.0))
    first /= np.linalg.norm(first)
    second = np.cross(travel, first)
    angle = 2.0 * math.asin(beam.wavelength / (2.0 * d))
    pieces: list[list[tuple[float, float]]] = [[]]
    for turn in np.linspace(0.0, 2.0 * math.pi, STEPS + 1):
        aside = math.cos(turn) * first + math.sin(turn) * second
        place = _place(canvas, detector, math.cos(angle) * travel + math.sin(angle) * aside)
        if place is not None:
            pieces[-1].append(place)
        elif pieces[-1]:
            pieces.append([])
    return [Line(f"{d:g} Å", tuple(piece)) for piece in pieces if len(piece) > 1]


def _place(canvas: Canvas, detector: DetectorConfig, direction: np.ndarray) -> tuple[float, float] | None:
    """Where light of ``direction`` meets a panel, in dots; None where it meets none."""
    for number, panel in enumerate(detector.panels):
        hit = _on_panel(panel, direction)
        if hit is not None:
            return canvas.place(number, *hit)
    return None


def _on_panel(panel: PanelConfig, direction: np.ndarray) -> tuple[float, float] | None:
    fast, slow, origin = (np.asarray(v, dtype=float) for v in (panel.fast_axis, panel.slow_axis, panel.origin))
    normal = np.cross(fast, slow)
    across = float(direction @ normal)
    if abs(across) < 1e-12 or (length := float(origin @ normal) / across) <= 0:
        return None
    place = length * direction - origin
    at = float(place @ fast) / panel.pixel_size[0], float(place @ slow) / panel.pixel_size[1]
    return at if all(0 <= value <= size for value, size in zip(at, panel.size, strict=True)) else None
