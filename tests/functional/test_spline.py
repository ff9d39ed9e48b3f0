"""The natural cubic spline against SciPy's, and its derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline

from nbtorch.functional.spline import natural_curvatures, spline_weights

KNOTS = {
    "two": [1.0, 4.0],
    "three": [0.0, 1.0, 3.0],
    "even": [0.0, 10.0, 20.0, 30.0, 40.0, 50.0],
    "uneven": [-7.0, -6.5, 1.0, 2.0, 9.0],
}


@pytest.mark.parametrize("name", KNOTS)
def test_the_curve_is_the_natural_spline_of_its_knots(name: str, rng: np.random.Generator) -> None:
    knots = torch.tensor(KNOTS[name]).double()
    values, at = rng.standard_normal((len(knots), 3)), np.linspace(*KNOTS[name][:: len(KNOTS[name]) - 1], 97)
    weights = spline_weights(torch.as_tensor(at), knots, natural_curvatures(knots))
    expected = CubicSpline(knots, values, bc_type="natural")(at)
    np.testing.assert_allclose(weights.numpy() @ values, expected, rtol=0, atol=1e-13)  # worst seen 2e-15
    at_knots = spline_weights(knots, knots, natural_curvatures(knots))
    torch.testing.assert_close(at_knots, torch.eye(len(knots)).double(), rtol=0, atol=1e-15)


def test_a_constant_and_a_slope_stay_what_they_are() -> None:
    knots = torch.tensor(KNOTS["uneven"]).double()
    weights = spline_weights(torch.linspace(-7, 9, 50).double(), knots, natural_curvatures(knots))
    torch.testing.assert_close(weights.sum(1), torch.ones(50).double(), rtol=0, atol=1e-14)
    torch.testing.assert_close(weights @ knots, torch.linspace(-7, 9, 50).double(), rtol=0, atol=1e-13)


def test_beyond_the_ends_the_curve_is_constant() -> None:
    knots = torch.tensor(KNOTS["even"]).double()
    weights = spline_weights(torch.tensor([-5.0, 80.0]).double(), knots, natural_curvatures(knots))
    assert torch.equal(weights, torch.eye(6).double()[[0, 5]])


def test_the_derivative_along_the_curve_is_that_of_differences() -> None:
    knots = torch.tensor(KNOTS["uneven"]).double()
    at = torch.tensor([-6.9, -3.0, 1.4, 5.0]).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: spline_weights(x, knots, natural_curvatures(knots)), (at,))
    assert torch.autograd.gradgradcheck(lambda x: spline_weights(x, knots, natural_curvatures(knots)), (at,))
