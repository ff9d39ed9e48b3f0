"""How the spots lie about their predictions: all of them, on every panel, and in the quadrants of few panels."""

from __future__ import annotations

import numpy as np

from refine.indexing.lattice_view import Floats, Ints
from refine.verdict.evidence import Region

_QUARTERED = 4  # panels up to which each is also looked at by quadrants
_QUADRANTS = ("low fast, low slow", "high fast, low slow", "low fast, high slow", "high fast, high slow")


def regions(
    panel: Ints, position: Floats, residual: Floats, width: Floats, photons: Floats, sizes: Ints
) -> tuple[Region, ...]:
    """Of n spots: panel [n], position [n, 2] px, observed − predicted [n, 2] px, rms width [n, 2] px, photons [n];
    sizes [panels, 2] px. A centroid of N photons has an error of width/√N."""
    own = (width**2).mean(1) / np.maximum(photons, 1.0)
    square, extent = (residual**2).mean(1), np.sqrt((width**2).mean(1))

    def region(name: str, here: np.ndarray) -> Region:
        error, scatter = (float(np.sqrt(values[here].mean())) for values in (own, square))
        return Region(name, int(here.sum()), scatter, error, float(np.median(extent[here])))

    found = [("all", np.ones(len(panel), dtype=bool))]
    half = (2 * position > sizes[panel]) @ np.array([1, 2]) if len(panel) else np.zeros(0, dtype=int)
    for number in range(len(sizes)):
        here = panel == number
        if len(sizes) > 1:
            found.append((f"panel {number}", here))
        if len(sizes) <= _QUARTERED:
            label = f"panel {number}, " if len(sizes) > 1 else "the quadrant of "
            found += [(label + name, here & (half == i)) for i, name in enumerate(_QUADRANTS)]
    return tuple(region(name, here) for name, here in found if here.any())
