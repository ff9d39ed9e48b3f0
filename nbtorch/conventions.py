"""The beamline conventions that nanoBragg knows, as one table of data (docs/physics.md §2.3).

Vectors are lab directions before any detector rotation. A convention also says how a user's beam centre
(Xbeam, Ybeam) becomes Fbeam, Sbeam, the distances in mm along the fast and slow axes, and where the beam is by default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from nbtorch.errors import ConfigError

Vec3 = tuple[float, float, float]
Pivot = Literal["beam", "sample"]


@dataclass(frozen=True)
class Frame:
    """What a beam centre is measured on: detector sizes (mm), pixel size (mm) and the stated near point (mm)."""

    size_fast: float
    size_slow: float
    pixel: float
    x_close: float
    y_close: float


@dataclass(frozen=True)
class Convention:
    """One convention: basis, axes, pivot and the meaning of its beam centre.

    ``default_centre`` gives (Xbeam, Ybeam) in mm; ``beam_on_axes`` turns them into (Fbeam, Sbeam) in mm.
    ``pivot`` None: whatever the flags chose.
    """

    name: str
    beam: Vec3
    fast: Vec3
    slow: Vec3
    normal: Vec3
    twotheta_axis: Vec3
    polarization: Vec3
    spindle: Vec3
    pivot: Pivot | None
    default_centre: Callable[[Frame], tuple[float, float]]
    beam_on_axes: Callable[[float, float, Frame], tuple[float, float]]


def _half_pixel_beyond_middle(frame: Frame) -> tuple[float, float]:
    return (frame.size_slow + frame.pixel) / 2, (frame.size_fast + frame.pixel) / 2


def _adxv_middle(frame: Frame) -> tuple[float, float]:
    return (frame.size_fast + frame.pixel) / 2, (frame.size_slow - frame.pixel) / 2


def _near_point(frame: Frame) -> tuple[float, float]:
    return frame.x_close, frame.y_close


def _mosflm_axes(x: float, y: float, frame: Frame) -> tuple[float, float]:
    # MOSFLM names the slow axis X and counts from the centre of the first pixel
    return y + frame.pixel / 2, x + frame.pixel / 2


def _swapped_axes(x: float, y: float, frame: Frame) -> tuple[float, float]:
    return y, x


def _adxv_axes(x: float, y: float, frame: Frame) -> tuple[float, float]:
    return x, frame.size_slow - y


def _same_axes(x: float, y: float, frame: Frame) -> tuple[float, float]:
    return x, y


_X: Vec3 = (1.0, 0.0, 0.0)
_Y: Vec3 = (0.0, 1.0, 0.0)
_Z: Vec3 = (0.0, 0.0, 1.0)
_MINUS_X: Vec3 = (-1.0, 0.0, 0.0)
_MINUS_Y: Vec3 = (0.0, -1.0, 0.0)
_MINUS_Z: Vec3 = (0.0, 0.0, -1.0)

CONVENTIONS: dict[str, Convention] = {
    convention.name: convention
    for convention in (
        # name, beam, fast, slow, normal, 2θ axis, polarization, spindle, pivot, default centre, beam on axes
        Convention("MOSFLM", _X, _Z, _MINUS_Y, _X, _MINUS_Z, _Z, _Z, "beam", _half_pixel_beyond_middle, _mosflm_axes),
        Convention("DENZO", _X, _Z, _MINUS_Y, _X, _MINUS_Z, _Z, _Z, "beam", _half_pixel_beyond_middle, _swapped_axes),
        Convention("ADXV", _Z, _X, _MINUS_Y, _Z, _MINUS_X, _X, _X, "beam", _adxv_middle, _adxv_axes),
        Convention("XDS", _Z, _X, _Y, _Z, _X, _X, _X, "sample", _near_point, _same_axes),
        Convention("DIALS", _Z, _X, _Y, _Z, _Y, _Y, _Y, "sample", _near_point, _same_axes),
        # CUSTOM: MOSFLM's vectors where none is given, but another 2θ axis, and no pivot of its own
        Convention("CUSTOM", _X, _Z, _MINUS_Y, _X, _Y, _Z, _Z, None, _near_point, _same_axes),
    )
}


def convention(name: str) -> Convention:
    """The convention called ``name`` (any case). Raises ConfigError for an unknown one."""
    found = CONVENTIONS.get(name.upper())
    if found is None:
        raise ConfigError(
            f"convention {name!r}", "it is not a known convention", f"Use one of: {', '.join(CONVENTIONS)}"
        )
    return found
