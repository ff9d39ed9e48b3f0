"""The geometry of an NXmx file."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nbtorch.config import BeamConfig, DetectorConfig, GoniometerConfig, PanelConfig, ScanConfig, Vec3
from nbtorch.errors import FileError
from nbtorch.io.expt.goniometer import rotation
from nbtorch.io.expt.node import rows3
from nbtorch.io.geometry.chain import Axis, total
from nbtorch.io.geometry.nexus_axes import chain, numbers, resolve, units
from nbtorch.io.geometry.sensor import attenuation_length
from nbtorch.io.geometry.types import HeaderGeometry, Stated
from nbtorch.io.geometry.units import HC, in_ev, in_mm
from nbtorch.io.hdf5 import image_list, open_hdf5
from nbtorch.io.hdf5.open import follow, missing_target, text

if TYPE_CHECKING:
    import h5py

SATURATION = (
    "saturation_value",
    "countrate_correction_count_cutoff",
    "detectorSpecific/countrate_correction_count_cutoff",
)
MASKS = ("pixel_mask", "detectorSpecific/pixel_mask")


@dataclass
class _Reader:
    """One file being read, and what is said of it on the way."""

    file: h5py.File
    stated: list[Stated] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def say(self, name: str, value: str, origin: str, *, assumed: bool = False) -> None:
        """Record where a number came from."""
        self.stated.append(Stated(name, value, origin, assumed))

    def find(self, *names: str) -> Any | None:
        """The first of these fields that can be read; one that lies in a missing file is noted."""
        for name in names:
            absent = missing_target(self.file, name)
            if absent is not None:
                self.notes.append(f"{name} is not used: it is kept in {absent}, which is missing")
            elif name in self.file:
                return self.file[name]
        return None


def nexus_geometry(path: Path) -> HeaderGeometry:
    """The geometry of the NXmx file ``path``; no pixel is read but those of its mask.

    Raises FileError naming the field that is missing or cannot be meant.
    """
    images = image_list(path)
    count = sum(part.count for part in images.parts)
    with open_hdf5(path) as file:
        reader = _Reader(file)
        entry = _child(file, "/", "NXentry")
        instrument = _child(file, entry, "NXinstrument")
        detector = _child(file, instrument, "NXdetector")
        beam, wavelengths = _beam(reader, [f"{instrument}/beam", f"{entry}/sample/beam", f"{instrument}/monochromator"])
        panels = _panels(reader, detector, images.shape, beam.wavelength)
        goniometer, scan, angles = _goniometer(reader, f"{entry}/sample", count)
        masks = _masks(reader, detector, panels)
    if len(wavelengths) not in (0, count):
        raise FileError(str(path), f"{len(wavelengths)} wavelengths for {count} images", "Check the file")
    once = dict.fromkeys  # several panels say the same of their sensor
    said, notes = tuple(once(reader.stated)), tuple(once(reader.notes))
    detector_config = DetectorConfig(panels)
    return HeaderGeometry(
        beam, detector_config, goniometer, scan, count, said, angles, wavelengths, masks, notes
    )  # fmt: skip


def _child(file: h5py.File, parent: str, kind: str) -> str:
    """The one group of NX_class ``kind`` in ``parent``."""
    import h5py

    base = parent.rstrip("/")
    found = [
        f"{base}/{name}"
        for name in file[parent]
        if missing_target(file, f"{base}/{name}") is None
        and isinstance(file.get(f"{base}/{name}"), h5py.Group)
        and text(file[f"{base}/{name}"].attrs.get("NX_class", "")) == kind
    ]
    if len(found) != 1:
        why = f"it has several {kind}: {', '.join(found)}" if found else f"it has no {kind}"
        raise FileError(f"{file.filename}, {parent}", f"{why}, so its geometry is not read", "Give an .expt")
    return found[0]


def _beam(reader: _Reader, groups: list[str]) -> tuple[BeamConfig, tuple[float, ...]]:
    names = [f"{group}/{name}" for group in groups for name in ("incident_wavelength", "wavelength")]
    item = reader.find(*names)
    if item is not None:
        where = f"{reader.file.filename}, {item.name}"
        values = numbers(item) * in_mm(units(item, "angstrom"), where) * 1e7
    else:
        item = reader.find(*(f"{group}/{name}" for group in groups for name in ("incident_energy", "energy")))
        if item is None:
            raise FileError(reader.file.filename, "it states neither wavelength nor energy", "Give an .expt")
        values = HC / (numbers(item) * in_ev(units(item, "eV"), f"{reader.file.filename}, {item.name}"))
    reader.say("beam.wavelength", f"{values.mean():.9g} Å", item.name)
    reader.say("beam.direction", "along −z", "NeXus: the beam travels along its +z", assumed=True)
    reader.say("beam.polarization", "0.999 in the xz plane", "no header field", assumed=True)
    beam = BeamConfig(
        float(values.mean()), direction=(0.0, 0.0, -1.0), polarization_axis=(-1.0, 0.0, 0.0), kahn_factor=0.998
    )
    return beam, tuple(map(float, values)) if len(values) > 1 else ()


def _panels(reader: _Reader, detector: str, shape: tuple[int, ...], wavelength: float) -> tuple[PanelConfig, ...]:
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


def _panel(reader: _Reader, module: str, shape: tuple[int, ...], count: int, wavelength: float) -> PanelConfig:
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
        material=material, trusted_range=_trusted(reader, detector), raw_image_offset=offset,
    )  # fmt: skip


def _module_chain(reader: _Reader, module: str, detector: str) -> tuple[Axis, ...]:
    for name in (f"{module}/module_offset", resolve(_text_of(reader, f"{detector}/depends_on"), f"{detector}/x")):
        if name not in ("", ".") and name in reader.file:
            return chain(reader.file, name)
    raise FileError(f"{reader.file.filename}, {module}", "nothing says where it stands", "Give an .expt")


def _direction(reader: _Reader, name: str) -> tuple[Vec3, float]:
    """(lab direction, pixel size in mm) of a fast or slow pixel direction."""
    axes = chain(reader.file, name)
    turned = total(axes[1:])[:3, :3] @ np.asarray(axes[0].vector)
    unit = turned / np.linalg.norm(turned) + 0.0
    return (float(unit[0]), float(unit[1]), float(unit[2])), axes[0].values[0]


def _size(reader: _Reader, module: str, shape: tuple[int, ...], count: int) -> tuple[tuple[int, int], tuple[int, int]]:
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
    reader: _Reader, detector: str, origin: Vec3, axes: tuple[Vec3, Vec3], pixel: tuple[float, float]
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


def _sensor(reader: _Reader, detector: str, wavelength: float) -> tuple[float, float, str]:
    item = reader.find(f"{detector}/sensor_thickness")
    material = _text_of(reader, f"{detector}/sensor_material")
    if item is None:
        return 0.0, math.inf, material
    thickness = float(numbers(item)[0]) * in_mm(units(item, "m"), item.name)
    reader.say("sensor", f"{thickness:g} mm of {material or 'an unnamed material'}", item.name)
    length = attenuation_length(material, wavelength)
    if not math.isfinite(length):
        reader.notes.append(f"the sensor's material {material!r} is not known: parallax is not used")
    reader.say("attenuation length", f"{length:.6g} mm", "photoelectric absorption of that material", assumed=True)
    return thickness, length, material


def _trusted(reader: _Reader, detector: str) -> tuple[float, float]:
    high = reader.find(*(f"{detector}/{name}" for name in SATURATION))
    low = reader.find(f"{detector}/underload_value")
    top = math.inf if high is None else float(numbers(high)[0])
    bottom = -1.0 if low is None else float(numbers(low)[0])
    if high is None:
        reader.say("saturation", "none", "no saturation_value", assumed=True)
    else:
        reader.say("saturation", f"{top:g}", high.name)
    return bottom, top


def _goniometer(
    reader: _Reader, sample: str, count: int
) -> tuple[GoniometerConfig | None, ScanConfig | None, tuple[float, ...]]:
    start = resolve(_text_of(reader, f"{sample}/depends_on"), f"{sample}/x")
    axes = [axis for axis in chain(reader.file, start) if axis.kind == "rotation"] if start not in ("", ".") else []
    scanned = [number for number, axis in enumerate(axes) if axis.moves]
    if len(scanned) > 1:
        raise FileError(f"{reader.file.filename}, {start}", "several axes turn during the scan", "Give an .expt")
    if not scanned:
        return None, None, ()
    spindle = axes[scanned[0]]
    if len(spindle.values) != count:
        given = f"{reader.file.filename}, {spindle.name}"
        raise FileError(given, f"it has {len(spindle.values)} angles for {count} images", "Check the file")
    steps = np.diff(spindle.values)
    if np.ptp(steps) > 1e-4:  # degrees: what an encoder's rounding leaves
        raise FileError(f"{reader.file.filename}, {spindle.name}", "its steps are unequal", "Give an .expt")
    width = float(np.mean(steps))
    length = math.hypot(*spindle.vector)
    x, y, z = (value / length for value in spindle.vector)
    goniometer = GoniometerConfig((x, y, z), _product(axes[: scanned[0]]), _product(axes[scanned[0] + 1 :]))
    reader.say("spindle", f"{x:.6f} {y:.6f} {z:.6f}", spindle.name)
    reader.say("scan", f"{spindle.values[0]:g} + {width:g}° a frame", spindle.name)
    return goniometer, ScanConfig(spindle.values[0], width, count), spindle.values


def _product(axes: list[Axis]) -> tuple[Vec3, Vec3, Vec3]:
    turned: NDArray[np.float64] = np.eye(3)
    for axis in axes:
        turned = rotation(axis.vector, axis.values[0]) @ turned
    return rows3(turned.ravel().tolist())


def _masks(reader: _Reader, detector: str, panels: tuple[PanelConfig, ...]) -> tuple[NDArray[np.bool_], ...] | None:
    item = reader.find(*(f"{detector}/{name}" for name in MASKS))
    if item is None:
        return None
    values = np.asarray(item[()]) == 0
    reader.say("mask", f"{int((~values).sum())} pixels", item.name)
    if values.ndim == 3 and len(values) == len(panels):
        return tuple(values)
    cut = []
    for panel in panels:
        (fast, slow), (width, height) = panel.raw_image_offset, panel.size
        piece = values[slow : slow + height, fast : fast + width] if values.ndim == 2 else values
        if piece.shape != (height, width):
            raise FileError(f"{reader.file.filename}, {item.name}", f"its shape is {values.shape}", "Check the file")
        cut.append(piece)
    return tuple(cut)


def _text_of(reader: _Reader, name: str) -> str:
    item = reader.find(name)
    return "" if item is None else text(item[()])


def _names(axes: tuple[Axis, ...]) -> str:
    return " ← ".join(axis.name for axis in axes)
