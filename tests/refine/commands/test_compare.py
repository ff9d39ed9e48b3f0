"""How far two geometries are apart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nbtorch.config import CrystalConfig, Mat3
from nbtorch.errors import DataError
from nbtorch.functional.rotation import rotation_matrix
from nbtorch.io.expt import ExptUpdates, read_expt, write_expt
from nbtorch.models import Detector
from refine.commands.compare import compare, crystal_change, rotation_vector, symmetry_rotations
from refine.commands.compare_command import main
from refine.conclude.refined_models import refined_detector
from tests.helpers.data import shared
from tests.refine import fake


def turn(*degrees: float) -> np.ndarray:
    return rotation_matrix(torch.tensor(degrees, dtype=torch.float64) * torch.pi / 180).numpy()


def as_mat3(matrix: np.ndarray) -> Mat3:
    a, b, c = (tuple(row) for row in matrix.tolist())
    return a, b, c


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """start.expt, and the same with the detector, beam and crystal moved by known amounts."""
    first = fake.write_experiment(tmp_path / "a.expt")
    entry = read_expt(first)[0]
    assert entry.crystal is not None
    model = Detector(entry.detector)
    with torch.no_grad():
        model.shift[0] = torch.tensor([0.8, -0.5, 0.3], dtype=torch.float64)
        model.rotation[0] = torch.tensor([0.2, 0.1, -0.4], dtype=torch.float64)
    crystal = replace(
        entry.crystal,
        cell=(79.079, 79.0, 38.0, 90.0, 90.0, 90.1),
        orientation=as_mat3(turn(0.03, 0.04, 0.0) @ np.array(entry.crystal.orientation)),
    )
    beam = replace(entry.beam, wavelength=0.9773, direction=tuple(turn(0.1, 0.0, 0.0) @ [0.0, 0.0, -1.0]))
    updates = ExptUpdates({0: refined_detector(model)}, {0: beam}, {0: crystal})
    return first, write_expt(tmp_path / "b.expt", read_expt(first), updates)


def test_a_known_motion_of_the_detector_is_found(pair: tuple[Path, Path]) -> None:
    found = compare(read_expt(pair[0]), read_expt(pair[1]))
    whole = found.groups[0]
    assert whole.name == "detector"
    assert whole.shift == pytest.approx((0.8, -0.5, 0.3), abs=1e-9)
    assert whole.rotation == pytest.approx((0.2, 0.1, -0.4), abs=1e-9)
    assert whole.misfit == pytest.approx(0.0, abs=1e-9)
    assert found.distance[1] - found.distance[0] == pytest.approx(0.3, abs=0.01)
    assert [panel.name for panel in found.panels] == ["left", "right"]
    assert all(panel.rotation == pytest.approx((0.2, 0.1, -0.4), abs=1e-9) for panel in found.panels)


def test_a_panel_that_moves_alone_is_no_rigid_motion_of_the_whole(pair: tuple[Path, Path], tmp_path: Path) -> None:
    entry = read_expt(pair[0])[0]
    left, right = entry.detector.panels
    moved = replace(entry.detector, panels=(replace(left, origin=(-42.0, 53.0, -99.0)), right))
    path = write_expt(tmp_path / "c.expt", read_expt(pair[0]), ExptUpdates({0: moved}))
    found = compare(read_expt(pair[0]), read_expt(path))
    assert found.panels[0].shift == pytest.approx((0.0, 0.0, -1.0), abs=1e-9)
    assert found.panels[1].shift == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)
    assert found.groups[0].misfit > 0.2


def test_crystal_and_beam_changes_are_found(pair: tuple[Path, Path]) -> None:
    found = compare(read_expt(pair[0]), read_expt(pair[1]))
    (crystal,) = found.crystals
    assert crystal.misorientation == pytest.approx(0.05, abs=0.06)  # the strain of γ turns the axes by up to 0.05°
    assert crystal.cell[0] == pytest.approx(0.079, abs=1e-9)
    assert crystal.cell[5] == pytest.approx(0.1, abs=1e-9)
    assert crystal.cell_percent[0] == pytest.approx(0.1, abs=1e-6)
    assert not crystal.reindexed
    assert found.beam_angle == pytest.approx(0.1, abs=1e-9)
    assert found.wavelength == pytest.approx(0.001, abs=1e-9)


def test_a_geometry_is_nowhere_from_itself(pair: tuple[Path, Path]) -> None:
    same = compare(read_expt(pair[0]), read_expt(pair[0]))
    assert max(abs(x) for body in (*same.groups, *same.panels) for x in (*body.shift, *body.rotation)) < 1e-12
    assert same.crystals[0].misorientation == pytest.approx(0.0, abs=1e-6)
    assert same.beam_angle == 0.0


def test_an_equivalent_indexing_is_recognized() -> None:
    first = CrystalConfig((79.0, 79.0, 38.0, 90.0, 90.0, 90.0), space_group="P 43 21 2")
    quarter = as_mat3(turn(0.0, 0.0, 90.0) @ turn(0.03, 0.0, 0.0))
    a_star_along_x = crystal_change("crystal[0]", first, replace(first, orientation=quarter))
    assert a_star_along_x.reindexed
    assert a_star_along_x.misorientation == pytest.approx(0.03, abs=1e-6)
    plain = crystal_change("crystal[0]", replace(first, space_group="P 1"), replace(first, orientation=quarter))
    assert plain.misorientation == pytest.approx(90.0, abs=0.03)


@pytest.mark.parametrize(("group", "order"), [("P 1", 1), ("P 43 21 2", 8), ("P 61 2 2", 12), ("I 2 3", 12)])
def test_the_symmetry_rotations_are_those_of_the_laue_groups_rotations(group: str, order: int) -> None:
    assert len({matrix.tobytes() for matrix in symmetry_rotations(group)}) == order


@pytest.mark.parametrize(
    "vector", [(0.0, 0.0, 0.0), (1e-7, 0.0, 0.0), (10.0, -20.0, 30.0), (0.0, 179.999, 0.0), (180.0, 0.0, 0.0)]
)
def test_a_rotation_vector_survives_its_matrix(vector: tuple[float, float, float]) -> None:
    again = rotation_vector(turn(*vector))
    assert np.allclose(turn(*again), turn(*vector), atol=1e-9)
    assert np.linalg.norm(again) == pytest.approx(np.linalg.norm(vector), abs=1e-6)


def test_detectors_of_different_sizes_cannot_be_compared(pair: tuple[Path, Path]) -> None:
    first = read_expt(pair[0])
    entry = replace(first[0], detector=replace(first[0].detector, panels=first[0].detector.panels[:1], hierarchy=None))
    with pytest.raises(DataError, match="2 and 1 panels"):
        compare(first, replace(first, entries=(entry,)))


def test_the_command_prints_and_writes_what_it_found(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(pair[0]), str(pair[1]), "--json", str(tmp_path / "found.json")]) == 0
    printed = capsys.readouterr().out
    assert "+0.8000" in printed
    assert "misorientation" in printed
    assert json.loads((tmp_path / "found.json").read_text())["groups"][0]["shift"][0] == pytest.approx(0.8)


def test_a_wrong_command_line_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["only_one.expt"]) == 2
    assert "B.expt" in capsys.readouterr().err


def test_header_and_published_geometry_of_a_real_sweep_differ_as_stated() -> None:
    """The README of the data gives 0.20° between the beams and 0.4–1.8 mm between the distances."""
    folder = shared("real", "l_cysteine", "sweep4")
    found = compare(read_expt(folder / "start.expt"), read_expt(folder / "reference.expt"))
    assert found.beam_angle == pytest.approx(0.20, abs=0.01)
    assert abs(found.distance[1] - found.distance[0]) == pytest.approx(1.8, abs=0.05)
    assert found.crystals[0].misorientation == pytest.approx(0.0, abs=1e-3)
