"""Where the beam meets a panel's plane."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nbtorch.config import BeamConfig, DetectorConfig, PanelConfig


class BeamHit(NamedTuple):
    """``panel``, the place on it in pixels, and how far its plane stands from the sample along its normal, in mm."""

    panel: int
    fast: float
    slow: float
    distance: float


def beam_hit(detector: DetectorConfig, beam: BeamConfig) -> BeamHit | None:
    """The panel that the beam meets, or the nearest to it; None where it meets the plane of none in front of it."""
    found = [hit for number, panel in enumerate(detector.panels) if (hit := _hit(number, panel, beam)) is not None]
    return min(found, key=lambda hit: _outside(hit, detector.panels[hit.panel]), default=None)


def _hit(number: int, panel: PanelConfig, beam: BeamConfig) -> BeamHit | None:
    travel = np.asarray(beam.direction) / np.linalg.norm(beam.direction)
    fast, slow, origin = (np.asarray(v, dtype=float) for v in (panel.fast_axis, panel.slow_axis, panel.origin))
    fast, slow = fast / np.linalg.norm(fast), slow / np.linalg.norm(slow)
    normal = np.cross(fast, slow)
    normal /= np.linalg.norm(normal)
    across, distance = float(travel @ normal), float(origin @ normal)
    if abs(across) < 1e-9 or distance / across <= 0:
        return None
    place = travel * distance / across - origin
    return BeamHit(
        number, float(place @ fast / panel.pixel_size[0]), float(place @ slow / panel.pixel_size[1]), abs(distance)
    )


def _outside(hit: BeamHit, panel: PanelConfig) -> float:
    """Pixels from the edge of the panel, 0 on it."""
    over = [max(-value, value - size, 0.0) for value, size in zip((hit.fast, hit.slow), panel.size, strict=True)]
    return max(over)
