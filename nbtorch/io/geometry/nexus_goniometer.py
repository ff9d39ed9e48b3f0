"""The goniometer and scan of an NXmx file."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nbtorch.config import GoniometerConfig, ScanConfig, Vec3
from nbtorch.errors import FileError
from nbtorch.io.expt.goniometer import rotation
from nbtorch.io.expt.node import rows3
from nbtorch.io.geometry.chain import Axis
from nbtorch.io.geometry.nexus_axes import chain, numbers, resolve, units
from nbtorch.io.geometry.nexus_reader import Reader
from nbtorch.io.geometry.simple import Known
from nbtorch.io.geometry.units import in_degrees
from nbtorch.io.hdf5.open import missing_target

#: Fields beside an axis that say how far it turns during one image: differences first.
WIDTHS = ("_range_average", "_increment_set", "_range_total")


def goniometer_of(
    reader: Reader, sample: str, count: int
) -> tuple[GoniometerConfig | None, ScanConfig | None, tuple[float, ...]]:
    """(goniometer, scan, start angles) of the axes that the sample hangs from; None where nothing turns.

    One image turns where a field beside its axis says so (name_end, name_range_average, name_increment_set). Raises
    FileError for several axes that turn and for unequal steps.
    """
    start = resolve(reader.text_of(f"{sample}/depends_on"), f"{sample}/x")
    axes = [axis for axis in chain(reader.file, start) if axis.kind == "rotation"] if start not in ("", ".") else []
    widths = {number: _width(reader, axis.name, sample) for number, axis in enumerate(axes)} if count == 1 else {}
    scanned = [number for number, axis in enumerate(axes) if axis.moves or widths.get(number)]
    if len(scanned) > 1:
        raise FileError(f"{reader.file.filename}, {start}", "several axes turn during the scan", "Give an .expt")
    if not scanned:
        return None, None, ()
    spindle = axes[scanned[0]]
    if len(spindle.values) != count:
        given = f"{reader.file.filename}, {spindle.name}"
        raise FileError(given, f"it has {len(spindle.values)} angles for {count} images", "Check the file")
    steps = np.diff(spindle.values) if count > 1 else np.array([widths[scanned[0]]])
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


def spindle_angles(reader: Reader, group: str, count: int) -> Known | None:
    """(start, width) of the one axis of ``group`` that turns, from its angles or what stands beside them.

    None where none does. Raises FileError for several axes, or unequal steps.
    """
    turning = []
    if missing_target(reader.file, group) is not None or group not in reader.file:
        return None
    for name in reader.file[group]:
        item = reader.find(f"{group}/{name}")
        if (
            name.endswith((*WIDTHS, "_end"))
            or item is None
            or not hasattr(item, "shape")
            or item.dtype.kind not in "iuf"
        ):
            continue
        factor = in_degrees(units(item, "deg"), item.name)
        values = numbers(item) * factor
        width = float(np.mean(np.diff(values))) if len(values) == count > 1 else _width(reader, f"{group}/{name}", "")
        if abs(width) > 1e-6:
            turning.append(Known((float(values[0]), width), f"{group}/{name}"))
    if len(turning) > 1:
        said = ", ".join(known.origin for known in turning)
        raise FileError(f"{reader.file.filename}, {group}", f"several axes turn: {said}", "Give geometry.oscillation")
    return turning[0] if turning else None


def _width(reader: Reader, axis: str, sample: str) -> float:
    """By how many degrees ``axis`` turns during the one image of a file; 0 where no field says so."""
    name = axis.rsplit("/", 1)[-1]
    for base in (axis, f"{sample}/goniometer/{name}"):
        for suffix in WIDTHS:
            item = reader.find(base + suffix)
            if item is not None and numbers(item)[0] != 0:
                return float(numbers(item)[0]) * in_degrees(units(item, "deg"), item.name)
        start, end = reader.find(base), reader.find(f"{base}_end")
        if start is not None and end is not None and numbers(end)[0] != numbers(start)[0]:
            factor = in_degrees(units(end, units(start, "deg")), end.name)
            return float(numbers(end)[0] - numbers(start)[0]) * factor
    return 0.0
