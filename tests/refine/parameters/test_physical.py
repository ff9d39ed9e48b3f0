"""Which parameters an experiment has: symmetry of the cell, axes of rigid bodies, units, ranges and switches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import gemmi
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from nbtorch.config import CrystalConfig, MosaicConfig, PanelGroup
from nbtorch.errors import ConfigError
from nbtorch.models import Beam, Crystal, Detector
from refine.parameters.parameter_set import Parameter, ParameterSet
from refine.parameters.physical import (
    beam_parameters,
    cell_parameters,
    detector_parameters,
    mosaic_parameters,
    orientation_parameters,
    scale_parameter,
    size_parameters,
)
from refine.scene.rigid_groups import chosen_groups
from refine.settings.fit_settings import CrystalSettings, DataSettings, FitSettings, ParameterSettings
from tests.refine import tiny

# crystal system → space group, a cell of it, names of the independent parameters
SYSTEMS: dict[str, tuple[str, tuple[float, ...], str]] = {
    "triclinic": ("P 1", (20, 30, 40, 81, 92, 103), "a b c alpha beta gamma"),
    "monoclinic": ("P 1 21 1", (20, 30, 40, 90, 105, 90), "a b c beta"),
    "monoclinic, unique axis c": ("P 1 1 2", (20, 30, 40, 90, 90, 105), "a b c gamma"),
    "monoclinic, unique axis a": ("P 2 1 1", (20, 30, 40, 105, 90, 90), "a b c alpha"),
    "orthorhombic": ("P 21 21 21", (20, 30, 40, 90, 90, 90), "a b c"),
    "tetragonal": ("P 43 21 2", (79, 79, 38, 90, 90, 90), "a c"),
    "trigonal": ("P 31 2 1", (50, 50, 90, 90, 90, 120), "a c"),
    "trigonal, hexagonal axes": ("R 3 :H", (50, 50, 90, 90, 90, 120), "a c"),
    "trigonal, rhombohedral axes": ("R 3 :R", (50, 50, 50, 75, 75, 75), "a alpha"),
    "hexagonal": ("P 61 2 2", (93, 93, 130, 90, 90, 120), "a c"),
    "cubic": ("I 21 3", (78, 78, 78, 90, 90, 90), "a"),
}


def fit_settings(**changes: Any) -> FitSettings:
    return FitSettings(data=DataSettings("none.expt"), **changes)


def crystal_of(system: str) -> Crystal:
    group, cell, _ = SYSTEMS[system]
    return Crystal(CrystalConfig(cell, space_group=group))  # type: ignore[arg-type]


def moved(rows: list[Parameter], tensors: dict[str, torch.Tensor], name: str, by: float) -> dict[str, torch.Tensor]:
    """The tensors with one parameter moved."""
    parameters = ParameterSet(rows, [tensors])
    with torch.no_grad():
        parameters.values[[row.name for row in rows].index(name)] += by
    return {key: value.detach() for key, value in parameters.changes(0).items()}


def is_symmetric(cell: Sequence[float], group: str) -> bool:
    """Whether every operation of the space group leaves the cell's metric G = basisᵀ·basis as it is: Rᵀ·G·R = G."""
    basis = np.array(gemmi.UnitCell(*cell).orth.mat)
    metric = basis.T @ basis
    turns = [np.array(op.rot) / op.DEN for op in gemmi.SpaceGroup(group).operations().sym_ops]
    return all(np.allclose(turn.T @ metric @ turn, metric, rtol=1e-9, atol=1e-8) for turn in turns)


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_free_cell_parameters_are_those_of_the_crystal_system(system: str) -> None:
    rows = cell_parameters(0, crystal_of(system), fit_settings())
    names = SYSTEMS[system][2].split()
    assert [row.name for row in rows] == [f"crystal[0].{name}" for name in names]
    assert [row.unit for row in rows] == ["Å" if len(name) == 1 else "deg" for name in names]


@pytest.mark.parametrize("system", SYSTEMS)
def test_any_motion_of_the_cell_keeps_its_symmetry(system: str) -> None:
    crystal = crystal_of(system)
    rows = cell_parameters(0, crystal, fit_settings())
    assert is_symmetric(crystal.config.cell, crystal.config.space_group)
    for row in rows:
        cell = moved(rows, {"crystal.cell": crystal.cell.detach()}, row.name, 0.7)["crystal.cell"].tolist()
        assert is_symmetric(cell, crystal.config.space_group)
        assert cell != list(crystal.config.cell)


def averaged(matrix: np.ndarray, group: gemmi.SpaceGroup) -> np.ndarray:
    """The mean of Rᵀ·matrix·R over the operations of ``group``: the part of a metric that it leaves as it is."""
    turns = [np.array(op.rot) / op.DEN for op in group.operations().sym_ops]
    return np.asarray(np.mean([turn.T @ matrix @ turn for turn in turns], axis=0))


def test_every_setting_of_every_space_group_frees_as_many_numbers_as_its_metric_has() -> None:
    rough = np.array([[30.0, 0, 0], [-3, 41, 0], [4, -5, 52]])
    units = [np.eye(3)[[i]].T @ np.eye(3)[[j]] for i in range(3) for j in range(3)]
    for group in gemmi.spacegroup_table():
        metric = averaged(rough @ rough.T, group)
        lengths = np.sqrt(np.diag(metric))
        cosines = metric / lengths / lengths[:, None]
        angles = np.degrees(np.arccos([cosines[1, 2], cosines[0, 2], cosines[0, 1]]))
        numbers = np.linalg.matrix_rank([averaged(unit + unit.T, group).ravel() for unit in units], tol=1e-9)
        cell = tuple(float(x) for x in (*lengths, *angles))
        crystal = Crystal(CrystalConfig(cell, space_group=group.xhm()))  # type: ignore[arg-type]
        rows = cell_parameters(0, crystal, fit_settings())
        assert len(rows) == numbers, group.xhm()
        for row in rows:
            turned = moved(rows, {"crystal.cell": crystal.cell.detach()}, row.name, 0.3)["crystal.cell"].tolist()
            assert is_symmetric(turned, group.xhm()), (group.xhm(), row.name)


@pytest.mark.parametrize("system", SYSTEMS)
def test_what_follows_by_symmetry_is_named(system: str) -> None:
    rows = cell_parameters(0, crystal_of(system), fit_settings())
    named = {row.name for row in rows} | {follower.name for row in rows for follower in row.follows}
    fixed = {f"crystal[0].{name}" for name in ("a", "b", "c", "alpha", "beta", "gamma")} - named
    angles = dict(zip(("alpha", "beta", "gamma"), SYSTEMS[system][1][3:], strict=True))
    assert all(angles[name.split(".")[1]] in (90, 120) for name in fixed)


def test_lengths_that_the_experiment_holds_apart_keep_their_ratio() -> None:
    config = CrystalConfig((79.0, 79.4, 38.0, 90, 90, 90), space_group="P 4")
    rows = cell_parameters(0, Crystal(config), fit_settings())
    cell = moved(rows, {"crystal.cell": torch.tensor(config.cell, dtype=torch.float64)}, "crystal[0].a", 0.79)[
        "crystal.cell"
    ]
    assert cell[0] == pytest.approx(79.79, rel=1e-12)
    assert cell[1] / cell[0] == pytest.approx(79.4 / 79.0, rel=1e-12)


def test_the_cell_restraint_is_one_relative_error_of_lengths_and_angles() -> None:
    settings = fit_settings(crystal=CrystalSettings(cell_restraint=0.001))
    rows = cell_parameters(3, crystal_of("monoclinic"), settings)
    expected = [0.020, 0.030, 0.040, 0.001 * 180 / math.pi]
    assert [row.restraint for row in rows] == pytest.approx(expected, rel=1e-12)
    assert all(row.restraint is None for row in cell_parameters(3, crystal_of("monoclinic"), fit_settings()))
    assert all(row.block == 3 for row in rows)


def test_ranges_are_how_far_a_header_is_wrong() -> None:
    rows = {row.name: row for row in tiny.parameter_rows(tiny.experiments())}
    spans = {
        "detector.detector.shift_fast": 1.5,
        "detector.detector.rot_normal": 0.5,
        "crystal[0].rot_y": 0.5,
        "crystal[0].b": 0.27,
        "crystal[0].n_a": 5.0,
        "beam.tilt_along": 0.5,
        "beam.wavelength": 0.01,
        "crystal[0].scale": 1.0,
    }
    assert {name: rows[name].span for name in spans} == pytest.approx(spans)
    assert (rows["crystal[0].b"].lower, rows["crystal[0].b"].upper) == pytest.approx((24.3, 29.7))
    assert rows["crystal[0].n_a"].lower >= 1.0
    assert rows["crystal[0].scale"].lower == 0.0


def test_names_and_units_of_a_whole_detector_and_an_orientation() -> None:
    rows = detector_parameters(Detector(tiny.detector_config()), ParameterSettings())
    axes = ("fast", "slow", "normal")
    names = [f"detector.detector.{kind}_{axis}" for kind in ("shift", "rot") for axis in axes]
    assert [(row.name, row.unit) for row in rows] == list(zip(names, ["mm"] * 3 + ["deg"] * 3, strict=True))
    assert [(row.name, row.unit, row.block) for row in orientation_parameters(2, free=True)] == [
        (f"crystal[2].rot_{axis}", "deg", 2) for axis in "xyz"
    ]


def frames_with(detector: Detector, **changes: torch.Tensor) -> np.ndarray:
    tensors = {name.split(".")[1]: value for name, value in changes.items()}
    with torch.no_grad():
        return np.asarray(
            torch.func.functional_call(_Frames(detector), {f"detector.{k}": v for k, v in tensors.items()})
        )


class _Frames(torch.nn.Module):
    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self) -> torch.Tensor:
        return self.detector.frames()


def start(detector: Detector) -> dict[str, torch.Tensor]:
    return {f"detector.{name}": value.detach() for name, value in detector.named_parameters()}


def tilted() -> Detector:
    """One panel whose axes are no lab axes."""
    config = tiny.detector_config()
    turn = tiny.rotation((0.2, -0.3, 0.4))
    panel = config.panels[0]
    fast, slow, origin = (tuple(turn @ v) for v in (panel.fast_axis, panel.slow_axis, panel.origin))
    return Detector(replace(config, panels=(replace(panel, fast_axis=fast, slow_axis=slow, origin=origin),)))


@pytest.mark.parametrize("axis", range(3))
def test_a_shift_moves_the_detector_along_its_own_axes(axis: int) -> None:
    detector = tilted()
    rows = detector_parameters(detector, ParameterSettings(detector_shift=True))
    before, after = (
        frames_with(detector)[0],
        frames_with(detector, **moved(rows, start(detector), rows[axis].name, 0.3))[0],
    )
    assert after[3] - before[3] == pytest.approx(0.3 * before[axis], abs=1e-14)  # worst seen 3.2e-15 mm
    assert after[:3] == pytest.approx(before[:3], abs=1e-15)


@pytest.mark.parametrize("axis", range(3))
def test_a_rotation_turns_the_detector_about_its_centre_and_its_own_axes(axis: int) -> None:
    detector = tilted()
    rows = detector_parameters(detector, ParameterSettings(detector_rotation=True))
    before = frames_with(detector)[0]
    after = frames_with(detector, **moved(rows, start(detector), rows[3 + axis].name, 2.0))[0]
    turn = Rotation.from_rotvec(math.radians(2.0) * before[axis]).as_matrix()
    half = tiny.SIZE * tiny.PIXEL / 2
    centre = before[3] + half * (before[0] + before[1])
    assert after[:3] == pytest.approx(before[:3] @ turn.T, abs=1e-14)  # worst seen 1.2e-16
    assert after[3] + half * (after[0] + after[1]) == pytest.approx(centre, abs=1e-13)  # worst seen 4e-15 mm


def test_shifts_stay_along_the_start_axes_when_the_detector_is_turned() -> None:
    detector = tilted()
    rows = detector_parameters(detector, ParameterSettings())
    turned = moved(rows, start(detector), "detector.detector.rot_slow", 5.0)
    both = ParameterSet(rows, [start(detector)])
    with torch.no_grad():
        both.values[4], both.values[0] = 5.0, 0.3
    change = frames_with(detector, **both.changes(0))[0, 3] - frames_with(detector, **turned)[0, 3]
    assert change == pytest.approx(0.3 * frames_with(detector)[0, 0], abs=1e-13)  # worst seen 7e-15 mm


def test_a_group_below_moves_its_own_panels_and_is_restrained_to_small_motions() -> None:
    config = tiny.detector_config(panels=2)
    assert config.hierarchy is not None
    detector = Detector(config, chosen_groups(config.hierarchy, 2, [0, 1]))
    rows = detector_parameters(detector, ParameterSettings())
    assert [row.name for row in rows[::6]] == [f"detector.{g}.shift_fast" for g in ("detector", "left", "right")]
    assert [row.restraint for row in rows[::6]] == [None, pytest.approx(0.15), pytest.approx(0.15)]
    change = frames_with(detector, **moved(rows, start(detector), "detector.right.shift_slow", 0.2)) - frames_with(
        detector
    )
    assert change[0] == pytest.approx(0, abs=1e-15)
    assert change[1, 3] == pytest.approx([0, -0.2, 0], abs=1e-14)


def test_levels_name_rigid_bodies_and_a_level_that_is_not_there_is_refused() -> None:
    config = tiny.detector_config(panels=2)
    root = config.hierarchy
    assert root is not None
    assert [group.name for group in chosen_groups(root, 2, [1])] == ["left", "right"]
    assert [group.name for group in chosen_groups(root, 2, [0, "panels"])] == ["detector", "panel0", "panel1"]
    assert chosen_groups(PanelGroup("one", (0,)), 1, [0, "panels"]) == [PanelGroup("one", (0,))]
    with pytest.raises(ConfigError, match=r"there is no 2\. Use 0, 1 and panels"):
        chosen_groups(root, 2, [0, 2])


def test_a_tilt_of_the_beam_turns_it_by_its_degrees_towards_and_across_the_polarization() -> None:
    beam = Beam(tiny.beam_config())
    rows = beam_parameters(beam, ParameterSettings())
    tensors = {f"beam.{name}": value.detach() for name, value in beam.named_parameters()}
    for name, axis in (("along", 0), ("across", 1)):
        direction = moved(rows, tensors, f"beam.tilt_{name}", 0.1)["beam.direction"].numpy()
        angle = math.degrees(math.atan2(abs(direction[axis]), -direction[2]))
        assert angle == pytest.approx(0.1, rel=2e-6)  # a tilt is its tangent: 1.02e-6 off at 0.1°
        assert direction[1 - axis] == pytest.approx(0, abs=1e-15)
    assert moved(rows, tensors, "beam.tilt_along", 0.1)["beam.direction"][0] > 0  # towards the polarization axis


def test_a_polarization_fraction_is_half_of_one_and_the_kahn_factor() -> None:
    beam = Beam(replace(tiny.beam_config(), kahn_factor=0.98))
    rows = beam_parameters(beam, ParameterSettings())
    row = next(row for row in rows if row.name == "beam.polarization_fraction")
    assert (row.start, row.lower, row.upper) == (pytest.approx(0.99), 0, 1)
    tensors = {f"beam.{name}": value.detach() for name, value in beam.named_parameters()}
    assert float(moved(rows, tensors, row.name, -0.04)["beam.kahn_factor"]) == pytest.approx(0.90)


def test_no_polarization_is_refined_where_it_is_switched_off() -> None:
    beam = Beam(replace(tiny.beam_config(), kahn_factor=None))
    assert "beam.polarization_fraction" not in {row.name for row in beam_parameters(beam, ParameterSettings())}


def test_a_crystal_size_tied_to_one_keeps_its_shape() -> None:
    crystal = tiny.experiments()[0].crystal
    apart = size_parameters(0, crystal, ParameterSettings())
    assert [row.name for row in apart] == ["crystal[0].n_a", "crystal[0].n_b", "crystal[0].n_c"]
    (tied,) = size_parameters(0, crystal, ParameterSettings(n_cells_tie="size"))
    assert [follower.name for follower in tied.follows] == ["crystal[0].n_b", "crystal[0].n_c"]
    n = moved([tied], {"crystal.n_cells": crystal.n_cells.detach()}, tied.name, 2.0)["crystal.n_cells"]
    assert n.tolist() == pytest.approx([12.0, 10.8, 9.6])


def test_mosaic_spread_is_a_parameter_of_a_mosaic_crystal_alone() -> None:
    one = Crystal(tiny.crystal_config())
    many = Crystal(tiny.crystal_config(mosaic=MosaicConfig(0.1, 8)))
    assert mosaic_parameters(0, one, free=True) == []
    (row,) = mosaic_parameters(0, many, free=True)
    assert (row.name, row.unit, row.told(row.start)) == ("crystal[0].mosaic_spread", "deg", pytest.approx(0.1))


SWITCHED = {
    "orientation": "crystal[0].rot_",
    "cell": "crystal[0].",  # a … gamma
    "n_cells": "crystal[0].n_",
    "mosaic_spread": "crystal[0].mosaic_spread",
    "detector_shift": "detector.detector.shift_",
    "detector_rotation": "detector.detector.rot_",
    "beam_direction": "beam.tilt_",
    "wavelength": "beam.wavelength",
    "spectrum_offset": "beam.spectrum_offset",
    "bandwidth": "beam.bandwidth",
    "polarization": "beam.polarization_fraction",
}


@pytest.mark.parametrize("word", SWITCHED)
def test_each_word_frees_its_own_parameters(word: str) -> None:
    off = ParameterSettings(**{f.name: False for f in fields(ParameterSettings) if isinstance(f.default, bool)})
    expts = tiny.experiments(mosaic=MosaicConfig(0.1, 8))
    flags = replace(off, **{word: True})
    rows = tiny.parameter_rows(expts, replace(flags, bandwidth=False)) + mosaic_parameters(
        0, expts[0].crystal, flags.mosaic_spread
    )
    spectrum = ((-0.01, 1.0), (0.01, 2.0))
    rows += beam_parameters(Beam(replace(tiny.beam_config(), kahn_factor=0.5, spectrum=spectrum)), flags)
    freed = {row.name for row in rows if row.free}
    assert freed
    assert all(name.startswith(SWITCHED[word]) for name in freed)
    if word == "cell":
        assert freed == {"crystal[0].a", "crystal[0].b", "crystal[0].c"}


def test_the_scale_multiplies_every_spot_and_is_freed_by_the_stage() -> None:
    row = scale_parameter(1, free=False)
    assert (row.name, row.start, row.free, row.block) == ("crystal[1].scale", 1.0, False, 1)
    changed = moved([replace(row, block=0)], {"scale": torch.ones(1).double()}, row.name, 0.5)
    assert changed["scale"].tolist() == [1.5]
