"""The orientation of a known cell, from the places of spots alone."""

from __future__ import annotations

import numpy as np
import pytest

from nbtorch.io.expt.crystal import standard_rows
from refine.indexing.orientation_search import FEWEST, NEAR, orientations

WAVELENGTH, DISTANCE, HALF = 1.0, 150.0, 150.0  # Å, mm, mm
CELLS = {
    "tetragonal": (78.0, 78.0, 37.5, 90.0, 90.0, 90.0),
    "orthorhombic": (60.0, 70.0, 90.0, 90.0, 90.0, 90.0),
    "monoclinic": (42.0, 55.0, 70.0, 90.0, 105.0, 90.0),
    "hexagonal": (93.0, 93.0, 130.0, 90.0, 90.0, 120.0),
    "cubic": (78.0, 78.0, 78.0, 90.0, 90.0, 90.0),
    "triclinic": (40.0, 50.0, 60.0, 80.0, 95.0, 110.0),
}
Cell = tuple[float, float, float, float, float, float]


def turned(rng: np.random.Generator) -> np.ndarray:
    """A rotation, all alike likely."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def still(
    cell: Cell, rng: np.random.Generator, *, spots: int, outliers: float = 0.0, shift_mm: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Reciprocal vectors as seen on a flat detector whose beam centre is off by ``shift_mm``, and the true rows."""
    rows = standard_rows(cell) @ turned(rng).T
    reach = [int(length / 2.4) + 1 for length in cell[:3]]
    grid = np.stack(np.meshgrid(*[np.arange(-k, k + 1) for k in reach], indexing="ij"), -1).reshape(-1, 3)
    r = grid[(grid != 0).any(1)] @ np.linalg.inv(rows).T
    r = r[np.linalg.norm(r, axis=1) < 1 / 2.4]
    wave = np.array([0.0, 0.0, -1 / WAVELENGTH])
    excited = r[np.abs(np.linalg.norm(wave + r, axis=1) - 1 / WAVELENGTH) < 0.0012]
    ray = wave + excited
    place = ray[:, :2] / -ray[:, 2:] * DISTANCE
    place = place[(np.abs(place) < HALF).all(1)]
    place = rng.permutation(place)[:spots]
    stray = rng.uniform(-HALF, HALF, (int(outliers * len(place)), 2))
    place = rng.permutation(np.vstack([place, stray])) + rng.normal(0, 0.05, (len(place) + len(stray), 2))
    seen = np.column_stack([place + shift_mm, np.full(len(place), -DISTANCE)])
    return seen / np.linalg.norm(seen, axis=1, keepdims=True) / WAVELENGTH - wave, rows


def error(found: np.ndarray, true: np.ndarray) -> float:
    """The largest angle (degrees) between axes, the same lattice described in another way being no error."""
    same = np.round(found @ np.linalg.inv(true)) @ true
    cosine = (same * found).sum(1) / np.linalg.norm(same, axis=1) / np.linalg.norm(found, axis=1)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).max())


@pytest.mark.parametrize("name", CELLS)
def test_every_lattice_is_found_among_outliers_with_the_beam_off_and_the_cell_wrong(name: str) -> None:
    rng = np.random.default_rng(3)
    q, true = still(CELLS[name], rng, spots=90, outliers=0.25, shift_mm=0.7)
    found = orientations(q, standard_rows(CELLS[name]) * 1.008)
    # 0.7 mm each way at 150 mm is 0.38°, which a turn of the crystal makes up for; worst seen 0.47
    assert error(found[0].rows, true) < 0.7
    assert found[0].explained > 0.6


def test_few_spots_without_errors_are_enough_and_the_turn_is_exact() -> None:
    rng = np.random.default_rng(5)
    q, true = still(CELLS["orthorhombic"], rng, spots=30)
    found = orientations(q, standard_rows(CELLS["orthorhombic"]))
    assert error(found[0].rows, true) < 0.1
    assert found[0].explained > 0.9


def test_spots_of_no_lattice_are_explained_by_none() -> None:
    rng = np.random.default_rng(7)
    q, _ = still(CELLS["orthorhombic"], rng, spots=0, outliers=0.0)
    ray = rng.normal(0, 0.4, (80, 3)) * (1, 1, 0) + (0, 0, -1.0)
    q = ray / np.linalg.norm(ray, axis=1, keepdims=True) - (0, 0, -1.0)
    found = orientations(q, standard_rows(CELLS["orthorhombic"]))
    assert all(one.explained < 0.45 for one in found)
    assert not found or found[0].chance == pytest.approx((2 * NEAR) ** 3)


def test_too_few_spots_give_nothing() -> None:
    q, _ = still(CELLS["cubic"], np.random.default_rng(1), spots=FEWEST - 1)
    assert orientations(q, standard_rows(CELLS["cubic"])) == ()


def test_orientations_are_told_apart_and_come_best_first() -> None:
    q, _ = still(CELLS["triclinic"], np.random.default_rng(2), spots=120)
    found = orientations(q, standard_rows(CELLS["triclinic"]))
    shares = [one.explained for one in found]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 2 * shares[1]  # seen 0.99 and 0.36
