"""nanoBragg's random numbers, the mosaic sets and photon noise."""

from __future__ import annotations

import math
from itertools import islice

import numpy as np
import pytest
import torch

from nbtorch.functional.random import (
    antithetic_mosaic_vectors,
    deviates,
    misset_angles,
    nanobragg_mosaic_vectors,
    photon_noise,
    random_rotation,
)
from nbtorch.functional.rotation import misset_matrix


def shuffled_park_miller(seed: int, count: int) -> list[float]:
    """The generator again, in 32-bit arithmetic with Schrage's split as C programs write it, to check the other."""
    ia, im, iq, ir, ndiv = 16807, 2147483647, 127773, 2836, 1 + (2147483647 - 1) // 32

    def advance(state: int) -> int:
        k = state // iq
        state = ia * (state - k * iq) - ir * k
        return state + im if state < 0 else state

    state, table = abs(seed), [0] * 32
    for j in reversed(range(40)):
        state = advance(state)
        if j < 32:
            table[j] = state
    last, drawn = table[0], []
    for _ in range(count):
        state = advance(state)
        slot, last = last // ndiv, table[last // ndiv]
        table[slot] = state
        drawn.append(float(min(np.float32(np.float32(1 / im) * np.float32(last)), np.float32(1 - 1.2e-7))))
    return drawn


@pytest.mark.parametrize("seed", [-12345678, 1, 987654321, -(2**31) + 2])
def test_deviates_are_those_of_the_park_miller_generator_with_shuffle(seed: int) -> None:
    assert list(islice(deviates(seed), 200)) == shuffled_park_miller(seed, 200)


def test_sign_of_the_seed_does_not_matter_and_its_size_does() -> None:
    ours, minus, other = (list(islice(deviates(seed), 5)) for seed in (77, -77, 78))
    assert ours == minus != other


def test_deviates_are_uniform() -> None:
    drawn = np.fromiter(islice(deviates(-12345678), 20000), float)
    assert drawn.min() > 0
    assert drawn.max() < 1
    # mean and variance of 20000 uniform deviates: 4 standard errors
    assert abs(drawn.mean() - 0.5) < 4 / math.sqrt(12 * 20000)
    assert abs(drawn.var() - 1 / 12) < 4 * math.sqrt(1 / 180 / 20000)


def test_nanobragg_set_starts_with_the_identity_and_is_the_same_every_time() -> None:
    vectors = nanobragg_mosaic_vectors(-12345678, 25)
    assert vectors[0].tolist() == [0, 0, 0]
    assert bool((np.linalg.norm(vectors, axis=1) <= 1).all())
    assert np.array_equal(vectors, nanobragg_mosaic_vectors(-12345678, 25))
    # a longer set begins as the shorter one
    assert np.array_equal(vectors, nanobragg_mosaic_vectors(12345678, 40)[:25])
    assert not np.array_equal(vectors[1:], nanobragg_mosaic_vectors(1, 25)[1:])


def test_nanobragg_set_has_a_mean_rotation() -> None:
    """docs/physics.md §3.3: 0.05–0.18 of the spread for 8–25 domains, which is why the fit has another set."""
    means = [np.linalg.norm(nanobragg_mosaic_vectors(-12345678, n).mean(0)) for n in range(8, 26)]
    assert 0.04 < min(means) < max(means) < 0.19


@pytest.mark.parametrize("domains", [2, 3, 4, 5, 6, 7, 10, 24, 25, 100])
def test_antithetic_set_has_zero_mean_and_the_stated_rms(domains: int) -> None:
    vectors = antithetic_mosaic_vectors(domains)
    assert vectors.shape == (domains, 3)
    assert np.abs(vectors.mean(0)).max() < 1e-15  # worst seen 9.5e-17
    total = (vectors**2).sum(1).mean()
    if domains >= 6:  # rms 1 about every axis, whatever the axis
        moment = vectors.T @ vectors / domains
        assert np.abs(moment - np.eye(3)).max() < 2e-15  # worst seen 3.3e-16
    else:  # rms √3 in all, along the directions there are
        assert total == pytest.approx(3, rel=1e-14)


@pytest.mark.parametrize("domains", [25, 50, 100, 200, 1000, 4000, 16000])
def test_antithetic_set_is_normal_along_every_direction(domains: int, rng: np.random.Generator) -> None:
    """The fourth moment of a unit normal distribution is 3; a set that fills space evenly gets there as it grows."""
    directions = rng.normal(size=(3, 3000))
    directions /= np.linalg.norm(directions, axis=0)
    kurtosis = ((antithetic_mosaic_vectors(domains) @ directions) ** 4).mean(0)
    assert np.abs(kurtosis - 3).max() < 17 / math.sqrt(domains)  # worst seen 16.3 (100 domains); 5.1 at 4000


def test_one_antithetic_domain_is_the_crystal_itself() -> None:
    assert antithetic_mosaic_vectors(1).tolist() == [[0, 0, 0]]


def test_random_misset_is_a_rotation_that_its_angles_reproduce() -> None:
    for seed in (-12345678, 1, 2, 3, 4, 5):
        rotation = random_rotation(seed)
        assert np.abs(rotation @ rotation.T - np.eye(3)).max() < 1e-14  # worst seen 1.1e-15
        angles = torch.tensor([math.radians(angle) for angle in misset_angles(rotation)], dtype=torch.float64)
        assert np.abs(misset_matrix(angles).numpy() - rotation).max() < 1e-14  # worst seen 8.9e-16


def test_photon_noise_is_reproducible_from_its_generator() -> None:
    mean = torch.linspace(0, 50, 1000, dtype=torch.float64)
    first, again, other = (photon_noise(mean, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_photon_noise_is_poisson() -> None:
    """Mean and variance of 1e5 draws at each rate within 4.5 standard errors; whole, non-negative counts."""
    count = 100_000
    for rate in (0.02, 0.7, 5.0, 40.0, 2000.0):
        drawn = photon_noise(torch.full((count,), rate, dtype=torch.float64), torch.Generator().manual_seed(1))
        assert torch.equal(drawn, drawn.round())
        assert float(drawn.min()) >= 0
        assert abs(float(drawn.mean()) - rate) < 4.5 * math.sqrt(rate / count)
        # variance of the sample variance: (μ₄ − σ⁴)/n with μ₄ = λ + 3λ²
        assert abs(float(drawn.var()) - rate) < 4.5 * math.sqrt((rate + 2 * rate**2) / count)
    assert photon_noise(torch.zeros(10), torch.Generator().manual_seed(1)).sum() == 0
