"""The pixels of one panel of one frame that are kept when the frame goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refine.frames.shoeboxes import BoxPlan, box_pixels

Places = NDArray[np.int64]  # of pixels on their panel: slow·(pixels along fast) + fast, ascending


class KeptPixels(NamedTuple):
    """``counts`` [m] of the pixels at ``places`` [m], and which of them are ``valid`` [m]."""

    places: Places
    counts: NDArray[np.generic]
    valid: NDArray[np.bool_]

    def has(self, wanted: Places) -> bool:
        """Whether the pixels at ``wanted`` are all kept."""
        return bool(self._found(wanted)[1].all())

    def at(self, wanted: Places) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """Counts and validity of the pixels at ``wanted``, in any order; false for those that are not kept."""
        position, found = self._found(wanted)
        return self.counts[position], self.valid[position] & found

    def among(self, wanted: Places, others: KeptPixels | None) -> KeptPixels:
        """Those at ``wanted``, and ``others`` of the same panel and frame."""
        chosen = np.isin(self.places, wanted if others is None else np.union1d(wanted, others.places))
        return KeptPixels(self.places[chosen], self.counts[chosen], self.valid[chosen])

    def _found(self, wanted: Places) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        position = np.minimum(np.searchsorted(self.places, wanted), len(self.places) - 1)
        return position, self.places[position] == wanted


def places_of(plan: BoxPlan, shapes: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Places]:
    """Where the pixels of ``plan`` are: (frame, panel) → places. ``shapes``: (slow, fast) pixels of every panel."""
    if len(plan) == 0:
        return {}
    inside, (frame, slow, fast) = box_pixels(plan)
    box, pixel = np.nonzero(inside)
    across = np.array([shape[1] for shape in shapes])
    panels, size = len(shapes), max(rows * columns for rows, columns in shapes)
    panel = plan.panel[box]
    place = slow[box, pixel] * across[panel] + fast[box, pixel]
    every = np.unique((frame[box, pixel] * panels + panel) * size + place)
    key, place = np.divmod(every, size)
    starts = np.nonzero(np.r_[True, np.diff(key) > 0])[0]
    parts = np.split(place, starts[1:])
    return {(int(k) // panels, int(k) % panels): part for k, part in zip(key[starts], parts, strict=True)}
