"""Lattice symmetries, cells that leave them, and indices on a part of the lattice."""

from __future__ import annotations

import numpy as np
import pytest

from nbtorch.config import CrystalConfig
from refine.verdict.lattice import departure, mean_scale, sublattice, turns

CUBIC = (51.6, 51.6, 51.6, 90.0, 90.0, 90.0)


def crystal(cell: tuple[float, ...], group: str) -> CrystalConfig:
    return CrystalConfig(cell, space_group=group)  # type: ignore[arg-type]


def test_a_cubic_lattice_turns_a_crystal_of_half_its_symmetry_one_way() -> None:
    (found,) = turns(crystal(CUBIC, "P 2 3"))
    assert len(turns(crystal(CUBIC, "P 4 3 2"))) == 0
    assert abs(round(np.linalg.det(found[1]))) == 1
    assert len(turns(crystal(CUBIC, "P 1"))) == 23


def test_a_turn_keeps_the_length_of_every_reflection() -> None:
    hexagonal = crystal((60.0, 60.0, 90.0, 90.0, 90.0, 120.0), "P 3")
    stars = np.linalg.inv(np.array([[60.0, 0, 0], [-30.0, 30.0 * 3**0.5, 0], [0, 0, 90.0]])).T
    hkl = np.array([1, 2, 3])
    found = turns(hexagonal)
    assert len(found) == 3
    for _, matrix in found:
        assert np.linalg.norm((matrix @ hkl) @ stars) == pytest.approx(np.linalg.norm(hkl @ stars), rel=1e-12)


def test_departure_is_that_of_the_cell_from_its_mean_over_the_lattice_symmetry() -> None:
    start = crystal(CUBIC, "P 1")
    assert departure(start, CUBIC) == pytest.approx(0, abs=1e-7)  # arccos near 90°
    assert departure(start, (51.6 * 1.03, 51.6, 51.6, 90, 90, 90)) == pytest.approx(0.02, rel=0.02)
    assert departure(start, (51.6, 51.6, 51.6, 90, 90, 90.3)) == pytest.approx(np.deg2rad(0.3), rel=1e-3)


def test_a_cell_without_more_symmetry_than_its_group_departs_from_nothing() -> None:
    assert departure(crystal((23.0, 27.0, 31.0, 90, 90, 90), "P 2 2 2"), (24.0, 27.0, 31.0, 90, 90, 90)) is None
    assert departure(crystal(CUBIC, "P 4 3 2"), CUBIC) is None


def test_a_centring_that_the_space_group_lacks_is_found() -> None:
    grid = np.random.default_rng(1).integers(-12, 13, (400, 3))
    centred = grid[grid.sum(1) % 2 == 0]
    found = sublattice(centred, "P 2 2 2")
    assert found is not None
    assert found[0] == "h + k + l even"
    assert found[1] < 1e-30
    assert sublattice(centred, "I 2 2 2") is None
    assert sublattice(grid, "P 2 2 2") is None


def test_a_doubled_axis_and_a_rhombohedral_lattice_are_found() -> None:
    grid = np.random.default_rng(2).integers(-12, 13, (100, 3))
    doubled = sublattice(grid * [2, 1, 1], "P 1")
    assert doubled is not None
    assert doubled[0] == "h even"
    obverse = grid[(-grid[:, 0] + grid[:, 1] + grid[:, 2]) % 3 == 0]
    found = sublattice(obverse, "P 3")
    assert found is not None
    assert found[0] == "h + 2k + 2l divisible by 3"  # −h + k + l, times −1
    assert sublattice(obverse, "R 3 :H") is None


def test_few_indices_show_no_sublattice() -> None:
    found = sublattice(np.array([[2, 1, 0], [4, 3, 1]]), "P 1")
    assert found is not None
    assert found[1] > 0.1
    assert sublattice(np.zeros((0, 3), dtype=int), "P 1") is None


def test_the_mean_scale_of_cells() -> None:
    assert mean_scale([CUBIC], [tuple(1.02 * x for x in CUBIC)]) == pytest.approx(0.02)
    assert mean_scale([], []) is None
