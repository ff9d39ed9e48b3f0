"""Writing refined experiment lists: what was refined changes, everything else stays."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from nbtorch.config import BeamConfig, CrystalConfig, DetectorConfig
from nbtorch.errors import DataError, FileError, GeometryError
from nbtorch.io import ExperimentList, ExptUpdates, read_expt, write_expt
from nbtorch.io.expt.goniometer import rotation
from tests.helpers.data import shared
from tests.io.documents import Document, document, group, panel, write

TILT = rotation((0.3, -0.2, 0.9), 0.7)


def hierarchical() -> Document:
    """Two panels below a shifted, turned arm below a turned root."""
    arm = group(
        "arm", [{"panel": 1}, {"panel": 0}], fast_axis=[0.6, 0.8, 0], slow_axis=[-0.8, 0.6, 0], origin=[5, 1, 2]
    )
    root = group("", [arm], fast_axis=[0, 1, 0], slow_axis=[-1, 0, 0], origin=[0, 0, -100])
    return document(
        detector=[{"panels": [panel("A", [0.0, 0.0, 0.0]), panel("B", [9.0, 0.5, 0.1])], "hierarchy": root}]
    )


def tilted(detector: DetectorConfig) -> DetectorConfig:
    """The detector moved as one rigid body."""

    def moved(vector: tuple[float, float, float], shift: float = 0.0) -> tuple[float, float, float]:
        x, y, z = TILT @ np.array(vector) + shift
        return float(x), float(y), float(z)

    panels = tuple(
        dataclasses.replace(p, fast_axis=moved(p.fast_axis), slow_axis=moved(p.slow_axis), origin=moved(p.origin, 0.25))
        for p in detector.panels
    )
    return dataclasses.replace(detector, panels=panels)


def crystal_of(experiments: ExperimentList, index: int = 0) -> CrystalConfig:
    crystal = experiments[index].crystal
    assert crystal is not None
    return crystal


def test_no_update_writes_the_document_as_it_was(tmp_path: Path) -> None:
    experiments = read_expt(write(tmp_path, hierarchical()))
    out = write_expt(tmp_path / "out.expt", experiments, ExptUpdates())
    assert json.loads(out.read_text()) == hierarchical()


def test_updating_with_the_models_that_were_read_leaves_detector_and_beam_as_they_were(tmp_path: Path) -> None:
    experiments = read_expt(write(tmp_path, hierarchical()))
    updates = ExptUpdates(detectors={0: experiments[0].detector}, beams={0: experiments[0].beam})
    out = write_expt(tmp_path / "out.expt", experiments, updates)
    assert json.loads(out.read_text()) == hierarchical()


def test_moved_panels_come_back_through_the_hierarchy(tmp_path: Path) -> None:
    experiments = read_expt(write(tmp_path, hierarchical()))
    moved = tilted(experiments[0].detector)
    again = read_expt(write_expt(tmp_path / "out.expt", experiments, ExptUpdates(detectors={0: moved})))
    for got, wanted in zip(again[0].detector.panels, moved.panels, strict=True):
        # 1e-12 mm: a solve with well-conditioned frames a few hundred mm across
        np.testing.assert_allclose(got.origin, wanted.origin, atol=1e-12)
        np.testing.assert_allclose(got.fast_axis, wanted.fast_axis, atol=1e-14)
        np.testing.assert_allclose(got.slow_axis, wanted.slow_axis, atol=1e-14)


def test_only_the_refined_keys_of_a_detector_change(tmp_path: Path) -> None:
    experiments = read_expt(write(tmp_path, hierarchical()))
    updates = ExptUpdates(detectors={0: tilted(experiments[0].detector)})
    written = json.loads(write_expt(tmp_path / "out.expt", experiments, updates).read_text())["detector"][0]
    before = hierarchical()["detector"][0]
    assert written["hierarchy"] == before["hierarchy"]
    for got, was in zip(written["panels"], before["panels"], strict=True):
        assert {key for key in got if got[key] != was[key]} == {"fast_axis", "slow_axis", "origin"}
        assert list(got) == list(was)


def test_a_refined_beam_comes_back(tmp_path: Path) -> None:
    experiments = read_expt(write(tmp_path, document()))
    x, y, z = TILT @ np.array([0.0, 0.0, -1.0])
    beam = dataclasses.replace(experiments[0].beam, direction=(x, y, z), wavelength=1.2)
    out = write_expt(tmp_path / "out.expt", experiments, ExptUpdates(beams={0: beam}))
    written = json.loads(out.read_text())["beam"][0]
    assert written["polarization_normal"] == [0.0, 1.0, 0.0]  # not refined: as the document says
    assert written["flux"] == 1e12
    np.testing.assert_allclose(read_expt(out)[0].beam.direction, (x, y, z), atol=1e-15)
    assert read_expt(out)[0].beam.wavelength == 1.2


def test_a_refined_polarization_is_written_as_normal_and_fraction(tmp_path: Path) -> None:
    experiments = read_expt(write(tmp_path, document()))
    beam: BeamConfig = dataclasses.replace(experiments[0].beam, polarization_axis=(-0.6, 0.8, 0.0), kahn_factor=0.5)
    out = write_expt(tmp_path / "out.expt", experiments, ExptUpdates(beams={0: beam}))
    again = read_expt(out)[0].beam
    np.testing.assert_allclose(again.polarization_axis, (-0.6, 0.8, 0.0), atol=1e-15)
    assert again.kahn_factor == 0.5
    assert json.loads(out.read_text())["beam"][0]["polarization_fraction"] == 0.75


def test_a_refined_crystal_comes_back_and_loses_its_stale_covariance(tmp_path: Path) -> None:
    experiments = read_expt(write(tmp_path, document()))
    crystal = dataclasses.replace(
        crystal_of(experiments), cell=(40.1, 40.2, 70.3, 90.0, 90.5, 90.0), misset=(0.1, -0.2, 0.3)
    )
    out = write_expt(tmp_path / "out.expt", experiments, ExptUpdates(crystals={0: crystal}))
    again = crystal_of(read_expt(out))
    np.testing.assert_allclose(again.cell, crystal.cell, rtol=1e-13)
    turn = rotation((0, 0, 1), 0.3) @ rotation((0, 1, 0), -0.2) @ rotation((1, 0, 0), 0.1)
    np.testing.assert_allclose(again.orientation, turn @ np.array(crystal.orientation), atol=1e-14)
    written = json.loads(out.read_text())["crystal"][0]
    assert "B_covariance" not in written
    assert written["space_group_hall_symbol"] == " P 4nw 2abw"


def test_scan_points_are_written_as_a_matrices_and_stale_ones_dropped(tmp_path: Path) -> None:
    stale = {**document()["crystal"][0], "A_at_scan_points": [np.diag([0.025, 0.025, 1 / 70]).ravel().tolist()] * 4}
    experiments = read_expt(write(tmp_path, document(crystal=[stale])))
    varying = crystal_of(experiments)
    assert len(varying.scan_points) == 4
    kept = read_expt(write_expt(tmp_path / "kept.expt", experiments, ExptUpdates(crystals={0: varying})))
    np.testing.assert_allclose(crystal_of(kept).scan_points, varying.scan_points, rtol=1e-14)
    constant = dataclasses.replace(varying, scan_points=())
    dropped = read_expt(write_expt(tmp_path / "dropped.expt", experiments, ExptUpdates(crystals={0: constant})))
    assert crystal_of(dropped).scan_points == ()


def test_writing_does_not_touch_what_was_read(tmp_path: Path) -> None:
    experiments = read_expt(write(tmp_path, hierarchical()))
    write_expt(tmp_path / "out.expt", experiments, ExptUpdates(detectors={0: tilted(experiments[0].detector)}))
    assert experiments.document == hierarchical()


def test_a_document_written_elsewhere_still_leads_to_its_frames(tmp_path: Path) -> None:
    (tmp_path / "t_0007.cbf").write_bytes(b"x")
    (tmp_path / "run").mkdir()
    experiments = read_expt(write(tmp_path, document()))
    out = write_expt(tmp_path / "run" / "refined.expt", experiments, ExptUpdates())
    assert json.loads(out.read_text())["imageset"][0]["template"] == str(tmp_path / "t_####.cbf")
    assert read_expt(out)[0].images[0] == tmp_path / "t_0007.cbf"
    named = read_expt(write(tmp_path, document(imageset=[{"images": ["a.cbf", "/data/b.cbf"]}])))
    out = write_expt(tmp_path / "run" / "named.expt", named, ExptUpdates())
    assert json.loads(out.read_text())["imageset"][0]["images"] == [str(tmp_path / "a.cbf"), "/data/b.cbf"]


def test_an_existing_file_is_not_overwritten_unasked(tmp_path: Path) -> None:
    path = write(tmp_path, document())
    experiments = read_expt(path)
    with pytest.raises(FileError, match="exists"):
        write_expt(path, experiments, ExptUpdates(beams={0: dataclasses.replace(experiments[0].beam, wavelength=2.0)}))
    assert read_expt(path)[0].beam.wavelength == 1.1
    changed = dataclasses.replace(experiments[0].beam, wavelength=2.0)
    write_expt(path, experiments, ExptUpdates(beams={0: changed}), overwrite=True)
    assert read_expt(path)[0].beam.wavelength == 2.0


def test_an_update_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    experiments = read_expt(write(tmp_path, document()))
    two = dataclasses.replace(experiments[0].detector, panels=experiments[0].detector.panels * 2)
    with pytest.raises(DataError, match="2 panels where the document has 1"):
        write_expt(tmp_path / "out.expt", experiments, ExptUpdates(detectors={0: two}))
    with pytest.raises(DataError, match=r"crystal 1.*holds 1"):
        write_expt(tmp_path / "out.expt", experiments, ExptUpdates(crystals={1: crystal_of(experiments)}))
    inexact = dataclasses.replace(crystal_of(experiments), construction="nanobragg")
    with pytest.raises(GeometryError, match="construction"):
        write_expt(tmp_path / "out.expt", experiments, ExptUpdates(crystals={0: inexact}))
    assert not (tmp_path / "out.expt").exists()


@pytest.mark.parametrize("name", ["401.expt", "701.expt"])
def test_the_published_hierarchy_of_64_panels_survives_a_move(tmp_path: Path, name: str) -> None:
    experiments = read_expt(shared("real", "thermolysin_cspad", name))
    moved = tilted(experiments[0].detector)
    again = read_expt(write_expt(tmp_path / "o.expt", experiments, ExptUpdates(detectors={0: moved})))
    for got, wanted in zip(again[0].detector.panels, moved.panels, strict=True):
        # The published axes are orthogonal to 1e-9 only; panels sit 100 mm from their group's origin.
        np.testing.assert_allclose(got.origin, wanted.origin, atol=1e-10)
        np.testing.assert_allclose(got.fast_axis, wanted.fast_axis, atol=1e-12)
