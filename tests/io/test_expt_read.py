"""Reading dxtbx experiment lists: conventions, hierarchy, goniometers, scans, frames, and what is refused where."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbtorch.errors import FileError
from nbtorch.io import ExperimentEntry, read_expt
from nbtorch.io.expt.crystal import cell_and_orientation, real_space_rows, standard_rows
from nbtorch.io.expt.goniometer import rotation
from tests.io.documents import document, group, panel, write


def first(tmp_path: Path, **changes: Any) -> ExperimentEntry:
    return read_expt(write(tmp_path, document(**changes)))[0]


def test_the_beam_travels_against_dxtbx_direction(tmp_path: Path) -> None:
    beam = first(tmp_path).beam
    assert beam.direction == (0.0, 0.0, -1.0)
    assert beam.wavelength == 1.1


def test_polarization_normal_and_fraction_become_e_vector_and_kahn_factor(tmp_path: Path) -> None:
    beam = first(tmp_path).beam
    # normal y × travel −z = −x; K = 2·0.9 − 1
    assert beam.polarization_axis == pytest.approx((-1.0, 0.0, 0.0))
    assert beam.kahn_factor == pytest.approx(0.8)


def test_panel_keeps_what_the_document_says(tmp_path: Path) -> None:
    only = first(tmp_path).detector.panels[0]
    assert (only.size, only.pixel_size, only.trusted_range) == ((6, 4), (0.1, 0.1), (-1.0, 1000.0))
    assert (only.mask, only.gain, only.pedestal, only.material) == (((1, 0, 3, 2),), 1.5, 2.0, "Si")
    assert (only.thickness, only.attenuation_length) == (0.32, 0.4)
    assert only.origin == (-3.0, 2.0, -100.0)


def test_a_panel_without_parallax_strategy_has_no_depth(tmp_path: Path) -> None:
    flat = panel("P", [0, 0, -100.0], px_mm_strategy={"type": "SimplePxMmStrategy"})
    only = first(tmp_path, detector=[{"panels": [flat], "hierarchy": group("", [{"panel": 0}])}]).detector.panels[0]
    assert only.thickness == 0.0
    assert math.isinf(only.attenuation_length)


def test_an_unstated_trusted_range_is_unbounded(tmp_path: Path) -> None:
    silent = panel("P", [0, 0, -100.0], trusted_range=[0.0, 0.0])
    only = first(tmp_path, detector=[{"panels": [silent], "hierarchy": group("", [{"panel": 0}])}]).detector.panels[0]
    assert only.trusted_range == (-math.inf, math.inf)


def test_frames_compose_from_root_through_groups_to_panels(tmp_path: Path) -> None:
    # The root stands at z = -100, turned by 90° about z; the arm is 10 along the root's x; the panel at (1, 2) in it.
    root = group(
        "",
        [group("arm", [{"panel": 1}], origin=[10, 0, 0]), {"panel": 0}],
        fast_axis=[0, 1, 0],
        slow_axis=[-1, 0, 0],
        origin=[0, 0, -100],
    )
    panels = [panel("A", [0.0, 0.0, 0.0]), panel("B", [1.0, 2.0, 0.0], fast_axis=[1, 0, 0], slow_axis=[0, 1, 0])]
    detector = first(tmp_path, detector=[{"panels": panels, "hierarchy": root}]).detector
    assert detector.panels[0].fast_axis == pytest.approx((0, 1, 0))
    assert detector.panels[0].slow_axis == pytest.approx((1, 0, 0))
    assert detector.panels[0].origin == pytest.approx((0, 0, -100))
    assert detector.panels[1].origin == pytest.approx((-2, 11, -100))
    assert detector.panels[1].fast_axis == pytest.approx((0, 1, 0))
    assert detector.hierarchy is not None
    assert [(depth, node.name, node.panels) for depth, node in detector.hierarchy.walk()] == [
        (0, "detector", (0,)),
        (1, "arm", (1,)),
    ]


def test_unnamed_and_repeated_groups_get_unique_names(tmp_path: Path) -> None:
    panels = [panel(f"P{i}", [10.0 * i, 0.0, -100.0]) for i in range(4)]
    tree = group("", [group(name, [{"panel": i}]) for i, name in enumerate(["", "Q", "Q", ""])])
    hierarchy = first(tmp_path, detector=[{"panels": panels, "hierarchy": tree}]).detector.hierarchy
    assert hierarchy is not None
    assert [node.name for _, node in hierarchy.walk()] == ["detector", "group0", "Q", "Q_2", "group3"]


def test_a_detector_without_hierarchy_is_one_flat_group(tmp_path: Path) -> None:
    panels = [panel("A", [0.0, 0.0, -100.0]), panel("B", [8.0, 0.0, -100.0])]
    detector = first(tmp_path, detector=[{"panels": panels}]).detector
    assert detector.hierarchy is not None
    assert detector.hierarchy.all_panels() == (0, 1)
    assert detector.panels[1].origin == (8.0, 0.0, -100.0)


@pytest.mark.parametrize(
    ("children", "words"),
    [
        ([], r"leaves out panels \[0\]"),
        ([{"panel": 0}, {"panel": 0}], "twice"),
        ([{"panel": 0}, {"panel": 5}], r"\[5\]"),
    ],
)
def test_a_hierarchy_that_does_not_hold_each_panel_once_is_refused(
    tmp_path: Path, children: list[dict[str, Any]], words: str
) -> None:
    path = write(tmp_path, document(detector=[{"panels": [panel("P", [0, 0, -9])], "hierarchy": group("", children)}]))
    with pytest.raises(FileError, match=words):
        read_expt(path)


def test_a_single_axis_goniometer_is_read_as_it_stands(tmp_path: Path) -> None:
    crystal = first(tmp_path).crystal
    assert crystal is not None
    assert crystal.goniometer.axis == (1.0, 0.0, 0.0)
    assert crystal.goniometer.fixed_rotation == ((0, -1, 0), (1, 0, 0), (0, 0, 1))


def test_axes_before_the_scan_axis_are_fixed_and_those_after_it_the_setting(tmp_path: Path) -> None:
    axes = [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 2.0], [0.6, 0.8, 0], [0, 0.6, 0.8]]
    angles = [10.0, 20.0, 30.0, 40.0, 50.0]
    names = [f"A{i}" for i in range(5)]
    stand = {"axes": axes, "angles": angles, "names": names, "scan_axis": 2}
    crystal = first(tmp_path, goniometer=[stand]).crystal
    assert crystal is not None
    turn = [rotation((x, y, z), angle) for (x, y, z), angle in zip(axes, angles, strict=True)]
    np.testing.assert_allclose(crystal.goniometer.fixed_rotation, turn[1] @ turn[0], atol=1e-15)
    np.testing.assert_allclose(crystal.goniometer.setting_rotation, turn[4] @ turn[3], atol=1e-15)
    assert crystal.goniometer.axis == (0.0, 0.0, 1.0)  # normalized


def test_a_scan_axis_that_is_not_there_is_refused(tmp_path: Path) -> None:
    stand = {"axes": [[1, 0, 0]], "angles": [0], "names": ["a"], "scan_axis": 1}
    with pytest.raises(FileError, match=r"goniometer\[0\].scan_axis.*1 axes"):
        first(tmp_path, goniometer=[stand])


def test_a_setting_matrix_that_is_no_rotation_is_refused(tmp_path: Path) -> None:
    stand = {"rotation_axis": [1, 0, 0], "fixed_rotation": [2, 0, 0, 0, 1, 0, 0, 0, 1]}
    with pytest.raises(FileError, match=r"fixed_rotation.*not a rotation"):
        first(tmp_path, goniometer=[stand])


@pytest.mark.parametrize(
    "scan",
    [
        {"image_range": [7, 9], "oscillation": [10.0, 0.5]},
        {"image_range": [7, 9], "properties": {"oscillation": [10.0, 10.5, 11.0], "epochs": [0, 1, 2]}},
    ],
    ids=["start and width", "list of starts"],
)
def test_both_forms_of_a_scan_mean_the_same(tmp_path: Path, scan: dict[str, Any]) -> None:
    entry = first(tmp_path, scan=[scan])
    assert entry.scan is not None
    assert (entry.scan.phi_start, entry.scan.oscillation) == (10.0, 0.5)
    assert (entry.scan.n_frames, entry.scan.first_image) == (3, 7)
    assert not entry.is_still


def test_the_width_of_a_single_image_is_its_own_property(tmp_path: Path) -> None:
    scan = {"image_range": [4, 4], "properties": {"oscillation": [3.0], "oscillation_width": [0.2]}}
    entry = first(tmp_path, scan=[scan])
    assert entry.scan is not None
    assert (entry.scan.phi_start, entry.scan.oscillation) == (3.0, 0.2)


def test_a_scan_of_unequal_steps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="different angles"):
        first(tmp_path, scan=[{"image_range": [1, 3], "properties": {"oscillation": [0.0, 0.1, 0.3]}}])


def test_a_template_is_expanded_over_the_image_range_and_looked_up_beside_the_expt(tmp_path: Path) -> None:
    (tmp_path / "t_0007.cbf").write_bytes(b"x")
    (tmp_path / "t_0008.cbf.gz").write_bytes(gzip.compress(b"x"))
    imageset = [{"template": "/elsewhere/t_####.cbf"}]
    entry = first(tmp_path, imageset=imageset)
    assert [image.name for image in entry.images] == ["t_0007.cbf", "t_0008.cbf.gz", "t_0009.cbf"]
    assert entry.images[0].parent == tmp_path
    assert str(entry.images[2]) == "/elsewhere/t_0009.cbf"  # absent: named as the document names it


def test_an_imageset_of_names_needs_no_scan(tmp_path: Path) -> None:
    experiment = {"beam": 0, "detector": 0, "crystal": 0, "imageset": 0}
    entry = first(tmp_path, experiment=[experiment], imageset=[{"images": ["a/b.cbf"]}])
    assert entry.images == (tmp_path / "a/b.cbf",)
    assert entry.scan is None
    assert entry.goniometer_index is None
    assert entry.is_still


def test_a_template_without_a_scan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"imageset\[0\].template.*image numbers"):
        first(tmp_path, experiment=[{"beam": 0, "detector": 0, "crystal": 0, "imageset": 0}])


def test_the_crystal_has_its_cell_orientation_and_space_group(tmp_path: Path) -> None:
    crystal = first(tmp_path).crystal
    assert crystal is not None
    assert crystal.cell == pytest.approx((40, 40, 70, 90, 90, 90))
    assert crystal.space_group == "P 43 21 2"
    np.testing.assert_allclose(crystal.orientation, np.eye(3), atol=1e-15)


def test_the_thermolysin_symbol_with_a_shifted_origin_is_p61_2_2(tmp_path: Path) -> None:
    crystal = {**document()["crystal"][0], "space_group_hall_symbol": " P 61 2 (x,y,z+5/12)"}
    read = first(tmp_path, crystal=[crystal]).crystal
    assert read is not None
    assert read.space_group == "P 61 2 2"


def test_a_setting_without_a_name_is_treated_as_p1_and_noted(tmp_path: Path) -> None:
    primitive = {**document()["crystal"][0], "space_group_hall_symbol": " C 2y (x+y,-x+y,z)"}
    entry = first(tmp_path, crystal=[primitive])
    assert entry.crystal is not None
    assert entry.crystal.space_group == "P 1"
    assert entry.notes == ("crystal 0 has the unusual setting C 2y (x+y,-x+y,z): it is treated as P 1",)
    assert first(tmp_path).notes == ()


def test_scan_points_are_real_space_rows(tmp_path: Path) -> None:
    points = [np.diag([1 / 40, 1 / 40, 1 / 70]).ravel().tolist(), np.diag([1 / 41, 1 / 40, 1 / 70]).ravel().tolist()]
    crystal = first(tmp_path, crystal=[{**document()["crystal"][0], "A_at_scan_points": points}]).crystal
    assert crystal is not None
    np.testing.assert_allclose(crystal.scan_points, [np.diag([40, 40, 70]), np.diag([41, 40, 70])], atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.tuples(*[st.floats(4, 300)] * 3),
    angles=st.tuples(*[st.floats(70, 115)] * 3),
    axis=st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: math.hypot(*v) > 0.1),
    turn=st.floats(-180, 180),
)
def test_cell_and_orientation_rebuild_the_vectors(
    lengths: tuple[float, float, float],
    angles: tuple[float, float, float],
    axis: tuple[float, float, float],
    turn: float,
) -> None:
    rows = standard_rows((*lengths, *angles)) @ rotation(axis, turn).T
    cell, u = cell_and_orientation(rows)
    # 1e-9 relative: measured 4e-13 for these cells; hypothesis draws skewed ones
    np.testing.assert_allclose(cell, (*lengths, *angles), rtol=1e-9)
    np.testing.assert_allclose(standard_rows(cell) @ np.array(u).T, rows, atol=1e-9 * max(lengths))
    np.testing.assert_allclose(np.array(u) @ np.array(u).T, np.eye(3), atol=1e-14)


def test_the_standard_setting_has_a_star_along_x_and_b_star_in_the_xy_plane() -> None:
    cell = (74.0, 86.0, 98.0, 82.0, 97.0, 104.0)
    rows = standard_rows(cell)
    star = np.linalg.inv(rows)  # columns a*, b*, c*
    assert star[1:, 0] == pytest.approx([0, 0], abs=1e-17)
    assert star[2, 1] == pytest.approx(0, abs=1e-17)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), cell[:3], rtol=1e-14)
    assert abs(np.linalg.det(rows)) == pytest.approx(gemmi.UnitCell(*cell).volume, rel=1e-13)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"real_space_c": [40.0, 40.0, 0.0]}, r"crystal\[0\].*enclose no volume"),
        ({"real_space_c": [0.0, 0.0, -70.0]}, "left-handed"),
        ({"real_space_c": [0.0, 70.0]}, r"crystal\[0\].real_space_c.*3 values, not 2"),
        ({"real_space_c": [0.0, 0.0, "x"]}, r"crystal\[0\].real_space_c\[2\].*finite number, not text"),
        ({"space_group_hall_symbol": "rubbish"}, "not a Hall symbol"),
    ],
)
def test_a_crystal_that_cannot_be_is_refused_with_its_place(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(FileError, match=words):
        first(tmp_path, crystal=[{**document()["crystal"][0], **change}])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"experiment": []}, "no experiment"),
        ({"experiment": [{"detector": 0}]}, "names no beam"),
        ({"experiment": [{"beam": 0}]}, "names no detector"),
        ({"experiment": [{"beam": 3, "detector": 0}]}, r"experiment\[0\].beam.*beam 3, but the file holds 1"),
        ({"beam": [{"direction": [0, 0, 0], "wavelength": 1}]}, r"beam\[0\].direction"),
        ({"beam": [{"direction": [0, 0, 1], "wavelength": -1}]}, r"beam\[0\].wavelength"),
        ({"beam": [{"direction": [0, 0, 1]}]}, "no 'wavelength'"),
        ({"detector": [{"panels": []}]}, r"detector\[0\].panels.*no panel"),
        ({"scan": [{"image_range": [5, 2]}]}, "comes before"),
        ({"scan": [{"image_range": [1, 10**9]}]}, "1000000000 images"),
    ],
)
def test_a_broken_document_is_refused_with_the_place(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(FileError, match=words):
        first(tmp_path, **changes)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON: .*line 1, column 2"),
        ("[1]", "no experiment list"),
        ('{"__id__": "Other"}', "no experiment list"),
    ],
)
def test_a_file_that_is_no_experiment_list_is_refused(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "x.expt"
    path.write_text(content)
    with pytest.raises(FileError, match=words):
        read_expt(path)


def test_json_that_nests_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.expt"
    path.write_text("[" * 200_000)
    with pytest.raises(FileError, match=r"nested too deeply|not JSON"):
        read_expt(path)


def test_a_missing_expt_is_refused_saying_what_was_tried(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"no.expt, no.expt.gz, no.expt.bz2"):
        read_expt(tmp_path / "no.expt")


def test_misset_turns_the_vectors_about_lab_x_then_y_then_z(tmp_path: Path) -> None:
    import dataclasses

    crystal = first(tmp_path).crystal
    assert crystal is not None
    turned = real_space_rows(dataclasses.replace(crystal, misset=(10.0, 20.0, 30.0)))
    x, y, z = (rotation(axis, angle) for axis, angle in (((1, 0, 0), 10), ((0, 1, 0), 20), ((0, 0, 1), 30)))
    np.testing.assert_allclose(turned, real_space_rows(crystal) @ (z @ y @ x).T, atol=1e-12)
