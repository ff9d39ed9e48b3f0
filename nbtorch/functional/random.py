"""nanoBragg's random numbers, bit by bit, and ours: mosaic domains, random misset, photon noise.

The generator is Park and Miller's minimal standard (Comm. ACM 31, 1192, 1988) with the shuffle of Bays and Durham.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

_MULTIPLIER, _MODULUS = 16807, 2**31 - 1
_TABLE, _WARM_UP = 32, 8
_TO_UNIT = np.float32(1.0 / _MODULUS)
_LARGEST = np.float32(1.0 - 1.2e-7)
_THIRD = np.float32(1.0) / np.float32(3.0)
_PLASTIC = 1.324717957244746  # the real root of p³ = p + 1


def deviates(seed: int) -> Iterator[float]:
    """Uniform deviates in (0, 1), float32-valued, that nanoBragg draws from ``seed``; its sign does not matter."""
    state = max(abs(seed), 1)
    table = [0] * _TABLE
    for j in range(_TABLE + _WARM_UP - 1, -1, -1):
        state = _MULTIPLIER * state % _MODULUS  # Schrage's split gives the same integer in 32 bits
        if j < _TABLE:
            table[j] = state
    shuffled = table[0]
    while True:
        state = _MULTIPLIER * state % _MODULUS
        slot = shuffled // (1 + (_MODULUS - 1) // _TABLE)
        shuffled, table[slot] = table[slot], state
        yield float(min(np.float32(shuffled) * _TO_UNIT, _LARGEST))


def _rotation(draw: Iterator[float], spread: float) -> tuple[np.ndarray, float]:
    """Axis [3] and angle (radians) of one random rotation within ``spread`` (radians)."""
    r1, r2, r3 = (2.0 * next(draw) - 1.0 for _ in range(3))
    across = math.sqrt(1.0 - r2 * r2)
    axis = np.array([across * math.sin(math.pi * r1), across * math.cos(math.pi * r1), r2])
    # nanoBragg takes the cube root, of float32 numbers, and its product with the spread in float32
    root = np.float32(math.pow(np.float32(1.0 - r3 * r3), _THIRD))
    return axis, float(np.float32(spread) * root)


def nanobragg_mosaic_vectors(seed: int, domains: int, spread: float = 0.0) -> np.ndarray:
    """Unit-spread rotation vectors [domains, 3] of nanoBragg's set; the first domain is the identity.

    spread: radians, where the vectors times the spread shall be nanoBragg's to the last digit: it multiplies in
    float32, which shows at 1e-7 of an intensity.
    """
    draw, spread = deviates(seed), spread or 1.0
    vectors = [axis * angle / spread for axis, angle in (_rotation(draw, spread) for _ in range(domains))]
    vectors[0] = np.zeros(3)
    return np.array(vectors)


def random_rotation(seed: int) -> np.ndarray:
    """The rotation matrix [3, 3] of nanoBragg's random misset: a mosaic rotation with a spread of 90 radians."""
    axis, angle = _rotation(deviates(seed), 90.0)
    x, y, z = axis
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + math.sin(angle) * k + (1 - math.cos(angle)) * k @ k)


def misset_angles(rotation: np.ndarray) -> tuple[float, float, float]:
    """Angles (degrees) about lab x, then y, then z, that make up ``rotation`` [3, 3]."""
    y = math.asin(max(-1.0, min(1.0, -rotation[2, 0])))
    x = math.atan2(rotation[2, 1], rotation[2, 2])
    z = math.atan2(rotation[1, 0], rotation[0, 0])
    return math.degrees(x), math.degrees(y), math.degrees(z)


def antithetic_mosaic_vectors(domains: int) -> np.ndarray:
    """Unit-spread rotation vectors [domains, 3] in pairs ±v (and zero, for an odd count): their mean is zero.

    They are spread as a normal distribution in three dimensions is: points that fill half the unit cube evenly, through
    normal quantiles, and their mirror images. From six domains on the set is whitened, so that the rms rotation about
    every axis is exactly the spread. With fewer, the rms rotation is √3 spreads, along the directions there are.
    """
    pairs = domains // 2
    if pairs == 0:
        return np.zeros((domains, 3))
    half = torch.special.ndtri(torch.as_tensor(_half_cube(pairs))).numpy()
    vectors = np.concatenate([half, -half] + ([np.zeros((1, 3))] if domains % 2 else []))
    if pairs < 3:
        return np.asarray(vectors * math.sqrt(3 / (vectors**2).sum(1).mean()))
    moment = vectors.T @ vectors / domains
    return np.asarray(vectors @ np.linalg.inv(np.linalg.cholesky(moment)).T)


def _half_cube(count: int) -> np.ndarray:
    """``count`` points [count, 3] that fill the upper half of the unit cube evenly.

    Even steps in the first coordinate; frac(½ + j·(1/p, 1/p²)) in the others, p³ = p + 1: the additive recurrence of
    two dimensions. That of three, by the root of g⁴ = g + 1, is three to five times worse from a thousand points on.
    Steps of 1/φ and 1/φ² (the golden ratio's) would be functions of one another: 0.618034 = 1 − 0.381966.
    """
    index = np.arange(count)
    others = (0.5 + (index + 1)[:, None] * _PLASTIC ** -np.arange(1.0, 3.0)) % 1.0
    return np.column_stack([0.5 + (index + 0.5) / (2 * count), others])


def photon_noise(mean: Tensor, generator: torch.Generator) -> Tensor:
    """Counts [...] of a Poisson process of ``mean`` [...] photons, reproducible from ``generator``."""
    return torch.poisson(mean.clamp(min=0), generator=generator)
