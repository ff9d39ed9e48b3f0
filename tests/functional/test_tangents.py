"""Derivatives of small functions, from the derivative of their reverse mode."""

from __future__ import annotations

import torch
from torch import Tensor

from nbtorch.functional.tangents import tangents


def test_they_are_the_columns_of_the_jacobian() -> None:
    def function(x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.outer(x.sin(), x**2), (x[0] * x[1:]).exp()

    values = torch.randn(4, dtype=torch.float64)
    outputs, columns = tangents(function, values)
    for index in range(2):
        torch.testing.assert_close(outputs[index], function(values)[index], rtol=0, atol=0)
        expected = torch.autograd.functional.jacobian(lambda x, i=index: function(x)[i], values).movedim(-1, 0)
        torch.testing.assert_close(columns[index], expected, rtol=1e-14, atol=1e-14)  # worst seen 1.2e-16


def test_an_output_that_does_not_move_has_none() -> None:
    other = torch.ones(2, requires_grad=True)
    outputs, columns = tangents(lambda x: (torch.ones(3), other * 2, x * 2), torch.ones(2))
    assert columns[0] is None
    assert columns[1] is None
    torch.testing.assert_close(columns[2], 2 * torch.eye(2))
    assert not any(output.requires_grad for output in outputs)


def test_nothing_that_moves_is_no_error() -> None:
    other = torch.ones(2, requires_grad=True)
    assert tangents(lambda x: (torch.ones(3),), torch.ones(2))[1] == (None,)
    assert tangents(lambda x: (other * 2,), torch.ones(2))[1] == (None,)


def test_a_linear_function_has_constant_columns() -> None:
    matrix = torch.randn(3, 2)
    _, (columns,) = tangents(lambda x: (matrix @ x,), torch.randn(2))
    torch.testing.assert_close(columns, matrix.T)


def test_it_differentiates_inside_no_grad() -> None:
    with torch.no_grad():
        _, (columns,) = tangents(lambda x: (x**3,), torch.tensor([2.0]))
    torch.testing.assert_close(columns, torch.tensor([[12.0]]))
