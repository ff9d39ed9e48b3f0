"""The geometry of an NXmx file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nbtorch.config import BeamConfig, DetectorConfig, PanelConfig, Vec3
from nbtorch.errors import FileError
from nbtorch.io.geometry.chain import Axis, total
from nbtorch.io.geometry.nexus_axes import chain, numbers, resolve, units
from nbtorch.io.geometry.nexus_fields import beam_groups, child, trusted_range, wavelengths_in
from nbtorch.io.geometry.nexus_goniometer import goniometer_of
from nbtorch.io.geometry.nexus_mask import MASKS, cut_mask
from nbtorch.io.geometry.nexus_plain import has_chains, plain_geometry
from nbtorch.io.geometry.nexus_reader import Reader
from nbtorch.io.geometry.overrides import moved
from nbtorch.io.geometry.sensor import attenuation_length
from nbtorch.io.geometry.simple import Known
from nbtorch.io.geometry.types import HeaderGeometry
from nbtorch.io.geometry.units import in_mm
from nbtorch.io.hdf5 import image_list, open_hdf5
from nbtorch.io.hdf5.open import follow, missing_target, text


def nexus_geometry(path: Path, stated: Mapping[str, Known]) -> HeaderGeometry:
    """The geometry of the HDF5 file ``path``; no pixel is read but those of its mask.

    By the chains of transformations of NXmx where its modules have them, else by the detector's plain fields. What the
    user has ``stated`` comes before either. Raises FileError naming the field that is missing or cannot be meant.
    """
    images = image_list(path)
    count = sum(part.count for part in images.parts)
    with open_hdf5(path) as file:
        reader = Reader(file)
        if not has_chains(file):
            return plain_geometry(reader, images.shape, count, stated)
        return moved(_by_chains(reader, images.shape, count, stated), stated)


def _by_chains(reader: Reader, shape: tuple[int, ...], count: int, stated: Mapping[str, Known]) -> HeaderGeometry:
    file, path = reader.file, reader.file.filename
    entry = child(file, "/", "NXentry")
    instrument = child(file, entry, "NXinstrument")
    detector = child(file, instrument, "NXdetector")
    beam, wavelengths = _beam(reader, beam_groups(entry, instrument), stated)
    panels = _panels(reader, detector, shape, beam.wavelength)
    goniometer, scan, angles = goniometer_of(reader, f"{entry}/sample", count)
    item = reader.find(*(f"{detector}/{name}" for name in MASKS))
    masks = None if item is None else cut_mask(item, panels)
    if item is not None and masks is not None:
        reader.say("mask", f"{sum(int((~mask).sum()) for mask in masks)} pixels", item.name)
    if len(wavelengths) not in (0, count):
        raise FileError(path, f"{len(wavelengths)} wavelengths for {count} images", "Check the file")
    once = dict.fromkeys  # several panels say the same of their sensor
    said, notes = tuple(once(reader.stated)), tuple(once(reader.notes))
    detector_config = DetectorConfig(panels)
    return HeaderGeometry(
        beam, detector_config, goniometer, scan, count, said, angles, wavelengths, masks, notes
    )  # fmt: skip


def _beam(reader: Reader, groups: list[str], stated: Mapping[str, Known]) -> tuple[BeamConfig, tuple[float, ...]]:
    values = wavelengths_in(reader, groups)
    if values is None and "wavelength" not in stated:
        raise FileError(
            reader.file.filename, "it states neither wavelength nor energy", "Give geometry.wavelength=Å, or an .expt"
        )
    listed = np.array([float(stated["wavelength"].value)]) if values is None else values[0]
    if values is not None:
        reader.say("wavelength", f"{listed.mean():.9g} Å", values[1])
    reader.say("direction of the beam", "along −z", "NeXus: the beam travels along its +z", assumed=True)
    reader.say("polarization", "0.999 in the xz plane", "no header field", assumed=True)
    beam = BeamConfig(
        float(listed.mean()), direction=(0.0, 0.0, -1.0), polarization_axis=(-1.0, 0.0, 0.0), kahn_factor=0.998
    )
    return beam, tuple(map(float, listed)) if len(listed) > 1 else ()


def _panels(reader: Reader, detector: str, shape: tuple[int, ...], wavelength: float) -> tuple[PanelConfig, ...]:
    group = reader.file[detector]
    modules = [
        name for name in group
        if missing_target(reader.file, f"{detector}/{name}") is None
        and hasattr(group.get(name), "attrs")
        and text(group[name].attrs.get("NX_class", "")) == "NXdetector_module"
    ]  # fmt: skip
    if not modules:
        raise FileError(f"{reader.file.filename}, {detector}", "it has no NXdetector_module", "Give an .expt")
    return tuple(_panel(reader, f"{detector}/{name}", shape, len(modules), wavelength) for name in modules)


def _panel(reader: Reader, module: str, shape: tuple[int, ...], count: int, wavelength: float) -> PanelConfig:
    detector, name = module.rsplit("/", 1)
    fast, fast_size = _direction(reader, f"{module}/fast_pixel_direction")
    slow, slow_size = _direction(reader, f"{module}/slow_pixel_direction")
    axes = _module_chain(reader, module, detector)
    if any(axis.moves for axis in axes):
        raise FileError(f"{reader.file.filename}, {module}", "it moves between frames", "Give an .expt")
    origin: Vec3 = tuple(float(x) + 0.0 for x in total(axes)[:3, 3])  # type: ignore[assignment]  # three of them
    reader.say(f"{name}.origin", " ".join(f"{x:.6f}" for x in origin) + " mm", _names(axes))
    size, offset = _size(reader, module, shape, count)
    _compare_centre(reader, detector, origin, (fast, slow), (fast_size, slow_size))
    thickness, length, material = _sensor(reader, detector, wavelength)
    return PanelConfig(
        fast, slow, origin, (fast_size, slow_size), size, name=module, thickness=thickness, attenuation_length=length,
        material=material, trusted_range=trusted_range(reader, detector), raw_image_offset=offset,
    )  # fmt: skip


def _module_chain(reader: Reader, module: str, detector: str) -> tuple[Axis, ...]:
    for name in (f"{module}/module_offset", resolve(reader.text_of(f"{detector}/depends_on"), f"{detector}/x")):
        if name not in ("", ".") and name in reader.file:
            return chain(reader.file, name)
    raise FileError(f"{reader.file.filename}, {module}", "nothing says where it stands", "Give an .expt")


def _direction(reader: Reader, name: str) -> tuple[Vec3, float]:
    """(lab direction, pixel size in mm) of a fast or slow pixel direction."""
    axes = chain(reader.file, name)
    turned = total(axes[1:])[:3, :3] @ np.asarray(axes[0].vector)
    unit = turned / np.linalg.norm(turned) + 0.0
    return (float(unit[0]), float(unit[1]), float(unit[2])), axes[0].values[0]


def _size(reader: Reader, module: str, shape: tuple[int, ...], count: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(size, raw image offset), both (fast, slow)."""
    data_size = numbers(follow(reader.file, f"{module}/data_size")).astype(int).tolist()
    if count == 1:
        if tuple(data_size[-2:]) != shape[-2:]:
            reader.notes.append(
                f"{module}/data_size {data_size} is not used: the images are {list(shape)} (slow, fast)"
            )
        return (shape[-1], shape[-2]), (0, 0)
    origin = numbers(follow(reader.file, f"{module}/data_origin")).astype(int).tolist()
    offset = (0, 0) if len(shape) == 3 else (origin[-1], origin[-2])
    return (data_size[-1], data_size[-2]), offset


def _compare_centre(
    reader: Reader, detector: str, origin: Vec3, axes: tuple[Vec3, Vec3], pixel: tuple[float, float]
) -> None:
    """Note a beam centre field that contradicts the transformations, which are used."""
    fields = [reader.find(f"{detector}/beam_center_{axis}") for axis in "xy"]
    if None in fields:
        return
    given = [float(numbers(item)[0]) for item in fields]
    fast, slow = (np.asarray(axis) for axis in axes)
    normal = np.cross(fast, slow)
    hit = np.array([0, 0, 1.0]) * (np.asarray(origin) @ normal / normal[2] if abs(normal[2]) > 1e-9 else 0.0)
    here = [float((hit - origin) @ axis / size) for axis, size in zip((fast, slow), pixel, strict=True)]
    if math.dist(given, here) > 0.5:
        reader.notes.append(
            f"{detector}/beam_center_x, _y say {given[0]:.2f}, {given[1]:.2f} px, the transformations "
            f"{here[0]:.2f}, {here[1]:.2f} px: the transformations are used"
        )


def _sensor(reader: Reader, detector: str, wavelength: float) -> tuple[float, float, str]:
    item = reader.find(f"{detector}/sensor_thickness")
    material = reader.text_of(f"{detector}/sensor_material")
    if item is None:
        return 0.0, math.inf, material
    thickness = float(numbers(item)[0]) * in_mm(units(item, "m"), item.name)
    reader.say("thickness", f"{thickness:g} mm of {material or 'an unnamed material'}", item.name)
    length = attenuation_length(material, wavelength)
    if not math.isfinite(length):
        reader.notes.append(f"the sensor's material {material!r} is not known: parallax is not used")
    reader.say("attenuation length", f"{length:.6g} mm", "photoelectric absorption of that material", assumed=True)
    return thickness, length, material


def _names(axes: tuple[Axis, ...]) -> str:
    return " ← ".join(axis.name for axis in axes)
