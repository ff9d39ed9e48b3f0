"""Cell, matrix, size, mosaic domains and sampling of the crystal: docs/physics.md §3."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nbtorch.config import Mat3
from nbtorch.errors import ConfigError, GeometryError
from nbtorch.functional.cell import exact_vectors
from nbtorch.nanobragg.resolve import Inputs, Stated, resolve
from nbtorch.nanobragg.resolve.crystal import matrix_lattice, simulated_cell
from nbtorch.units import DEGREES
from tests.nanobragg.resolve.test_detector import notes, resolved

STARS: Mat3 = ((0.0361, -0.0082, -0.019), (0.0016, 0.0302, 0.0065), (-0.0145, 0.0110, 0.0226))  # right-handed


def test_cell_and_orientation_of_a_matrix_give_the_matrix_back() -> None:
    wavelength = 0.9768
    lattice = matrix_lattice(STARS, wavelength)
    cell = torch.tensor([*lattice.cell[:3], *(angle * DEGREES for angle in lattice.cell[3:])], dtype=torch.float64)
    turned = np.array(lattice.orientation) @ exact_vectors(cell)[1].numpy().T
    np.testing.assert_allclose(turned * wavelength, STARS, rtol=0, atol=1e-16 * 10)


def test_the_orientation_of_a_matrix_is_a_rotation() -> None:
    u = np.array(matrix_lattice(STARS, 1.0).orientation)
    np.testing.assert_allclose(u @ u.T, np.eye(3), atol=1e-14)
    assert np.linalg.det(u) == pytest.approx(1)


@pytest.mark.parametrize(
    "matrix", [((1.0, 2.0, 3.0), (1.0, 2.0, 3.0), (1.0, 2.0, 3.5)), tuple((b, a, c) for a, b, c in STARS)]
)
def test_a_matrix_without_volume_or_of_the_other_hand_is_refused(matrix: Mat3) -> None:
    with pytest.raises(GeometryError):
        matrix_lattice(matrix, 1.0)


def test_a_matrix_wins_over_a_cell_and_is_exact() -> None:
    ours = resolve(Stated(cell=(50.0, 50.0, 50.0, 90.0, 90.0, 90.0), oversample=1), Inputs(matrix=STARS))
    assert ours.crystal.construction == "exact"
    assert ours.crystal.cell[0] != 50
    assert "-cell is not used" in "\n".join(map(str, ours.notes))


def test_no_cell_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="-cell or -mat"):
        resolve(Stated(oversample=1))


def test_the_drop_in_cell_is_not_the_one_asked_for_and_the_exact_one_is() -> None:
    triclinic = "-cell 70 80 90 75 85 95"
    asked = (70, 80, 90, 75, 85, 95)
    assert simulated_cell(resolved(triclinic).crystal)[3] == pytest.approx(75.0391, abs=1e-4)
    assert simulated_cell(resolved(triclinic + " -exact_cell").crystal) == pytest.approx(asked, rel=1e-12)


def test_number_of_cells_from_the_size_in_mm_clipped_to_the_beam() -> None:
    ours = resolved("-xtalsize 0.000101 -beamsize 0.00006")
    assert ours.crystal.n_cells == (21, 12, 12)  # ceil(1010/50), ceil(600/50)
    assert notes("-xtalsize 0.000101 -beamsize 0.00006").count("clipped") == 2


@pytest.mark.parametrize(("words", "expected"), [("-N 0", (1, 1, 1)), ("-Na -3 -Nb 2.5", (1, 2.5, 1)), ("", (1, 1, 1))])
def test_every_count_is_at_least_one(words: str, expected: tuple[float, float, float]) -> None:
    assert resolved(words).crystal.n_cells == expected


@pytest.mark.parametrize(
    ("words", "domains"),
    [
        ("", 1),
        ("-mosaic 0.5", 10),
        ("-mosaic 0.5 -mosaic_dom 7", 7),
        ("-mosaic_dom 7", 1),
        ("-mosaic 0 -mosaic_dom 7", 1),
    ],
)
def test_mosaic_domains(words: str, domains: int) -> None:
    assert resolved(words).crystal.mosaic.domains == domains


def test_random_misset_reports_angles_that_give_the_same_crystal() -> None:
    random = resolved("-misset random -misset_seed 1234")
    angles = random.crystal.misset
    assert f"{angles[0]:.6f}" in notes("-misset random -misset_seed 1234")
    assert resolved(f"-misset {' '.join(map(str, angles))}").crystal == random.crystal


def test_random_misset_falls_back_to_the_seed() -> None:
    base = Stated(cell=(50.0, 50.0, 50.0, 90.0, 90.0, 90.0), misset="random", oversample=1)
    missets = [resolve(base, seed=seed).crystal.misset for seed in (5, 5, 6)]
    assert missets[0] == missets[1] != missets[2]


def test_oversample_follows_the_crystal_width() -> None:
    ours = resolved("-N 40 -oversample 0 -distance 80 -lambda 1.5")
    assert ours.render.oversample == math.ceil(3 * 40 * 50 / (1.5 * 80 / 0.3))
    assert "choice: oversample" in notes("-N 40 -oversample 0")


@pytest.mark.parametrize(
    "words",
    ["-mosaic 1 -mosaic_domains 1e9", "-oversample 1e6", "-detector_abs 9 -detector_thick 9 -thicksteps 1e9"],
)
def test_counts_that_would_never_end_are_refused(words: str) -> None:
    with pytest.raises(ConfigError, match="at most"):
        resolved(words)


def test_a_macroscopic_crystal_must_state_its_oversample() -> None:
    with pytest.raises(ConfigError, match="-oversample"):
        resolved("-N 1e6 -oversample 0")


@pytest.mark.parametrize(
    ("n", "flag", "table", "expected"),
    [
        (2, None, True, "tricubic"),
        (3, None, True, "nearest"),
        (2, False, True, "nearest"),
        (9, True, True, "tricubic"),
        (2, True, False, "nearest"),
    ],
)
def test_interpolation(n: int, flag: bool | None, table: bool, expected: str) -> None:
    stated = Stated(cell=(50.0, 50.0, 50.0, 90.0, 90.0, 90.0), n_a=n, n_b=9, n_c=9, interpolate=flag, oversample=1)
    assert resolve(stated, Inputs(has_table=table)).render.interpolation == expected


def test_running_corrections_warn_that_they_are_not_physics() -> None:
    assert resolved("-oversample_omega").render.mode == "running"
    assert "not physics" in notes("-oversample_omega")
    assert resolved("-oversample_omega -exact_corrections").render.mode == "exact"
    assert "-oversample_omega not used" in notes("-oversample_omega -exact_corrections")


def test_spindle_steps_are_left_edges_unless_midpoints_are_asked_for() -> None:
    assert resolved("-osc 1").exposure.sampling == "left"
    assert resolved("-osc 1 -phi_midpoint").exposure.sampling == "midpoint"
    assert resolved("-osc 1 -exact").crystal.construction == "exact"
