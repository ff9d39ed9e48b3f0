"""Bruker frames (.sfrm, header of 80-byte lines KEY:value): distance in cm, pixels in 1/512ths of the field of view.

ANGLES are 2θ, ω, φ, χ of the frame's start; AXIS says which turns (2 ω, 3 φ) and INCREME how far. The goniometer has a
fixed χ: φ turns in the χ circle, which ω turns about the vertical. The beam centre counts from the first pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np

from nbtorch.config import GoniometerConfig, Vec3
from nbtorch.errors import FileError
from nbtorch.io.expt.goniometer import rotation
from nbtorch.io.expt.node import rows3
from nbtorch.io.geometry.simple import Known, simple_geometry
from nbtorch.io.geometry.types import HeaderGeometry, Stated

#: Directions at zero, in the frame of imgCIF with y up: φ, χ, ω. Benning et al., Acta Cryst. D70 (2014), supplement.
AXES: dict[str, Vec3] = {"φ": (0.0, -1.0, 0.0), "χ": (0.0, 0.0, 1.0), "ω": (0.0, 1.0, 0.0)}
SCANNED = {2: "ω", 3: "φ"}
#: mm across which DETTYPE's second number counts pixels.
FIELD = 5.0


def is_bruker(head: bytes) -> bool:
    """Whether a file begins with lines of a Bruker header."""
    return head[:16].startswith(b"FORMAT :") and sum(head[80 * n + 7 : 80 * n + 8] == b":" for n in range(12)) == 12


def bruker_geometry(
    header: Mapping[str, str], size: tuple[int, int], path: Path, stated: Mapping[str, Known]
) -> HeaderGeometry:
    """The geometry of a header as fabio splits it. Raises FileError for a key that holds something else."""

    def numbers(key: str) -> list[float]:
        try:
            return [float(word) for word in header.get(key, "").split()]
        except ValueError as error:
            raise FileError(f"{path}, header key {key}={header[key]}", "it should hold numbers", "Repair it") from error

    found: dict[str, Known] = {
        "slow_axis": Known((0.0, 1.0, 0.0), "along +y", assumed=True),
        "two_theta_axis": Known((0.0, 1.0, 0.0), "along +y", assumed=True),
        "fast_axis": Known((1.0, 0.0, 0.0), "along +x", assumed=True),
    }
    if numbers("WAVELEN"):
        found["wavelength"] = Known(numbers("WAVELEN")[0], "WAVELEN")
    if numbers("DISTANC"):
        found["distance"] = Known(10.0 * numbers("DISTANC")[-1], "DISTANC")
    if len(numbers("CENTER")) >= 2:
        found["beam_centre"] = Known(tuple(numbers("CENTER")[-2:]), "CENTER")
    words = header.get("DETTYPE", "").split()
    if len(words) > 1 and words[1].replace(".", "", 1).isdigit() and float(words[1]) > 0:
        pixel = FIELD / float(words[1])
        found["pixel_size"] = Known((pixel, pixel), "DETTYPE")
    if numbers("CCDPARM"):
        found["saturation"] = Known(numbers("CCDPARM")[-1], "CCDPARM")
    angles = numbers("ANGLES")
    if len(angles) == 4:
        found["two_theta"] = Known(angles[0], "ANGLES")
    geometry = simple_geometry({**found, **_turned(numbers), **stated}, size, str(path))
    return geometry if "spindle" in stated else _with_goniometer(geometry, angles, numbers("AXIS"), path)


def _turned(numbers: Callable[[str], list[float]]) -> dict[str, Known]:
    start, width = numbers("START"), numbers("INCREME")
    return {"oscillation": Known((start[0], width[0]), "START, INCREME")} if start and width else {}


def _with_goniometer(geometry: HeaderGeometry, angles: list[float], axis: list[float], path: Path) -> HeaderGeometry:
    """``geometry`` with the axes of the goniometer at the angles of the frame's start, where it turns."""
    if geometry.scan is None:
        return geometry
    name = SCANNED.get(int(axis[0])) if axis else None
    if name is None or len(angles) != 4:
        raise FileError(
            f"{path}, header key AXIS={axis}", "the axis that turns is neither ω nor φ", "Give geometry.spindle=[x,y,z]"
        )
    at = {"φ": angles[2], "χ": angles[3], "ω": angles[1] - 180.0}  # ω of the header is 180° where the arm is at zero
    order = list(AXES)
    place = order.index(name)
    turns = [rotation(AXES[key], at[key]) for key in order]
    fixed = reduce(lambda before, turn: turn @ before, turns[:place], np.eye(3))
    setting = reduce(lambda before, turn: turn @ before, turns[place + 1 :], np.eye(3))
    goniometer = GoniometerConfig(AXES[name], rows3(fixed.ravel().tolist()), rows3(setting.ravel().tolist()))
    spindle = " ".join(f"{x:g}" for x in AXES[name])
    said = [item for item in geometry.stated if item.name != "spindle"]
    said.append(Stated("spindle", spindle, f"AXIS {name}, with the others as ANGLES say", assumed=True))
    return replace(geometry, goniometer=goniometer, stated=tuple(said))
