"""The geometry of NXmx headers: what dxtbx reads of the same file, and where each number came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from nbtorch.errors import FileError
from nbtorch.io import FrameRef, read_frame
from nbtorch.io.expt.goniometer import rotation
from nbtorch.io.geometry import HeaderGeometry, header_geometry
from nbtorch.io.geometry.sensor import attenuation_length
from tests.helpers.data import shared
from tests.helpers.dxtbx import system_python

SHAPE = (4, 30, 20)  # images, slow, fast
SCRIPT = """
import json, sys
from dxtbx.format.FormatNXmx import FormatNXmx
imageset = FormatNXmx.get_imageset([sys.argv[1]])
panel, beam = imageset.get_detector()[0], imageset.get_beam()
stand, scan = imageset.get_goniometer(), imageset.get_scan()
print(json.dumps({
    "corners": [  # in mm on the panel: get_pixel_lab_coord would move them by the parallax
        panel.get_lab_coord([a * b for a, b in zip(c, panel.get_pixel_size())])
        for c in ((0, 0), (20, 0), (0, 30), (20, 30), (10, 15))
    ],
    "s0": beam.get_s0(), "trusted": panel.get_trusted_range(), "normal": beam.get_polarization_normal(),
    "axis": stand.get_rotation_axis_datum(), "fixed": stand.get_fixed_rotation(),
    "setting": stand.get_setting_rotation(),
    "angles": [scan.get_angle_from_array_index(i) for i in range(scan.get_num_images())],
    "masked": imageset.get_mask(0)[0].count(False), "pixels": list(imageset.get_raw_data(0)[0]),
}))
"""


def put(file: h5py.File, name: str, value: Any, kind: str = "", **attributes: Any) -> None:
    file[name] = value
    if kind:
        attributes["transformation_type"] = kind
    for key, attribute in attributes.items():
        file[name].attrs[key] = attribute


def group(file: h5py.File, name: str, kind: str) -> None:
    file.require_group(name).attrs["NX_class"] = kind


def nxmx(path: Path, sign: float = 1.0) -> Path:
    """A swung-out detector behind a chain of four axes with offsets, and a kappa-like goniometer of three axes."""
    instrument, sample = "/entry/instrument", "/entry/sample"
    detector = f"{instrument}/detector"
    module, moves, turns = f"{detector}/module", f"{detector}/transformations", f"{sample}/transformations"
    with h5py.File(path, "w") as file:
        for name, kind in {
            "/entry": "NXentry", "/entry/data": "NXdata", instrument: "NXinstrument", sample: "NXsample",
            f"{instrument}/beam": "NXbeam", f"{sample}/beam": "NXbeam", detector: "NXdetector",
            module: "NXdetector_module", moves: "NXtransformations", turns: "NXtransformations",
            "/entry/source": "NXsource",
        }.items():  # fmt: skip
            group(file, name, kind)
        file["/entry/definition"] = "NXmx"
        file["/entry/source/name"] = "made"
        file["/entry/data/data"] = np.arange(np.prod(SHAPE), dtype=np.int32).reshape(SHAPE)
        file["/entry/data"].attrs["signal"] = "data"
        for beam in (f"{instrument}/beam", f"{sample}/beam"):
            put(file, f"{beam}/incident_wavelength", 0.11, units="nm")
        put(file, f"{moves}/two_theta", 17.0, "rotation", vector=[-1.0, 0, 0], depends_on=".", units="deg")
        put(
            file, f"{moves}/det_z", [sign * 0.12], "translation", vector=[0, 0, sign],
            depends_on=f"{moves}/two_theta", units="m", offset=[0.5, -0.25, 1.0], offset_units="mm",
        )  # fmt: skip
        put(
            file, f"{moves}/tilt", np.deg2rad(1.5), "rotation", vector=[0, 0.6, 0.8], depends_on=f"{moves}/det_z",
            units="rad", offset=[0.1, 0.2, 0.3], offset_units="mm",
        )  # fmt: skip
        put(
            file, f"{module}/module_offset", 0.0, "translation", vector=[1.0, 0, 0], depends_on=f"{moves}/tilt",
            units="mm", offset=[1.0, 1.7, 0.0], offset_units="mm",
        )  # fmt: skip
        for name, vector, size in (("fast", [-1.0, 0, 0], 0.1), ("slow", [0, -1.0, 0], 0.12)):
            put(
                file, f"{module}/{name}_pixel_direction", size, "translation", vector=vector,
                depends_on=f"{module}/module_offset", units="mm", offset=[0.0, 0, 0],
            )  # fmt: skip
        file[f"{module}/data_origin"], file[f"{module}/data_size"] = [0, 0], [30, 20]
        file[f"{detector}/depends_on"] = f"{moves}/tilt"
        file[f"{detector}/saturation_value"] = 60000
        mask = np.zeros(SHAPE[1:], np.uint32)
        mask[3:5, 7], mask[9, 1] = 1, 256
        file[f"{detector}/pixel_mask"] = mask
        put(file, f"{detector}/sensor_thickness", 0.32, units="mm")
        file[f"{detector}/sensor_material"] = "Si"
        file[f"{detector}/count_time"] = 0.1
        for name, vector, value, base in (
            ("omega", [-1.0, 0, 0], [10.0, 10.5, 11.0, 11.5], "."),
            ("kappa", [-0.6, 0.8, 0.0], [30.0], f"{turns}/omega"),
            ("phi", [-1.0, 0.0, 0.0], [-50.0], f"{turns}/kappa"),
        ):
            put(file, f"{turns}/{name}", value, "rotation", vector=vector, depends_on=base, units="deg")
        file[f"{sample}/depends_on"] = f"{turns}/phi"
    return path


def corners(geometry: HeaderGeometry) -> np.ndarray:
    panel = geometry.detector.panels[0]
    axes = np.array([panel.fast_axis, panel.slow_axis])
    at = np.array([(0, 0), (20, 0), (0, 30), (20, 30), (10, 15)]) * panel.pixel_size
    return np.asarray(panel.origin) + at @ axes


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_dxtbx_sees_the_same_geometry_mask_and_pixels(tmp_path: Path, sign: float) -> None:
    path = nxmx(tmp_path / "run.nxs", sign)
    geometry = header_geometry(path)
    theirs = json.loads(system_python()(SCRIPT, str(path)))
    np.testing.assert_allclose(corners(geometry), theirs["corners"], atol=1e-6)
    s0 = np.asarray(geometry.beam.direction) / geometry.beam.wavelength
    np.testing.assert_allclose(s0, theirs["s0"], atol=1e-12)
    assert geometry.goniometer is not None
    np.testing.assert_allclose(geometry.goniometer.axis, theirs["axis"], atol=1e-12)
    np.testing.assert_allclose(np.ravel(geometry.goniometer.fixed_rotation), theirs["fixed"], atol=1e-12)
    np.testing.assert_allclose(np.ravel(geometry.goniometer.setting_rotation), theirs["setting"], atol=1e-12)
    assert geometry.scan is not None
    np.testing.assert_allclose(
        [geometry.scan.exposure(frame).phi_start for frame in range(4)], theirs["angles"], atol=1e-9
    )
    assert geometry.detector.panels[0].trusted_range[1] == theirs["trusted"][1]
    assert geometry.masks is not None
    assert int((~geometry.masks[0]).sum()) == theirs["masked"] == 3
    np.testing.assert_array_equal(np.ravel(read_frame(FrameRef(path, 0)).counts), theirs["pixels"])
    electric = np.cross(theirs["normal"], geometry.beam.direction)
    np.testing.assert_allclose(geometry.beam.polarization_axis, electric, atol=1e-12)


def test_the_chain_is_the_product_of_its_axes(tmp_path: Path) -> None:
    """The same corner by hand: McStas numbers turned and shifted one after the other, then x and z turned round."""
    point = np.array([1.0, 1.7, 0.0])
    point = rotation((0.0, 0.6, 0.8), 1.5) @ point + np.array([0.1, 0.2, 0.3])
    point = rotation((-1.0, 0.0, 0.0), 17.0) @ (point + np.array([0.5, -0.25, 121.0]))
    geometry = header_geometry(nxmx(tmp_path / "run.nxs"))
    np.testing.assert_allclose(geometry.detector.panels[0].origin, point * [-1, 1, -1], atol=1e-12)


def test_every_number_says_which_field_it_came_from(tmp_path: Path) -> None:
    stated = {item.name: item for item in header_geometry(nxmx(tmp_path / "run.nxs")).stated}
    assert stated["wavelength"].origin == "/entry/instrument/beam/incident_wavelength"
    assert "transformations/two_theta" in stated["module.origin"].origin
    assert stated["saturation"].origin.endswith("saturation_value")
    assert stated["polarization"].assumed
    assert not stated["spindle"].assumed


def test_a_beam_centre_that_contradicts_the_transformations_is_named(tmp_path: Path) -> None:
    path = nxmx(tmp_path / "run.nxs")
    with h5py.File(path, "a") as file:
        for axis in "xy":
            file[f"/entry/instrument/detector/beam_center_{axis}"] = 500.0
    assert any("the transformations are used" in note for note in header_geometry(path).notes)


def test_energies_of_shots_become_wavelengths_of_frames_and_no_moving_axis_is_a_still(tmp_path: Path) -> None:
    path = nxmx(tmp_path / "run.nxs")
    with h5py.File(path, "a") as file:
        for name in ("instrument/beam", "sample/beam"):
            del file[f"/entry/{name}/incident_wavelength"]
        put(file, "/entry/instrument/beam/incident_energy", [9.0, 9.1, 9.2, 9.3], units="keV")
        del file["/entry/sample/depends_on"]
        file["/entry/sample/depends_on"] = "."
    geometry = header_geometry(path)
    np.testing.assert_allclose(geometry.wavelengths, 12.39841984 / np.array([9.0, 9.1, 9.2, 9.3]), rtol=1e-9)
    assert geometry.scan is None
    assert geometry.goniometer is None


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        ("unit", "units 'furlong'.*no known unit of a length"),
        ("circle", "depends_on chain has no end"),
        ("module", "does not say: distance.*geometry.distance=MM"),
        ("steps", "its steps are unequal"),
        ("nan", "finite numbers"),
    ],
)
def test_a_header_that_cannot_be_meant_is_refused_naming_the_field(tmp_path: Path, edit: str, why: str) -> None:
    path = nxmx(tmp_path / "run.nxs")
    with h5py.File(path, "a") as file:
        moves, omega = file["/entry/instrument/detector/transformations"], file["/entry/sample/transformations/omega"]
        if edit == "unit":
            moves["det_z"].attrs["units"] = "furlong"
        elif edit == "circle":
            moves["two_theta"].attrs["depends_on"] = "tilt"
        elif edit == "module":
            file["/entry/instrument/detector/module"].attrs["NX_class"] = "NXnote"
        elif edit == "steps":
            omega[2] = 11.1
        else:
            omega[2] = np.nan
    with pytest.raises(FileError, match=why):
        header_geometry(path)


@pytest.mark.parametrize("name", ["nxmx/Therm_6_2.nxs", "nxmx/FJ_P5P1_1_master.h5"])
def test_masters_of_beamlines_have_the_geometry_that_is_expected(name: str) -> None:
    geometry = header_geometry(shared("formats", *name.split("/")))
    expected = json.loads(shared("formats", "expected.json").read_text())[name]["expected"]
    panel = geometry.detector.panels[0]
    np.testing.assert_allclose(panel.origin, expected["origin"], atol=1e-9)
    np.testing.assert_allclose(panel.fast_axis, expected["fast"], atol=1e-12)
    np.testing.assert_allclose(panel.slow_axis, expected["slow"], atol=1e-12)
    assert (list(panel.size), list(panel.pixel_size)) == (expected["size"], pytest.approx(expected["pixel"], rel=1e-12))
    assert geometry.beam.wavelength == pytest.approx(expected["wavelength"], rel=1e-14)
    assert geometry.n_frames == expected["n_images"]
    assert geometry.scan is not None
    assert geometry.goniometer is not None
    assert (geometry.scan.phi_start, geometry.scan.oscillation) == pytest.approx(expected["oscillation"], abs=1e-9)
    np.testing.assert_allclose(geometry.goniometer.axis, expected["rotation_axis"], atol=1e-12)
    if "FJ" in name:
        assert any("FJ_P5P1_1_meta.h5, which is missing" in note for note in geometry.notes)
    else:
        assert list(panel.trusted_range) == expected["trusted"]


def test_silicon_absorbs_a_little_less_than_it_attenuates() -> None:
    # total attenuation of NIST as cctbx tabulates it, cm²/g: scattering is a part of it that grows with the energy
    for kev, total in ((5.0, 245.0), (10.0, 33.89), (20.0, 4.464)):
        ratio = 10.0 / attenuation_length("Silicon", 12.398419843 / kev) / 2.329 / total
        assert 0.88 < ratio < 1.0
    assert attenuation_length("paper", 1.0) == float("inf")
