"""Spot residuals seen from the beam, as they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refine.records.outcome import SpotRow

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Residuals:
    """``radial`` and ``tangential`` parts [n] of observed − predicted at the end, in pixels; ``d`` [n] in Å."""

    radial: Array
    tangential: Array
    d: Array


def residuals(spots: Sequence[SpotRow]) -> Residuals:
    """Of every spot that was seen and is used or held out."""
    rows = [(s.radial_px, s.tangential_px, s.d) for s in spots if s.used or s.heldout]
    known = np.array([row for row in rows if None not in row], dtype=float).reshape(-1, 3)
    return Residuals(*known.T)
