"""d*TREK headers (Rigaku's Saturn, Pilatus and others): vectors of the detector and of each of its axes.

The detector stands with the beam at its centre at the sample, and each axis of its goniometer turns or shifts it, the
last one listed first. Vectors are the header's own; SOURCE_VECTORS points to the source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nbtorch.config import BeamConfig, DetectorConfig, GoniometerConfig, PanelConfig, ScanConfig
from nbtorch.errors import FileError
from nbtorch.io.expt.detector import vec3
from nbtorch.io.geometry.chain import Axis, total
from nbtorch.io.geometry.types import HeaderGeometry, Stated


def is_dtrek(header: Mapping[str, str]) -> bool:
    """Whether an SMV header says its geometry as d*TREK does."""
    return "DETECTOR_NAMES" in header and "SOURCE_VECTORS" in header


def dtrek_geometry(header: Mapping[str, str], path: Path) -> HeaderGeometry:
    """The geometry of a d*TREK header. Raises FileError naming the key that is missing or holds something else."""
    keys = _Keys(header, path)
    prefix = keys.words("DETECTOR_NAMES")[0]
    chain = _chain(keys, prefix)
    matrix = total(chain)
    fast, slow = _axes(keys, prefix)
    bx, by, *pixel = keys.numbers(f"{prefix}SPATIAL_DISTORTION_INFO", 4)
    origin = -(bx * pixel[0] * fast + by * pixel[1] * slow)
    origin, fast, slow = matrix[:3, :3] @ origin + matrix[:3, 3], matrix[:3, :3] @ fast, matrix[:3, :3] @ slow
    size = [int(n) for n in keys.numbers(f"{prefix}DETECTOR_DIMENSIONS", 2)]
    high = keys.numbers("SATURATED_VALUE", 1)[0]
    panel = PanelConfig(
        vec3(fast + 0.0), vec3(slow + 0.0), vec3(origin + 0.0), (pixel[0], pixel[1]), (size[0], size[1]),
        name="Panel", trusted_range=(0.0, high),
    )  # fmt: skip
    beam, wavelength_key = _beam(keys)
    start, _, width, *_ = keys.numbers("ROTATION", 3)
    axis = np.asarray(keys.numbers("ROTATION_VECTOR", 3))
    goniometer = GoniometerConfig(vec3(axis / np.linalg.norm(axis))) if width else None
    scan = ScanConfig(start, width, 1) if width else None
    place = " ".join(f"{x:.6f}" for x in origin)
    said = (
        Stated("wavelength", f"{beam.wavelength:.9g} Å", wavelength_key),
        Stated("origin", f"{place} mm", f"{prefix}DETECTOR_VECTORS, {prefix}GONIO_VECTORS, _VALUES"),
        Stated("pixel_size", f"{pixel[0]:g} {pixel[1]:g} mm", f"{prefix}SPATIAL_DISTORTION_INFO"),
        Stated("spindle", " ".join(f"{x:.6f}" for x in axis), "ROTATION_VECTOR"),
        Stated("oscillation", f"{start:g} {width:g} °", "ROTATION"),
        Stated("saturation", f"{high:g} counts", "SATURATED_VALUE"),
        Stated("polarization", f"{((beam.kahn_factor or 0) + 1) / 2:g}", "SOURCE_POLARZ"),
    )
    return HeaderGeometry(beam, DetectorConfig((panel,)), goniometer, scan, 1, said)


class _Keys:
    """Numbers and words of a header."""

    def __init__(self, header: Mapping[str, str], path: Path) -> None:
        self.header, self.path = header, path

    def words(self, key: str) -> list[str]:
        """The words of ``key``. Raises FileError where it is not there."""
        found = self.header.get(key, "").split()
        if not found:
            raise FileError(f"{self.path}, header key {key}", "it is not there", "Give an .expt as data.experiment")
        return found

    def numbers(self, key: str, least: int) -> list[float]:
        """The numbers of ``key``, ``least`` of them or more."""
        words = self.words(key)
        try:
            found = [float(word) for word in words]
        except ValueError as error:
            given = f"{self.path}, header key {key}={' '.join(words)}"
            raise FileError(given, "it should hold numbers", "Repair the header") from error
        if len(found) < least:
            raise FileError(
                f"{self.path}, header key {key}", f"it holds {len(found)} numbers, not {least}", "Repair it"
            )
        return found


def _axes(keys: _Keys, prefix: str) -> tuple[np.ndarray, np.ndarray]:
    """The fast and slow axis [3] at zero of the detector's goniometer: the distortion says how they run on the face."""
    vectors = np.asarray(keys.numbers(f"{prefix}DETECTOR_VECTORS", 6)[:6]).reshape(2, 3)
    d = keys.numbers(f"{prefix}SPATIAL_DISTORTION_VECTORS", 4)
    return d[0] * vectors[0] + d[1] * vectors[1], d[2] * vectors[0] + d[3] * vectors[1]


def _chain(keys: _Keys, prefix: str) -> tuple[Axis, ...]:
    units = keys.words(f"{prefix}GONIO_UNITS")
    names: Sequence[str] = keys.header.get(f"{prefix}GONIO_NAMES", "").split() or units
    values = keys.numbers(f"{prefix}GONIO_VALUES", len(units))
    vectors = keys.numbers(f"{prefix}GONIO_VECTORS", 3 * len(units))
    axes = []
    for number, unit in enumerate(units):
        if unit not in ("deg", "mm"):
            given = f"{keys.path}, {prefix}GONIO_UNITS {unit}"
            raise FileError(given, "axes turn in deg or shift in mm", "Repair the header")
        x, y, z = vectors[3 * number : 3 * number + 3]
        kind = "rotation" if unit == "deg" else "translation"
        axes.append(Axis(names[number], kind, (x, y, z), (0.0, 0.0, 0.0), (values[number],)))  # type: ignore[arg-type]
    return tuple(reversed(axes))


def _beam(keys: _Keys) -> tuple[BeamConfig, str]:
    key = "SCAN_WAVELENGTH" if keys.header.get("SCAN_WAVELENGTH") else "SOURCE_WAVELENGTH"
    wavelength = keys.numbers(key, 1)[-1]
    source = np.asarray(keys.numbers("SOURCE_VECTORS", 3)[:3])
    fraction, *normal = keys.numbers("SOURCE_POLARZ", 4)
    travel = 0.0 - source / np.linalg.norm(source)
    electric = np.cross(normal[:3], travel)
    beam = BeamConfig(
        wavelength,
        direction=vec3(travel),
        polarization_axis=vec3(electric / np.linalg.norm(electric)),
        kahn_factor=2.0 * fraction - 1.0,
    )
    return beam, key
