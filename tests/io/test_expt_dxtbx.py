"""dxtbx itself loads what is written here, sees the same geometry, and what it writes is read back the same."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbtorch.config import CrystalConfig
from nbtorch.io import ExperimentList, ExptUpdates, read_expt, write_expt
from nbtorch.io.expt.crystal import real_space_rows
from nbtorch.io.expt.goniometer import rotation
from tests.helpers.data import shared
from tests.helpers.dxtbx import system_python
from tests.io.documents import document, group, panel, write

# One start of dxtbx takes seconds: it loads, describes and saves every file given in one go.
SCRIPT = """
import json, sys
from dxtbx.model.experiment_list import ExperimentListFactory

def describe(e):
    stand = e.goniometer
    return {
        "panels": [
            [p.get_fast_axis(), p.get_slow_axis(), p.get_origin(), p.get_mu(), p.get_thickness()] for p in e.detector
        ],
        "travel": [-x for x in e.beam.get_sample_to_source_direction()],
        "wavelength": e.beam.get_wavelength(),
        "cell": e.crystal.get_unit_cell().parameters(),
        "rows": [list(v) for v in e.crystal.get_real_space_vectors()],
        "points": [e.crystal.get_A_at_scan_point(i) for i in range(e.crystal.num_scan_points)],
        "fixed": stand and stand.get_fixed_rotation(),
        "setting": stand and stand.get_setting_rotation(),
        "axis": stand and stand.get_rotation_axis_datum(),
        "scan": e.scan and [e.scan.get_oscillation(), e.scan.get_num_images()],
    }

out = []
for path in sys.argv[1:]:
    found = ExperimentListFactory.from_json_file(path, check_format=False)
    found.as_json(path + ".again")
    out.append([describe(e) for e in found])
print(json.dumps(out))
"""


def crystal_of(experiments: ExperimentList) -> CrystalConfig:
    crystal = experiments[0].crystal
    assert crystal is not None
    return crystal


def ask_dxtbx(paths: Sequence[Path]) -> list[list[dict[str, Any]]]:
    answer: list[list[dict[str, Any]]] = json.loads(system_python()(SCRIPT, *map(str, paths)))
    return answer


def assert_same(experiments: ExperimentList, seen: list[dict[str, Any]]) -> None:
    """Our reading of a document is dxtbx's. The tolerances are those of a few products of 3 × 3 matrices."""
    assert len(experiments) == len(seen)
    for entry, theirs in zip(experiments.entries, seen, strict=True):
        for ours, (fast, slow, origin, mu, thickness) in zip(entry.detector.panels, theirs["panels"], strict=True):
            np.testing.assert_allclose(ours.fast_axis, fast, atol=1e-12)
            np.testing.assert_allclose(ours.slow_axis, slow, atol=1e-12)
            np.testing.assert_allclose(ours.origin, origin, atol=1e-10)
            if ours.thickness:
                assert (1 / ours.attenuation_length, ours.thickness) == pytest.approx((mu, thickness), rel=1e-14)
        np.testing.assert_allclose(entry.beam.direction, theirs["travel"], atol=1e-14)
        assert entry.beam.wavelength == theirs["wavelength"]
        assert entry.crystal is not None
        np.testing.assert_allclose(entry.crystal.cell, theirs["cell"], rtol=1e-12)
        np.testing.assert_allclose(real_space_rows(entry.crystal), theirs["rows"], atol=1e-11)
        points = [np.linalg.inv(np.reshape(point, (3, 3))) for point in theirs["points"]]
        np.testing.assert_allclose(
            np.reshape(entry.crystal.scan_points, (-1, 3, 3)), np.reshape(points, (-1, 3, 3)), atol=1e-11
        )
        if theirs["fixed"] is not None:
            stand = entry.crystal.goniometer
            np.testing.assert_allclose(np.ravel(stand.fixed_rotation), theirs["fixed"], atol=1e-14)
            np.testing.assert_allclose(np.ravel(stand.setting_rotation), theirs["setting"], atol=1e-14)
            # dxtbx keeps the header's digits and normalizes where it rotates
            np.testing.assert_allclose(stand.axis, theirs["axis"] / np.linalg.norm(theirs["axis"]), atol=1e-14)
        if theirs["scan"] is not None:
            assert entry.scan is not None
            (start, width), images = theirs["scan"]
            assert (entry.scan.phi_start, entry.scan.oscillation) == pytest.approx((start, width), abs=1e-12)
            assert entry.scan.n_frames == images


def refined(experiments: ExperimentList) -> ExptUpdates:
    """The detector moved as a rigid body, the crystal turned, the beam tilted."""
    tilt = rotation((0.3, -0.2, 0.9), 0.7)

    def moved(vector: tuple[float, float, float], shift: float = 0.0) -> tuple[float, float, float]:
        x, y, z = (float(value) for value in tilt @ np.array(vector) + shift)
        return x, y, z

    entry = experiments[0]
    panels = tuple(
        dataclasses.replace(p, fast_axis=moved(p.fast_axis), slow_axis=moved(p.slow_axis), origin=moved(p.origin, 0.25))
        for p in entry.detector.panels
    )
    return ExptUpdates(
        detectors={0: dataclasses.replace(entry.detector, panels=panels)},
        beams={0: dataclasses.replace(entry.beam, direction=moved(entry.beam.direction))},
        crystals={0: dataclasses.replace(crystal_of(experiments), misset=(0.1, 0.2, -0.3))},
    )


def check(paths: Sequence[Path]) -> None:
    """dxtbx reads each document as we do, and we read what dxtbx saves of it the same way."""
    for path, seen in zip(paths, ask_dxtbx(paths), strict=True):
        assert_same(read_expt(path), seen)
        assert_same(read_expt(path.with_name(path.name + ".again")), seen)


def test_dxtbx_agrees_on_a_five_axis_goniometer_a_deep_hierarchy_and_a_varying_scan(tmp_path: Path) -> None:
    axes = [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 2.0], [0.6, 0.8, 0], [0, 0.6, 0.8]]
    stand = {"axes": axes, "angles": [10.0, 20, 30, 40, 50], "names": list("abcde"), "scan_axis": 2}
    arm = group(
        "arm", [{"panel": 1}, {"panel": 0}], fast_axis=[0.6, 0.8, 0], slow_axis=[-0.8, 0.6, 0], origin=[5, 1, 2]
    )
    root = group("", [arm], fast_axis=[0, 1, 0], slow_axis=[-1, 0, 0], origin=[0, 0, -100])
    detector = {"panels": [panel("A", [0.0, 0.0, 0.0]), panel("B", [9.0, 0.5, 0.1])], "hierarchy": root}
    scan = {"image_range": [7, 9], "batch_offset": 0, "oscillation": [10.0, 0.5], "exposure_time": [1.0] * 3}
    scan |= {"epochs": [0.0, 1.0, 2.0]}
    points = [np.diag([0.025, 0.025 + i * 1e-4, 1 / 70]).ravel().tolist() for i in range(4)]
    crystal = {k: v for k, v in document()["crystal"][0].items() if k != "B_covariance"} | {"A_at_scan_points": points}
    content = document(goniometer=[stand], detector=[detector], scan=[scan], crystal=[crystal], profile=[])
    content["experiment"][0] |= {"imageset": 0}
    path = write(tmp_path, content)
    experiments = read_expt(path)
    out = write_expt(tmp_path / "refined.expt", experiments, refined(experiments))
    check([path, out])


def test_dxtbx_agrees_on_real_documents_before_and_after_refinement(tmp_path: Path) -> None:
    real = ("l_cysteine/sweep4/start", "l_cysteine/sweep2/reference", "in16c/indexed", "thermolysin_cspad/401")
    paths = []
    for number, name in enumerate(real):
        experiments = read_expt(shared("real", f"{name}.expt"))
        paths += [
            write_expt(tmp_path / f"{number}_as_it_was.expt", experiments, ExptUpdates()),
            write_expt(tmp_path / f"{number}_refined.expt", experiments, refined(experiments)),
        ]
    check(paths)
