"""Deviance, chi-square, variance and robust weights, against their definitions and at their limits."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from refine.pixels.losses import Noise, chi_square, deviance, huber_weight, variance


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_deviance_is_twice_the_log_likelihood_short_of_the_best() -> None:
    counts, mean = tensor(0, 1, 3, 10, 250), tensor(0.2, 1.5, 3.0, 4.0, 260.0)
    logpmf = stats.poisson.logpmf
    expected = 2 * (logpmf(counts, counts) - logpmf(counts, mean))
    assert deviance(counts, mean).tolist() == pytest.approx(
        expected.tolist(), rel=1e-12, abs=1e-13
    )  # worst seen 1.7e-13


def test_no_counts_cost_twice_what_was_expected() -> None:
    assert deviance(tensor(0.0, 0.0), tensor(0.03, 7.0)).tolist() == pytest.approx([0.06, 14.0], rel=1e-15)


def test_the_deviance_is_finite_and_its_gradient_too_where_nothing_is_expected() -> None:
    mean = tensor(0.0, 0.0, -1.0).requires_grad_()
    value = deviance(tensor(0.0, 5.0, 2.0), mean)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert mean.grad is not None
    assert torch.isfinite(mean.grad).all()
    assert value[1].item() > 200  # five counts where none can be: 2·5·ln(5/1e-12)


def test_the_deviance_is_chi_square_where_counts_are_many() -> None:
    counts, mean = tensor(1.0e8 + 1e4), tensor(1.0e8)
    ratio = float(deviance(counts, mean) / chi_square(counts, mean, mean))
    assert ratio == pytest.approx(1, abs=1e-4)  # 1 − (y − µ)/3µ = 1 − 3.3e-5


def test_the_variance_adds_photons_read_out_and_the_error_of_the_shape() -> None:
    noise = Noise(tensor(2.0)[:, None], tensor(3.0)[:, None], model_error=0.1)
    total, signal, floor = tensor(50.0)[None], tensor(40.0)[None], tensor(1.0)[:, None]
    assert float(variance(noise, total, signal, floor)) == pytest.approx(2 * 50 + 9 + 16)


def test_the_variance_stays_above_its_floor_where_the_model_vanishes() -> None:
    noise = Noise(tensor(2.0)[:, None], tensor(0.0)[:, None])
    assert float(variance(noise, tensor(-3.0)[None], tensor(0.0)[None], tensor(0.5)[:, None])) == 1.0


def test_huber_weights_are_one_up_to_the_threshold_and_then_fall_with_the_residual() -> None:
    reduced = tensor(0.0, 1.0, 4.0, 16.0, 400.0)  # mean z², so residuals of 0, 1, 2, 4, 20
    assert huber_weight(reduced, 2.0).tolist() == pytest.approx([1, 1, 1, 0.5, 0.1])
