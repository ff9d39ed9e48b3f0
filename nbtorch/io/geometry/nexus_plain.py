"""HDF5 files without chains of transformations, as early Eiger masters are: plain fields, and what is stated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from nbtorch.errors import FileError
from nbtorch.io.geometry.nexus_axes import numbers, units
from nbtorch.io.geometry.nexus_fields import beam_groups, children, trusted_range, wavelengths_in
from nbtorch.io.geometry.nexus_goniometer import spindle_angles
from nbtorch.io.geometry.nexus_mask import MASKS, cut_mask
from nbtorch.io.geometry.nexus_reader import Reader
from nbtorch.io.geometry.simple import Header, Known, simple_geometry
from nbtorch.io.geometry.types import HeaderGeometry
from nbtorch.io.geometry.units import in_mm
from nbtorch.io.hdf5.open import missing_target

#: The field that has the distance, by writer.
DISTANCES = ("detector_distance", "distance")


def has_chains(file: Any) -> bool:
    """Whether a module of the one detector says where it stands by transformations."""
    for detector in _detectors(file):
        for module in children(file, detector, "NXdetector_module"):
            fast = f"{module}/fast_pixel_direction"
            if missing_target(file, fast) is None and fast in file and "vector" in file[fast].attrs:
                return True
    return False


def plain_geometry(reader: Reader, shape: tuple[int, ...], count: int, stated: Mapping[str, Known]) -> HeaderGeometry:
    """The geometry of one flat detector from fields; ``shape`` of the images is (slow, fast).

    Raises FileError for images of several panels, and naming what neither fields nor user state.
    """
    path = reader.file.filename
    if len(shape) != 2:
        why = f"its images have {shape[0]} panels, and nothing says where they stand"
        raise FileError(path, why, "Give an .expt as data.experiment")
    header = {**_header(reader, count), **stated}
    geometry = simple_geometry(header, (shape[1], shape[0]), path, notes=tuple(reader.notes))
    panels = geometry.detector.panels
    masks = next((cut_mask(item, panels) for item in [_mask(reader)] if item is not None), None)
    scan = None if geometry.scan is None else replace(geometry.scan, n_frames=count)
    wavelengths = () if "wavelength" in stated else _all_wavelengths(reader)
    return replace(
        geometry,
        scan=scan,
        n_frames=count,
        masks=masks,
        wavelengths=wavelengths if len(wavelengths) == count > 1 else (),
    )


def _header(reader: Reader, count: int) -> Header:
    found: dict[str, Known] = {}
    for detector in _detectors(reader.file)[:1]:
        found |= _lengths(reader, detector)
        centre = [reader.find(f"{detector}/beam_center_{axis}") for axis in "xy"]
        if None not in centre:
            value = tuple(float(numbers(item)[0]) for item in centre)
            found["beam_centre"] = Known(value, f"{detector}/beam_center_x, _y in pixels")
        low, high = trusted_range(reader, detector)
        said = next((item for item in reader.stated if item.name == "saturation"), None)
        found["saturation"] = Known(high, "" if said is None else said.origin, said is not None and said.assumed)
        found["underload"] = Known(low, "no header field", assumed=True)
        material = reader.text_of(f"{detector}/sensor_material")
        if material:
            found["material"] = Known(material, f"{detector}/sensor_material")
    for entry in children(reader.file, "/", "NXentry")[:1]:
        values = wavelengths_in(reader, beam_groups(entry, f"{entry}/instrument"))
        if values is not None:
            found["wavelength"] = Known(float(values[0].mean()), values[1])
        angles = spindle_angles(reader, f"{entry}/sample/goniometer", count)
        if angles is not None:
            found["oscillation"] = angles
    return found


def _lengths(reader: Reader, detector: str) -> dict[str, Known]:
    """Distance, pixel size and thickness. The distance counts from the sample, whichever sign a writer gives it."""
    found = {}
    distance = reader.find(*(f"{detector}/{name}" for name in DISTANCES))
    if distance is not None:
        found["distance"] = Known(abs(_mm(distance)), distance.name)
    pixel = [reader.find(f"{detector}/{axis}_pixel_size") for axis in "xy"]
    if None not in pixel:
        found["pixel_size"] = Known(tuple(_mm(item) for item in pixel), f"{detector}/x_pixel_size, y_pixel_size")
    thickness = reader.find(f"{detector}/sensor_thickness")
    if thickness is not None:
        found["thickness"] = Known(_mm(thickness), thickness.name)
    return found


def _mm(item: Any) -> float:
    return float(numbers(item)[0]) * in_mm(units(item, "m"), f"{item.file.filename}, {item.name}")


def _all_wavelengths(reader: Reader) -> tuple[float, ...]:
    for entry in children(reader.file, "/", "NXentry")[:1]:
        values = wavelengths_in(reader, beam_groups(entry, f"{entry}/instrument"))
        if values is not None:
            return tuple(map(float, np.atleast_1d(values[0])))
    return ()


def _detectors(file: Any) -> list[str]:
    """Detectors, by class, else where Dectris puts the one it has."""
    found = [
        detector
        for entry in children(file, "/", "NXentry")
        for instrument in children(file, entry, "NXinstrument")
        for detector in children(file, instrument, "NXdetector")
    ]
    usual = "/entry/instrument/detector"
    return found or ([usual] if missing_target(file, usual) is None and usual in file else [])


def _mask(reader: Reader) -> Any | None:
    names = [f"{detector}/{mask}" for detector in _detectors(reader.file)[:1] for mask in MASKS]
    return reader.find(*names)
