"""Spot residuals as the beam sees them: resolution, radial and tangential parts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbtorch.config import BeamConfig, DetectorConfig
from nbtorch.models.detector import start_frame

Array = NDArray[np.float64]


class SeenFromTheBeam(NamedTuple):
    """Of n spots: ``radial`` and ``tangential`` parts [n] (pixels) of observed − predicted, and ``d`` [n] (Å).

    Radial is away from the beam in the panel's plane; tangential is 90° from it, about the panel's normal.
    """

    radial: Array
    tangential: Array
    d: Array


def seen_from_the_beam(
    observed: Array, predicted: Array, panel: NDArray[np.int64], detector: DetectorConfig, beam: BeamConfig
) -> SeenFromTheBeam:
    """Residuals of spots ``observed`` and ``predicted`` at [n, 2] (fast, slow; pixels) on ``panel`` [n]."""
    frames = np.array([start_frame(item) for item in detector.panels])[panel].reshape(-1, 4, 3)
    pixel = np.array([item.pixel_size for item in detector.panels])[panel].reshape(-1, 2)
    fast, slow, normal, origin = frames.transpose(1, 0, 2)
    across, delta = observed * pixel, (observed - predicted) * pixel
    position = origin + across[:, :1] * fast + across[:, 1:] * slow
    shift = delta[:, :1] * fast + delta[:, 1:] * slow
    travel = np.array(beam.direction) / np.linalg.norm(beam.direction)
    outward = position - (position @ travel)[:, None] * travel
    outward = outward - (outward * normal).sum(1, keepdims=True) * normal
    length = np.linalg.norm(outward, axis=1, keepdims=True)
    outward = outward / np.where(length > 0, length, 1)
    size = pixel.mean(1)
    return SeenFromTheBeam(
        (shift * outward).sum(1) / size,
        (shift * np.cross(normal, outward)).sum(1) / size,
        _resolution(position, travel, beam.wavelength),
    )


def _resolution(position: Array, travel: Array, wavelength: float) -> Array:
    """d = λ / (2 sin θ) (Å) of lab positions [n, 3] (mm) where the beam goes along ``travel``."""
    cosine = position @ travel / np.maximum(np.linalg.norm(position, axis=1), 1e-12)
    sine = np.sqrt(np.clip((1 - cosine) / 2, 1e-12, None))
    return np.asarray(wavelength / (2 * sine))
