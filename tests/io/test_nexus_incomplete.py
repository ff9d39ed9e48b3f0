"""HDF5 masters that lack what NXmx asks for: one image of a rotation, no transformations, no geometry at all."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from nbtorch.errors import FileError
from nbtorch.io.geometry import geometry_of, header_geometry, mask_in_file
from tests.helpers.data import shared
from tests.io.test_nexus_geometry import group, nxmx, put


def plain(path: Path, count: int = 3, sign: float = 1.0) -> Path:
    """A master as early Eigers write it: fields of the detector, angles of the goniometer, no transformation."""
    detector = "/entry/instrument/detector"
    with h5py.File(path, "w") as file:
        for name, kind in {
            "/entry": "NXentry", "/entry/data": "NXdata", "/entry/instrument": "NXinstrument", detector: "NXdetector",
            "/entry/instrument/beam": "NXbeam", "/entry/sample": "NXsample", f"{detector}/detectorSpecific": "NXnote",
        }.items():  # fmt: skip
            group(file, name, kind)
        file["/entry/data/data_000001"] = np.ones((count, 30, 20), dtype=np.uint16)
        put(file, "/entry/instrument/beam/incident_wavelength", 1.5, units="angstrom")
        put(file, f"{detector}/detector_distance", sign * 0.125, units="m")
        put(file, f"{detector}/x_pixel_size", 75e-6, units="m")
        put(file, f"{detector}/y_pixel_size", 75e-6, units="m")
        put(file, f"{detector}/sensor_thickness", 450e-6, units="m")
        file[f"{detector}/sensor_material"] = "Si"
        file[f"{detector}/beam_center_x"], file[f"{detector}/beam_center_y"] = 10.25, 14.5
        file[f"{detector}/detectorSpecific/countrate_correction_count_cutoff"] = 9000
        mask = np.zeros((30, 20), np.uint32)
        mask[4] = 1
        file[f"{detector}/detectorSpecific/pixel_mask"] = mask
        put(file, "/entry/sample/goniometer/omega", 20.0 + 0.1 * np.arange(count), units="deg")
        put(file, "/entry/sample/goniometer/omega_end", 20.1 + 0.1 * np.arange(count), units="deg")
        put(file, "/entry/sample/goniometer/omega_range_average", 0.1, units="deg")
        put(file, "/entry/sample/goniometer/phi", np.zeros(count), units="deg")
    return path


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("count", [1, 3])
def test_a_master_without_transformations_is_read_by_its_fields(tmp_path: Path, count: int, sign: float) -> None:
    geometry = header_geometry(plain(tmp_path / "run_master.h5", count, sign))
    panel = geometry.detector.panels[0]
    # the distance counts from the sample, whichever sign a writer gives it; the beam hits pixel 10.25, 14.5
    assert panel.origin == pytest.approx((-10.25 * 0.075, 14.5 * 0.075, -125.0))
    assert (panel.size, panel.pixel_size) == ((20, 30), pytest.approx((0.075, 0.075)))
    assert panel.thickness == pytest.approx(0.45)
    assert panel.trusted_range == (-1.0, 9000.0)
    assert geometry.beam.wavelength == pytest.approx(1.5)
    assert geometry.scan is not None
    assert (geometry.scan.phi_start, geometry.scan.oscillation) == pytest.approx((20.0, 0.1))
    assert geometry.scan.n_frames == count
    assert geometry.goniometer is not None
    assert geometry.goniometer.axis == (1.0, 0.0, 0.0)
    said = {item.name: item for item in geometry.stated}
    assert said["oscillation"].origin == "/entry/sample/goniometer/omega"
    assert said["spindle"].assumed
    assert geometry.masks is not None
    assert int((~geometry.masks[0]).sum()) == 20
    held = mask_in_file(tmp_path / "run_master.h5", geometry.detector)
    assert held is not None
    assert np.array_equal(held[0], geometry.masks[0])


@pytest.mark.parametrize("field", ["omega_end", "omega_range_average", "omega_increment_set"])
def test_one_image_of_a_rotation_is_no_still(tmp_path: Path, field: str) -> None:
    """Nothing differs between the images of a file of one: a field beside the axis says how far it turned."""
    path = nxmx(tmp_path / "run.nxs")
    with h5py.File(path, "a") as file:
        data, turns = file["/entry/data/data"][:1], file["/entry/sample/transformations"]
        del file["/entry/data/data"]
        file["/entry/data/data"] = data
        attributes = dict(turns["omega"].attrs)
        del turns["omega"]
        turns["omega"] = [10.0]
        turns["omega"].attrs.update(attributes)
    assert header_geometry(path).scan is None
    with h5py.File(path, "a") as file:
        put(file, f"/entry/sample/transformations/{field}", 10.5 if field == "omega_end" else 0.5, units="deg")
    geometry = header_geometry(path)
    assert geometry.scan is not None
    assert (geometry.scan.phi_start, geometry.scan.oscillation, geometry.scan.n_frames) == (10.0, 0.5, 1)
    assert geometry.goniometer is not None
    assert geometry.goniometer.axis == (1.0, 0.0, 0.0)


def test_images_without_any_geometry_take_it_from_what_is_stated() -> None:
    path = shared("formats", "nxmx_made", "three_master.h5")
    with pytest.raises(FileError, match=r"geometry.wavelength=Å geometry.distance=MM geometry.beam_centre=\[PX,PX\]"):
        header_geometry(path)
    stated = {"wavelength": 1.0, "distance": 100.0, "beam_centre": (25, 30), "pixel_size": 0.1, "oscillation": (0, 0.2)}
    found = geometry_of([path], stated).experiments
    assert len(found) == 1
    assert found[0].scan is not None
    assert (found[0].scan.n_frames, found[0].image_indices) == (3, (0, 1, 2))
    stills = geometry_of([path], stated | {"oscillation": (0, 0)}).experiments
    assert [(entry.scan, entry.image_indices) for entry in stills.entries] == [(None, (0,)), (None, (1,)), (None, (2,))]
