"""The table of amplitudes: what is listed, what symmetry makes zero, and what nobody knows."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest
import torch

from nbtorch.functional.absences import Listing
from nbtorch.models import StructureFactors

HKL = np.array([[-2, -2, -2], [2, 2, 2], [1, 1, 1]])
F = np.array([3.0, 3.0, 5.0])


def value(factors: StructureFactors, hkl: tuple[int, int, int]) -> float:
    table = factors.table()
    assert table is not None
    return float(table.values.detach()[tuple(np.array(hkl) - np.array(table.first))])


def test_absences_are_zero_and_other_holes_the_default() -> None:
    factors = StructureFactors(HKL, F, group=np.array([0, 0, 1]), default_F=7.0, space_group="C 2 2 21")
    assert (value(factors, (1, 1, 1)), value(factors, (2, 2, 2)), value(factors, (-2, -2, -2))) == (5, 3, 3)
    assert value(factors, (1, 0, 2)) == value(factors, (0, 0, 1)) == 0
    assert value(factors, (1, 1, 0)) == value(factors, (0, 0, 2)) == 7
    assert value(StructureFactors(HKL, F, default_F=7.0), (1, 0, 2)) == 7


def test_listing_tells_listed_absent_and_unlisted_inside_the_table_and_beyond() -> None:
    factors = StructureFactors(HKL, F, space_group="C 2 2 21")
    asked = torch.tensor([[1, 1, 1], [1, 0, 2], [0, 0, 1], [1, 1, 0], [30, 2, 2], [30, 1, 2]])
    expected = [Listing.LISTED, Listing.ABSENT, Listing.ABSENT, Listing.UNLISTED, Listing.UNLISTED, Listing.ABSENT]
    assert factors.listing(asked).tolist() == [int(status) for status in expected]
    assert factors.slots(asked).tolist() == [2, -1, -1, -1, -1, -1]
    assert StructureFactors(default_F=1.0).listing(asked).tolist() == [int(Listing.LISTED)] * len(asked)


@pytest.mark.parametrize("group", ["P 21 21 21", "I 41/a m d", "R 3:H", "F d -3 m", "P 1 21/c 1", "P 61", "P 1"])
def test_the_absences_of_the_table_are_gemmis(group: str) -> None:
    corner = np.array([[-5, -5, -5], [5, 5, 5]])
    factors = StructureFactors(corner, np.ones(2), default_F=1.0, space_group=group)
    operations = gemmi.SpaceGroup(group).operations()
    table = factors.table()
    assert table is not None
    for index in np.argwhere(torch.ones_like(table.values).numpy()):
        hkl = index + np.array(table.first)
        listed = abs(hkl).min() == 5 and abs(hkl.sum()) == 15
        absent = operations.is_systematically_absent(hkl.tolist()) and not listed
        assert table.values[tuple(index)] == (0.0 if absent else 1.0), hkl


def test_directions_leave_what_is_fixed_alone() -> None:
    factors = StructureFactors(HKL, F, group=np.array([0, 0, 1]), default_F=7.0, space_group="C 2 2 21")
    along = torch.tensor([[1.0, 0.0], [0.5, 2.0]], dtype=torch.float64)
    before = factors.table()
    assert before is not None
    moved = factors.directions(along)
    for row, direction in zip(along, moved, strict=True):
        with torch.no_grad():
            factors.amplitudes += row
        after = factors.table()
        assert after is not None
        torch.testing.assert_close(after.values - before.values, direction)
        with torch.no_grad():
            factors.amplitudes -= row


def test_amplitudes_keep_their_gradient_beside_absences() -> None:
    factors = StructureFactors(HKL, F, group=np.array([0, 0, 1]), default_F=7.0, space_group="C 2 2 21")

    def total(amplitudes: torch.Tensor) -> torch.Tensor:
        table = torch.func.functional_call(_Squares(factors), {"factors.amplitudes": amplitudes}, ())
        assert isinstance(table, torch.Tensor)
        return table

    assert torch.autograd.gradcheck(total, (factors.amplitudes.detach().clone().requires_grad_(),))


class _Squares(torch.nn.Module):
    def __init__(self, factors: StructureFactors) -> None:
        super().__init__()
        self.factors = factors

    def forward(self) -> torch.Tensor:
        table = self.factors.table()
        assert table is not None
        return (table.values**2).sum()
