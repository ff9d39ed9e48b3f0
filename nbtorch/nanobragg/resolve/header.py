"""Geometry from the header of an SMV image or mask, as defaults under the flags (docs/physics.md §5)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from nbtorch.errors import FileError
from nbtorch.nanobragg.resolve.stated import Stated

FIELDS = {
    "SIZE1": "pixels_fast",
    "SIZE2": "pixels_slow",
    "PIXEL_SIZE": "pixel",
    "DISTANCE": "distance",
    "CLOSE_DISTANCE": "close_distance",
    "WAVELENGTH": "wavelength",
    "BEAM_CENTER_X": "x_beam",
    "BEAM_CENTER_Y": "y_beam",
    "ORGX": "org_x",
    "ORGY": "org_y",
    "PHI": "phi",
    "OSC_RANGE": "osc",
    "TWOTHETA": "twotheta",
}
_COUNTS = ("pixels_fast", "pixels_slow")


def header_values(header: Mapping[str, str], *, is_mask: bool) -> dict[str, Any]:
    """Fields of :class:`Stated` that an SMV ``header`` gives; ``is_mask``: its BEAM_CENTER_Y counts from the far edge.

    Raises FileError for a value that is not a number.
    """
    values: dict[str, Any] = {}
    for key, field in FIELDS.items():
        if key in header:
            values[field] = _number(key, header[key])
    if header.get("BEAMLINE", "").strip().upper() == "TIMEPIX_SU" and "pixel" in values:
        # this detector's header has its beam centre in pixels, every other's in mm
        for field in ("x_beam", "y_beam"):
            if field in values:
                values[field] *= values["pixel"]
    for field in _COUNTS:
        if field in values:
            values[field] = int(values[field])
    if is_mask and "y_beam" in values:
        size = values.get("pixels_slow", 1024) * values.get("pixel", 0.1)
        values["y_beam"] = size - values["y_beam"]
    return values


def _number(key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FileError(f"header key {key}={text!r}", "it is not a number", "Repair the header or drop the file")
    return value


def under_flags(stated: Stated, values: Mapping[str, Any]) -> Stated:
    """``stated`` with header ``values`` where no flag spoke. A size in mm takes the place of a header's pixels."""
    taken = {field: value for field, value in values.items() if getattr(stated, field) is None}
    if stated.size_fast is not None:
        taken.pop("pixels_fast", None)
    if stated.size_slow is not None:
        taken.pop("pixels_slow", None)
    if stated.close_distance is None and stated.distance is not None:
        taken.pop("close_distance", None)  # the header's would silently outrank the flag -distance
    # a header comes before all flags, so what it implies for the pivot is overruled by any of them
    order = tuple(field for field in FIELDS.values() if field in taken)
    return dataclasses.replace(stated, order=(*order, *stated.order), **taken)
