"""Pixels of frames that are held as arrays: what a stack of frames on disk is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refine.frames.shoeboxes import BoxPlan


class HeldPixels:
    """``frames`` and ``valid``: frame → panel → [slow, fast]."""

    def __init__(self, frames: Sequence[Sequence[np.ndarray]], valid: Sequence[Sequence[np.ndarray]]) -> None:
        self.frames, self.valid = frames, valid

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(slow, fast) pixels of every panel."""
        return tuple((len(panel), len(panel[0])) for panel in self.frames[0])

    def fetch(self, plan: BoxPlan) -> None:
        """Nothing: all pixels are here."""

    def at(self, number: int, panel: int, slow: np.ndarray, fast: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Counts and validity of the pixels at ``slow``, ``fast``."""
        return self.frames[number][panel][slow, fast], self.valid[number][panel][slow, fast]
