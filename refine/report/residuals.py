"""Spot residuals seen from the beam: resolution, radial and tangential parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nbtorch.config import BeamConfig, DetectorConfig
from nbtorch.models.detector import start_frame
from refine.records.outcome import SpotRow

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Residuals:
    """observed − predicted of n spots. ``fast``, ``slow``, ``radial``, ``tangential`` [n] in pixels; ``d`` [n] in Å.

    Radial is away from the beam in the detector's plane; tangential is 90° from it, towards the beam's right-hand turn.
    """

    fast: Array
    slow: Array
    radial: Array
    tangential: Array
    d: Array
    heldout: NDArray[np.bool_]


def residuals(spots: tuple[SpotRow, ...], detector: DetectorConfig, beam: BeamConfig, *, end: bool = True) -> Residuals:
    """Of every spot that was seen and is used or held out, at the end of the fit or at its start."""
    seen = [s for s in spots if s.observed_fast_px is not None and (s.used or s.heldout)]
    observed = np.array([(s.observed_fast_px, s.observed_slow_px) for s in seen], dtype=float).reshape(-1, 2)
    predicted = np.array(
        [(s.end_fast_px, s.end_slow_px) if end else (s.start_fast_px, s.start_slow_px) for s in seen], dtype=float
    ).reshape(-1, 2)
    delta = observed - predicted
    frames = np.array([start_frame(panel) for panel in detector.panels])[[s.panel for s in seen]].reshape(-1, 4, 3)
    pixel = np.array([panel.pixel_size for panel in detector.panels])[[s.panel for s in seen]].reshape(-1, 2)
    across = observed * pixel
    position = frames[:, 3] + across[:, :1] * frames[:, 0] + across[:, 1:] * frames[:, 1]
    radial, tangential = _polar(delta * pixel, position, frames, pixel, np.array(beam.direction))
    return Residuals(
        delta[:, 0], delta[:, 1], radial, tangential, _resolution(position, beam), np.array([s.heldout for s in seen])
    )


def _resolution(position: Array, beam: BeamConfig) -> Array:
    """d = λ / (2 sin θ) (Å) of lab positions [n, 3]."""
    direction = np.array(beam.direction) / np.linalg.norm(beam.direction)
    cosine = position @ direction / np.maximum(np.linalg.norm(position, axis=1), 1e-12)
    sine = np.sqrt(np.clip((1 - cosine) / 2, 1e-12, None))
    return np.asarray(beam.wavelength / (2 * sine))


def _polar(delta: Array, position: Array, frames: Array, pixel: Array, beam: Array) -> tuple[Array, Array]:
    """Radial and tangential parts [n] (pixels) of displacements ``delta`` [n, 2] (mm along fast, slow)."""
    shift = delta[:, :1] * frames[:, 0] + delta[:, 1:] * frames[:, 1]
    direction = beam / np.linalg.norm(beam)
    outward = position - (position @ direction)[:, None] * direction
    normal = frames[:, 2]
    outward = outward - (outward * normal).sum(1, keepdims=True) * normal
    length = np.linalg.norm(outward, axis=1, keepdims=True)
    outward = outward / np.where(length > 0, length, 1)
    size = pixel.mean(1)
    return (shift * outward).sum(1) / size, (shift * np.cross(normal, outward)).sum(1) / size
