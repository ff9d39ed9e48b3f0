"""Cell ↔ basis: the exact construction gives the cell that was asked for; nanoBragg's gives the numbers it prints."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given, settings
from torch import Tensor

from nbtorch.functional.cell import cell_of, dual, exact_vectors, nanobragg_vectors, reciprocal_cell, volume

pytestmark = pytest.mark.usefixtures("float64")
TRICLINIC = (70.0, 80.0, 90.0, 75.0, 85.0, 95.0)


def radians(*cell: float) -> Tensor:
    """A cell [6] in Å and radians from Å and degrees."""
    return torch.tensor([*cell[:3], *map(math.radians, cell[3:])], dtype=torch.float64)


def off(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


@settings(max_examples=50, deadline=None)
@given(st.tuples(*[st.floats(5, 300)] * 3), st.tuples(*[st.floats(50, 130)] * 3))
def test_the_cell_asked_for_is_the_cell_got(lengths: tuple[float, ...], angles: tuple[float, ...]) -> None:
    cell = radians(*lengths, *angles)
    alpha, beta, gamma = torch.cos(cell[3:])
    # a cell with room in it: a nearly flat one loses digits, as 1/V² says
    assume(1 - alpha**2 - beta**2 - gamma**2 + 2 * alpha * beta * gamma > 0.05)
    direct, reciprocal = exact_vectors(cell)
    assert off(cell_of(direct) / cell, torch.ones(6)) < 1e-13  # worst seen 2.4e-15 in 3000 draws
    assert off(direct @ reciprocal.T, torch.eye(3)) < 2e-13  # worst seen 7.1e-15
    assert abs(float(torch.linalg.det(direct) / volume(cell)) - 1) < 1e-13  # worst seen 2.2e-15


def test_standard_setting_has_a_star_along_x_and_b_star_in_the_xy_plane() -> None:
    cell = radians(*TRICLINIC)
    _, stars = exact_vectors(cell)
    assert stars[0, 1] == stars[0, 2] == stars[1, 2] == 0
    lengths, cosines = reciprocal_cell(cell)
    assert off(cell_of(stars), torch.cat([lengths, torch.acos(cosines)])) < 1e-15  # worst seen 0


def test_nanobragg_construction_is_another_cell_with_the_lengths_given() -> None:
    """docs/physics.md §3.1: 70 80 90 75 85 95 comes out with alpha 75.039°."""
    direct, _ = nanobragg_vectors(radians(*TRICLINIC))
    got = cell_of(direct)
    assert off(got[:3], torch.tensor(TRICLINIC[:3])) < 1e-13  # worst seen 1.4e-14
    assert math.degrees(float(got[3])) == pytest.approx(75.039, abs=5e-4)


def test_nanobragg_stars_are_off_by_the_ratio_of_volumes() -> None:
    """docs/physics.md §3.1: a·a* = V_rebuilt/V = 0.999888 for 74 86 98 82 97 104."""
    cell = radians(74.0, 86.0, 98.0, 82.0, 97.0, 104.0)
    direct, stars = nanobragg_vectors(cell)
    assert float(direct[0] @ stars[0]) == pytest.approx(0.999888, abs=5e-7)
    expected = torch.linalg.det(direct) / volume(cell) * torch.eye(3)
    assert off(direct @ stars.T, expected) < 2e-15  # worst seen 2.2e-16


def test_constructions_agree_for_right_alpha_and_beta() -> None:
    cell = radians(70.0, 80.0, 90.0, 90.0, 90.0, 115.0)
    for exact, original in zip(exact_vectors(cell), nanobragg_vectors(cell), strict=True):
        assert off(exact, original) < 1e-13  # worst seen 1.4e-14, in 90 Å


def test_dual_of_the_dual_is_the_basis() -> None:
    direct, reciprocal = exact_vectors(radians(*TRICLINIC))
    assert off(dual(dual(direct)), direct) < 1e-13  # worst seen 1.4e-14, in 90 Å
    assert off(dual(direct), reciprocal) < 1e-16  # worst seen 1.7e-18
