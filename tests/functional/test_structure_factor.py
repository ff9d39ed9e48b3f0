"""F(hkl): which reflection is nearest, where the table ends, and what the interpolation reproduces."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nbtorch.errors import ConfigError
from nbtorch.functional.structure_factor import StructureFactorTable, nearest, nearest_index, structure_factor, tricubic

pytestmark = pytest.mark.usefixtures("float64")
FIRST = (-3, -2, -4)
SHAPE = (8, 7, 9)


def table() -> StructureFactorTable:
    return StructureFactorTable(torch.rand(SHAPE, dtype=torch.float64) * 100, FIRST)


def cubic(h: Tensor, k: Tensor, l: Tensor) -> Tensor:  # noqa: E741  the third Miller index
    """A polynomial of third degree in each index."""
    return (1 + h - 0.5 * h**2 + 0.1 * h**3) * (2 - k + 0.2 * k**3) * (1 + 0.3 * l**2 - 0.05 * l**3)


def test_nearest_index_takes_ties_down() -> None:
    """nanoBragg: ceil(x − ½), where round() would go to the even one."""
    x = torch.tensor([0.5, 1.5, -0.5, -1.5, 0.4999, 0.5001, -2.7])
    assert nearest_index(x).tolist() == [0, 1, -1, -2, 0, 1, -3]


def test_nearest_reads_the_table_and_default_f_outside() -> None:
    values = table()
    hkl = torch.tensor([[-3.4, -2.0, -4.0], [4.4, 4.0, 4.0], [-3.6, 0.0, 0.0], [0.0, 4.6, 0.0], [0.0, 0.0, 99.0]])
    found = nearest(hkl, values, 7.0)
    assert found.tolist() == [float(values.values[0, 0, 0]), float(values.values[7, 6, 8]), 7.0, 7.0, 7.0]


def test_tricubic_equals_the_table_at_whole_indices() -> None:
    values = table()
    whole = torch.cartesian_prod(*(torch.arange(f + 1, f + n - 2) for f, n in zip(FIRST, SHAPE, strict=True))).double()
    assert torch.equal(tricubic(whole, values, 0.0), nearest(whole, values, 0.0))


def test_tricubic_reproduces_a_cubic_polynomial() -> None:
    """4-point Lagrange is exact for third degree in each index."""
    axes = [torch.arange(first, first + n).double() for first, n in zip(FIRST, SHAPE, strict=True)]
    values = StructureFactorTable(cubic(*torch.meshgrid(*axes, indexing="ij")), FIRST)
    hkl = torch.rand(200, 3) * torch.tensor([4.0, 3.0, 5.0]) + torch.tensor([-2.0, -1.0, -3.0])
    expected = cubic(*hkl.unbind(-1))
    torch.testing.assert_close(tricubic(hkl, values, 0.0), expected, rtol=0, atol=1e-13)  # worst seen 1.4e-14, of 894


def test_tricubic_takes_the_nearest_where_its_neighbourhood_leaves_the_table() -> None:
    """Sample by sample; nanoBragg instead switches interpolation off for good (docs/physics.md §3.5)."""
    values = table()
    edge = torch.tensor([[-2.4, 0.3, 0.3], [3.2, 0.3, 0.3], [0.3, 0.3, 3.4], [0.3, -1.5, 0.3]])
    assert torch.equal(tricubic(edge, values, 5.0), nearest(edge, values, 5.0))
    inside = torch.tensor([[-1.6, 0.3, 0.3], [1.7, 0.3, 0.3]])
    assert bool((tricubic(inside, values, 5.0) != nearest(inside, values, 5.0)).all())


def test_without_a_table_every_f_is_default_f() -> None:
    assert structure_factor(torch.rand(4, 3), None, 12.5, "nearest").tolist() == [12.5] * 4


def test_unknown_interpolation_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="nearest, tricubic"):
        structure_factor(torch.rand(4, 3), table(), 0.0, "linear")
