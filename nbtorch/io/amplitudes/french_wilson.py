"""Amplitudes of weak intensities after French & Wilson (1978), Acta Cryst. A34, 517–525.

The expected |F| given a measured I ± σ and Wilson's prior with mean intensity Σ. With x = J/σ ≥ 0 the posterior is
x^p·exp(−(x − h)²/2), p = 0 and h = I/σ − σ/Σ (acentric), p = −½ and h = I/σ − σ/2Σ (centric).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nbtorch.errors import DataError

Floats = NDArray[np.float64]
#: Below this I/σ an intensity is weak. At 4 the expected amplitude differs from √I by about 1 %.
WEAK = 4.0
REFLECTIONS_PER_BIN = 100
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(96)


def weak_amplitudes(intensity: Floats, sigma: Floats, mean: Floats, centric: NDArray[np.bool_]) -> Floats:
    """Expected |F| [n] of intensities [n] with σ > 0 and prior mean Σ > 0 [n], in the square root of their unit."""
    h = intensity / sigma - sigma / np.where(centric, 2 * mean, mean)
    return np.asarray(np.sqrt(sigma) * standard_amplitude(h, centric), dtype=np.float64)


def standard_amplitude(h: Floats, centric: NDArray[np.bool_]) -> Floats:
    """Expected √x of the posterior with parameter h [n]: the F columns of the paper's tables.

    Gauss–Legendre quadrature in y = √x, which removes the centric prior's singularity, up to where the posterior has
    fallen to exp(−40).
    """
    h = np.asarray(h, dtype=np.float64)
    # exp(-(x-h)²/2) relative to its largest value is exp(-40) at h + √80, and at the root of x²/2 - hx = 40 for h < 0.
    end = np.where(h >= 0, h + np.sqrt(80.0), 80.0 / (np.sqrt(h * h + 80.0) - np.minimum(h, 0.0)))
    y = np.sqrt(end)[..., None] * (_NODES + 1) / 2
    x = y * y
    exponent = np.where(h[..., None] >= 0, -0.5 * (x - h[..., None]) ** 2, h[..., None] * x - 0.5 * x * x)
    power = np.where(centric, 0.0, 1.0)[..., None]  # x^p·dx = 2·y^(2p+1)·dy
    density = _WEIGHTS * np.exp(exponent) * y**power
    return np.asarray((density * y).sum(-1) / density.sum(-1), dtype=np.float64)


def wilson_means(intensity: Floats, epsilon: Floats, inverse_d_squared: Floats) -> Floats:
    """Wilson's mean intensity [n] of each reflection: ε times ⟨I/ε⟩ of resolution bins, interpolated in 1/d².

    Raises DataError where the mean is not positive even over all reflections: no prior can be made of noise.
    """
    normal = intensity / epsilon
    overall = float(normal.mean())
    if not overall > 0:
        raise DataError(
            f"{intensity.size} intensities",
            f"their mean is {overall:g}, so no amplitude can be estimated",
            "Check them",
        )
    order = np.argsort(inverse_d_squared, kind="stable")
    bins = np.array_split(order, max(1, intensity.size // REFLECTIONS_PER_BIN))
    centres = np.array([inverse_d_squared[members].mean() for members in bins])
    # A bin of pure noise may have a negative mean: the floor keeps its prior positive.
    means = np.array([max(float(normal[members].mean()), 1e-3 * overall) for members in bins])
    return np.asarray(epsilon * np.interp(inverse_d_squared, centres, means), dtype=np.float64)
