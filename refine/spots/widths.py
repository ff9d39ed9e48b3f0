"""What the widths of found spots say: the crystal's size in cells, its mosaic spread, and how wide boxes are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refine.scene.scene import FitExperiment
from refine.spots.observations import Observations

_PIXEL_VARIANCE = 1 / 12  # of a point spread over one pixel, or one frame
_SIGMA_TIMES_N = math.sqrt(0.63 / 4)  # rms of |exp(−N²δ²/0.63)|² in δ, times N


@dataclass(frozen=True)
class Widths:
    """Medians over the spots: rms pixels and frames, and what they mean."""

    pixel: float  # px, as observed
    frame: float  # frames, as observed
    n_cells: tuple[float, float, float]
    mosaic_spread: float  # degrees
    rocking: float  # degrees, rms


def measure_widths(expts: Sequence[FitExperiment], observed: Sequence[Observations]) -> Widths:
    """Widths of the indexed spots of all experiments.

    A crystal of N cells makes spots of rms 0.397/N in fractional index, so N·a = 0.397·λ·airpath/(rms on the
    detector), the same along all axes; what is left of the rocking curve after that is mosaic spread.
    """
    across, rocking, sizes = [], [], []
    for expt, seen in zip(expts, observed, strict=True):
        width = seen.width.numpy()
        pixels = np.sqrt(np.maximum((width[:, :2] ** 2).mean(1) - _PIXEL_VARIANCE, 0.02))
        across.append(pixels)
        detector = expt.entry.detector
        pixel = detector.panels[0].pixel_size[0]
        airpath = np.median(np.linalg.norm([panel.origin for panel in detector.panels], axis=1))
        size = _SIGMA_TIMES_N * expt.entry.beam.wavelength * airpath / (pixels * pixel)
        sizes.append(size)
        scan = expt.entry.scan
        if not expt.still and scan is not None:
            whole = seen.whole.numpy()
            frames = np.sqrt(np.maximum(width[whole, 2] ** 2 - _PIXEL_VARIANCE, 0.01))
            rocking.append(frames * abs(scan.oscillation))
    size = float(np.median(np.concatenate(sizes)))
    pixel = float(np.median(np.concatenate(across)))
    turn = float(np.median(np.concatenate(rocking))) if rocking and len(np.concatenate(rocking)) else 0.0
    # a lattice of that size alone rocks over about 0.397/(size·|q|); |q| ≈ 1/(2 Å) stands for the pattern
    own = math.degrees(_SIGMA_TIMES_N / size * 2)
    mosaic = math.sqrt(max(turn**2 - own**2, 0.0))
    crystal = expts[0].entry.crystal
    assert crystal is not None
    a, b, c = crystal.cell[:3]
    oscillation = next((abs(s.entry.scan.oscillation) for s in expts if s.entry.scan is not None), 1.0) or 1.0
    return Widths(
        math.hypot(pixel, math.sqrt(_PIXEL_VARIANCE)),
        turn / oscillation,
        (max(size / a, 1.0), max(size / b, 1.0), max(size / c, 1.0)),
        mosaic if mosaic > 0.02 else 0.0,
        turn,
    )
