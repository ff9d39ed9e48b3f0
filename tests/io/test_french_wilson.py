"""Amplitudes of weak intensities against French & Wilson's tables, closed forms and simulated data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gamma, pbdv

from nbtorch.errors import DataError
from nbtorch.io.amplitudes.french_wilson import WEAK, standard_amplitude, weak_amplitudes, wilson_means

H = np.arange(-4.0, 4.0)
# French & Wilson (1978), supplement: posterior mean of F/√σ at h = -4, -3, …, 3.
ACENTRIC = [0.423, 0.475, 0.549, 0.656, 0.822, 1.070, 1.388, 1.706]
CENTRIC = [0.269, 0.305, 0.356, 0.438, 0.578, 0.832, 1.227, 1.632]


def flags(value: bool, like: np.ndarray) -> np.ndarray:
    return np.full(like.shape, value)


def test_the_acentric_table_of_the_paper_is_reproduced() -> None:
    np.testing.assert_allclose(standard_amplitude(H, flags(False, H)), ACENTRIC, atol=5.1e-4)  # its third digit


def test_the_centric_table_of_the_paper_is_reproduced_to_its_own_accuracy() -> None:
    # The paper integrated numerically over the centric prior's singularity: it is up to 0.0042 below the closed form.
    np.testing.assert_allclose(standard_amplitude(H, flags(True, H)), CENTRIC, atol=4.5e-3)


def closed_form(h: float, centric: bool) -> float:
    """∫ x^(v-1)·exp(-(x-h)²/2) dx = Γ(v)·exp(-h²/4)·D_{-v}(-h) (DLMF 12.5.1)."""
    upper, lower = (1.0, 0.5) if centric else (1.5, 1.0)
    return float(gamma(upper) * pbdv(-upper, -h)[0] / (gamma(lower) * pbdv(-lower, -h)[0]))


@pytest.mark.parametrize("centric", [False, True])
def test_the_integral_agrees_with_parabolic_cylinder_functions(centric: bool) -> None:
    h = np.linspace(-12, 12, 49)
    wanted = [closed_form(float(x), centric) for x in h]
    # rtol 1e-8: scipy's pbdv is good to about 1e-9 at |h| = 12; the quadrature stops at exp(-40)
    np.testing.assert_allclose(standard_amplitude(h, flags(centric, h)), wanted, rtol=1e-8)


@pytest.mark.parametrize("centric", [False, True])
def test_far_below_zero_the_posterior_is_the_exponential_tail(centric: bool) -> None:
    # x^(v-1)·exp(hx): E√x = Γ(v+½)/Γ(v)/√|h|; the next term is O(1/h²)
    v = 0.5 if centric else 1.0
    for h, rtol in ((-100.0, 2e-4), (-1000.0, 2e-6)):
        found = standard_amplitude(np.array([h]), np.array([centric]))
        np.testing.assert_allclose(found, gamma(v + 0.5) / gamma(v) / np.sqrt(-h), rtol=rtol)


@settings(deadline=None)
@given(h=st.floats(-200, 200), step=st.floats(0.01, 5), centric=st.booleans())
def test_a_larger_intensity_never_gives_a_smaller_amplitude(h: float, step: float, centric: bool) -> None:
    pair = np.array([h, h + step])
    low, high = standard_amplitude(pair, flags(centric, pair))
    assert 0 < low < high


@settings(deadline=None)
@given(
    ratio=st.floats(-8, 8),
    sigma=st.floats(1e-3, 1e6),
    prior=st.floats(0.1, 50),
    scale=st.floats(1e-3, 1e3),
    centric=st.booleans(),
)
def test_amplitudes_scale_with_the_root_of_the_intensity_scale(
    ratio: float, sigma: float, prior: float, scale: float, centric: bool
) -> None:
    def amplitude(unit: float) -> float:
        one = np.ones(1)
        return float(
            weak_amplitudes(ratio * sigma * unit * one, sigma * unit * one, prior * sigma * unit * one, one == centric)[
                0
            ]
        )

    assert amplitude(scale) == pytest.approx(np.sqrt(scale) * amplitude(1.0), rel=1e-12)


def test_strong_intensities_join_the_square_root_without_a_step() -> None:
    h = np.array([WEAK])
    # 1.3 % (acentric) and 2.8 % (centric) below √I where the correction stops
    assert standard_amplitude(h, flags(False, h))[0] / np.sqrt(WEAK) == pytest.approx(1, abs=0.013)
    assert standard_amplitude(h, flags(True, h))[0] / np.sqrt(WEAK) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("centric", [False, True])
def test_the_estimate_is_unbiased_over_wilsons_distribution(rng: np.random.Generator, centric: bool) -> None:
    n, mean, sigma = 50_000, 1.0, 1.0
    true = rng.exponential(mean, n) if not centric else mean * rng.standard_normal(n) ** 2
    measured = true + sigma * rng.standard_normal(n)
    estimate = weak_amplitudes(measured, np.full(n, sigma), np.full(n, mean), np.full(n, centric))
    # A posterior mean has the mean of the truth; the standard error of either mean is below 0.0028.
    assert estimate.mean() == pytest.approx(np.sqrt(true).mean(), abs=0.009)
    assert np.std(estimate - np.sqrt(true)) < np.std(np.sqrt(np.maximum(measured, 0)) - np.sqrt(true))


def test_wilson_means_follow_resolution_and_epsilon(rng: np.random.Generator) -> None:
    n = 20_000
    inverse = rng.uniform(0.0, 0.25, n)
    epsilon = rng.choice([1.0, 2.0, 4.0], n)
    intensity = epsilon * 100 * np.exp(-20 * inverse / 2) * rng.exponential(1.0, n)
    means = wilson_means(intensity, epsilon, inverse)
    ratio = means / (epsilon * 100 * np.exp(-20 * inverse / 2))
    assert np.median(ratio) == pytest.approx(1, abs=0.02)
    assert np.std(ratio) < 0.12  # a bin holds 100 exponential deviates


def test_a_bin_of_noise_keeps_a_positive_prior() -> None:
    intensity = np.concatenate([np.full(200, 100.0), np.full(200, -5.0)])
    means = wilson_means(intensity, np.ones(400), np.linspace(0, 1, 400))
    assert means.min() > 0


def test_intensities_without_any_signal_are_refused() -> None:
    with pytest.raises(DataError, match="mean is -1"):
        wilson_means(np.full(50, -1.0), np.ones(50), np.linspace(0, 1, 50))
