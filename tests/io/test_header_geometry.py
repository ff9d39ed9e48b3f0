"""Headers of CBF and SMV: what dxtbx reads of the same file, and where each number came from."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbtorch.config import PanelConfig
from nbtorch.errors import ConfigError, FileError
from nbtorch.io import write_cbf, write_smv
from nbtorch.io.geometry import HeaderGeometry, geometry_of, header_geometry
from tests.helpers.data import shared
from tests.helpers.dxtbx import system_python

SCRIPT = """
import json, sys
from dxtbx.model.experiment_list import ExperimentListFactory

def describe(path):
    e = ExperimentListFactory.from_filenames([path])[0]
    stand, scan = e.goniometer, e.scan
    panels = [
        {
            "corners": [
                p.get_lab_coord((x * p.get_image_size_mm()[0], y * p.get_image_size_mm()[1]))
                for x, y in ((0, 0), (1, 0), (0, 1), (1, 1), (0.5, 0.5))
            ],
            "trusted": p.get_trusted_range(), "mask": sorted(p.get_mask()), "gain": p.get_gain(),
            "pedestal": p.get_pedestal(),
        }
        for p in e.detector
    ]
    return {
        "panels": panels, "s0": e.beam.get_s0(), "fraction": e.beam.get_polarization_fraction(),
        "stand": stand and [stand.get_rotation_axis(), stand.get_fixed_rotation(), stand.get_setting_rotation()],
        "scan": scan and scan.get_oscillation(),
    }

print(json.dumps({path: describe(path) for path in sys.argv[1:]}))
"""
REAL = (
    "ximg2701/ximg2701_00001.cbf",  # imgCIF: 2θ of 20°, a kappa goniometer
    "in16c/in16c_010001.cbf",  # miniCBF alone
    "l_cysteine/sweep2/l-cyst_02_00001.cbf.gz",  # imgCIF: ω turns, κ and φ stand
    "l_cysteine/sweep4/l-cyst_04_00010.cbf.gz",  # imgCIF: φ turns
    "thermolysin_cspad/idx-20130301060858401.cbf",  # imgCIF: 64 panels, a chain of six axes, a still
)
ADSC = {
    "PIXEL_SIZE": "0.1024", "DISTANCE": "150.5", "WAVELENGTH": "0.9795", "BEAM_CENTER_X": "3.1", "BEAM_CENTER_Y": "2.2",
    "OSC_START": "12", "OSC_RANGE": "-0.5", "TIME": "1", "DATE": "Mon Jan 01 00:00:00 2001", "GAIN": "2.5",
    "IMAGE_PEDESTAL": "40", "TWOTHETA": "0",
}  # fmt: skip
MINI = {
    "Detector:": "PILATUS 100K, S/N 1", "2011-07-21T11:59:03.203": "", "Pixel_size": "172e-6 m x 172e-6 m",
    "Silicon": "sensor, thickness 0.000450 m", "Exposure_period": "1.0 s", "Count_cutoff": "126000 counts",
    "Wavelength": "1.0332 A", "Detector_distance": "0.2125 m", "Beam_xy": "(240.50, 97.25) pixels",
    "Start_angle": "-3.5 deg.", "Angle_increment": "0.25 deg.",
}  # fmt: skip


def mini(path: Path, **changed: str | None) -> Path:
    """A miniCBF whose header has the lines of MINI with some ``changed`` (None: left out)."""
    lines = {key: value for key, value in (MINI | changed).items() if value is not None}
    return write_cbf(path, np.zeros((195, 487), dtype=np.int32), lines)


def adsc(path: Path, **changed: str) -> Path:
    """An SMV image with the header of ADSC."""
    return write_smv(path, np.zeros((50, 60), dtype=np.uint16), ADSC | changed)


def timepix(path: Path, size: int) -> Path:
    """An image of the Timepix whose beam centre is in pixels."""
    header = {key: value for key, value in ADSC.items() if key not in ("GAIN", "IMAGE_PEDESTAL")}
    header |= {"BEAMLINE": "TimePix_SU", "PIXEL_SIZE": "0.055", "BEAM_CENTER_X": "250.5", "BEAM_CENTER_Y": "261.25"}
    header |= {"PHI": "12", "OSC_RANGE": "0.5", "WAVELENGTH": "0.0251", "DETECTOR_SN": "1"}
    return write_smv(path, np.zeros((size, size), dtype=np.uint16), header)


@cache
def judged(paths: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(system_python()(SCRIPT, *paths))
    return found


def corners(panel: PanelConfig) -> np.ndarray:
    width, height = (n * size for n, size in zip(panel.size, panel.pixel_size, strict=True))
    places = np.array([(0, 0), (1, 0), (0, 1), (1, 1), (0.5, 0.5)]) * (width, height)
    return np.asarray(panel.origin) + places @ np.stack([panel.fast_axis, panel.slow_axis])


def compare(found: HeaderGeometry, judge: dict[str, Any]) -> None:
    """Everything that dxtbx says of a file, and we."""
    panels = found.detector.panels
    assert len(panels) == len(judge["panels"])
    for panel, theirs in zip(panels, judge["panels"], strict=True):
        np.testing.assert_allclose(corners(panel), theirs["corners"], atol=1e-6, rtol=0)  # worst seen 3e-11 mm
        assert panel.trusted_range == tuple(theirs["trusted"])
        assert sorted(map(list, panel.mask)) == theirs["mask"]
        assert (panel.gain, panel.pedestal) == (theirs["gain"], theirs["pedestal"])
    s0 = np.asarray(found.beam.direction) / found.beam.wavelength
    np.testing.assert_allclose(s0, judge["s0"], atol=1e-9)
    assert found.beam.kahn_factor == pytest.approx(2 * judge["fraction"] - 1)
    if found.scan is None or found.goniometer is None:
        assert judge["scan"] is None
        assert judge["stand"] is None
        return
    assert (found.scan.phi_start, found.scan.oscillation) == pytest.approx(tuple(judge["scan"]))
    axis, fixed, setting = judge["stand"]
    turned = np.asarray(found.goniometer.setting_rotation) @ found.goniometer.axis
    np.testing.assert_allclose(turned, np.asarray(axis) / np.linalg.norm(axis), atol=1e-9)
    np.testing.assert_allclose(np.ravel(found.goniometer.fixed_rotation), fixed, atol=1e-9)
    np.testing.assert_allclose(np.ravel(found.goniometer.setting_rotation), setting, atol=1e-9)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every file that is compared, made here or real."""
    folder = tmp_path_factory.mktemp("headers")
    made = {
        "mini": mini(folder / "mini_0003.cbf"),
        "cdte": mini(folder / "cdte_0001.cbf", Silicon=None, CdTe="sensor, thickness 0.001000 m"),
        "adsc": adsc(folder / "adsc_001.img"),
        "forward": adsc(folder / "forward_001.img", OSC_RANGE="0.5"),
        "timepix": timepix(folder / "timepix_001.img", 516),
    }
    return made | {name: shared("real", *name.split("/")) for name in REAL}


@pytest.mark.parametrize("name", ["mini", "cdte", "adsc", "forward", "timepix", *REAL])
def test_the_geometry_of_a_header_is_that_of_dxtbx(name: str, files: dict[str, Path]) -> None:
    judge = judged(tuple(map(str, files.values())))
    compare(header_geometry(files[name]), judge[str(files[name])])


def test_every_number_says_where_it_came_from(tmp_path: Path) -> None:
    said = {item.name: item for item in header_geometry(mini(tmp_path / "a_1.cbf")).stated}
    assert str(said["distance"]) == "distance 212.5 mm: # Detector_distance"
    assert str(said["beam_centre"]) == "beam_centre 240.5 97.25 px: # Beam_xy"
    assert str(said["fast_axis"]) == "fast_axis 1 0 0: assumed, along +x"
    beam = {item.name: item for item in header_geometry(adsc(tmp_path / "b_1.img")).stated}["beam_centre"]
    assert beam.assumed
    assert "DENZO" in beam.origin  # X counts along the slow axis, from the outer edge: a row of our conventions


@pytest.mark.parametrize(
    ("left_out", "option"),
    [("Wavelength", "wavelength="), ("Detector_distance", "distance="), ("Beam_xy", "beam_centre=")],
)
def test_what_nobody_says_is_refused_with_the_option_to_give(tmp_path: Path, left_out: str, option: str) -> None:
    with pytest.raises(FileError, match=f"geometry.{option}"):
        header_geometry(mini(tmp_path / "a_1.cbf", **{left_out: None}))


def test_a_swung_detector_needs_its_axis(tmp_path: Path) -> None:
    path = mini(tmp_path / "a_1.cbf", Detector_2theta="30.0 deg.")
    with pytest.raises(FileError, match=r"geometry\.two_theta_axis"):
        header_geometry(path)
    panel = header_geometry(path, {"two_theta_axis": (0, 1, 0)}).detector.panels[0]
    # at 30° about +y the normal points to −x, and stays 212.5 mm from the sample
    normal = np.cross(panel.fast_axis, panel.slow_axis)
    assert normal == pytest.approx((-0.5, 0, -math.cos(math.radians(30))))
    assert normal @ panel.origin == pytest.approx(212.5)


STATED: dict[str, Any] = {
    "wavelength": 0.8, "distance": 99.5, "beam_centre": (10.5, 20.25), "pixel_size": 0.1, "oscillation": (5.0, 0.5),
    "spindle": (0.0, 1.0, 0.0), "thickness": 1.0, "material": "CdTe", "saturation": 1000.0, "underload": 0.0,
    "gain": 3.0, "pedestal": 2.0, "polarization": 0.5,
}  # fmt: skip


@pytest.mark.parametrize("name", ["mini", "ximg2701/ximg2701_00001.cbf"])
def test_every_value_can_be_stated_instead(name: str, files: dict[str, Path]) -> None:
    """For a header of a few numbers, and for one of axes."""
    before, found = header_geometry(files[name]), header_geometry(files[name], STATED)
    panel = found.detector.panels[0]
    normal = np.cross(panel.fast_axis, panel.slow_axis)
    assert abs(normal @ panel.origin) == pytest.approx(99.5)
    beam = np.asarray(found.beam.direction)
    hit = beam * (normal @ panel.origin) / (normal @ beam) - panel.origin
    place = (hit @ panel.fast_axis / panel.pixel_size[0], hit @ panel.slow_axis / panel.pixel_size[1])
    assert place == pytest.approx((10.5, 20.25))
    assert (found.beam.wavelength, panel.pixel_size, panel.trusted_range) == (0.8, (0.1, 0.1), (0.0, 1000.0))
    assert (panel.gain, panel.pedestal, panel.thickness, panel.material) == (3.0, 2.0, 1.0, "CdTe")
    assert panel.attenuation_length != before.detector.panels[0].attenuation_length
    assert found.goniometer is not None
    assert found.scan is not None
    assert found.goniometer.axis == (0.0, 1.0, 0.0)
    assert (found.scan.phi_start, found.scan.oscillation) == (5.0, 0.5)
    assert found.beam.kahn_factor == 0.0
    assert {item.name for item in found.stated if item.origin.startswith("geometry.")} == set(STATED)


def test_the_uneven_pixels_of_a_timepix_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="three times as wide"):
        header_geometry(timepix(tmp_path / "a_1.img", 512))


def test_a_name_that_is_no_quantity_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Use one of: wavelength, distance"):
        header_geometry(mini(tmp_path / "a_1.cbf"), {"beam_center": (1, 2)})
    with pytest.raises(ConfigError, match="it should be 2 numbers"):
        header_geometry(mini(tmp_path / "b_1.cbf"), {"beam_centre": 3.0})


def test_frames_that_follow_one_another_are_one_scan(tmp_path: Path) -> None:
    paths = [mini(tmp_path / f"a_{n:03d}.cbf", Start_angle=f"{n * 0.25:.4f} deg.") for n in (1, 2, 3, 5, 6)]
    entries = geometry_of(paths).experiments.entries
    assert [(e.scan and e.scan.phi_start, e.scan and e.scan.n_frames, len(e.images)) for e in entries] == [
        (0.25, 3, 3),
        (1.25, 2, 2),
    ]
    assert [e.scan.first_image for e in entries if e.scan] == [1, 5]
    # a gap parts the rotation; its detector, beam and goniometer stay one
    assert [(e.detector_index, e.beam_index, e.goniometer_index) for e in entries] == [(0, 0, 0), (0, 0, 0)]
    assert all(e.crystal is None for e in entries)
    assert entries[0].images[0].name == "a_001.cbf"


def test_the_angles_of_a_series_follow_from_those_of_its_first_frame(tmp_path: Path) -> None:
    paths = [mini(tmp_path / f"a_{n:03d}.cbf", Start_angle=None) for n in (4, 5, 6)]
    assert all(entry.scan is None for entry in geometry_of(paths).experiments.entries)
    entries = geometry_of(paths, {"oscillation": (10.0, 0.5)}).experiments.entries
    assert [(e.scan and (e.scan.phi_start, e.scan.oscillation, e.scan.n_frames)) for e in entries] == [(10.0, 0.5, 3)]


def test_frames_of_no_width_are_stills(tmp_path: Path) -> None:
    paths = [mini(tmp_path / f"a_{n}.cbf", Angle_increment="0.0 deg.") for n in (1, 2)]
    entries = geometry_of(paths).experiments.entries
    assert [(e.scan, e.goniometer_index, e.is_still) for e in entries] == [(None, None, True)] * 2


def test_the_experiments_are_written_and_read_by_dxtbx(tmp_path: Path) -> None:
    """The document is one that dxtbx takes: what refined.expt is made from."""
    paths = [mini(tmp_path / f"a_{n:03d}.cbf", Start_angle=f"{n * 0.25:.4f} deg.") for n in (1, 2)]
    found = geometry_of(paths).experiments
    (tmp_path / "made.expt").write_text(json.dumps(dict(found.document)))
    script = """
import json, sys
from dxtbx.model.experiment_list import ExperimentListFactory
e = ExperimentListFactory.from_json_file(sys.argv[1], check_format=False)[0]
p = e.detector[0]
print(json.dumps([p.get_origin(), p.get_mu(), p.get_trusted_range(), e.scan.get_oscillation(), e.imageset.paths()]))
"""
    origin, mu, trusted, oscillation, images = json.loads(system_python()(script, str(tmp_path / "made.expt")))
    panel = found[0].detector.panels[0]
    assert tuple(origin) == pytest.approx(panel.origin, abs=1e-12)
    assert mu == pytest.approx(1 / panel.attenuation_length)
    assert (tuple(trusted), oscillation) == ((-1.0, 126000.0), [0.25, 0.25])
    assert images == [str(path) for path in paths]
