"""Flags that place the detector and contradict, or do nothing beside, one another."""

from __future__ import annotations

from nbtorch.conventions import Pivot
from nbtorch.nanobragg.resolve.notes import Note, conflict
from nbtorch.nanobragg.resolve.stated import Stated

PLACING_FLAGS = {
    "distance": "-distance",
    "close_distance": "-close_distance",
    "x_beam": "-Xbeam",
    "y_beam": "-Ybeam",
    "x_close": "-Xclose",
    "y_close": "-Yclose",
    "org_x": "-ORGX",
    "org_y": "-ORGY",
    "pivot": "-pivot",
}
_CLOSE, _ORG = ("x_close", "y_close"), ("org_x", "org_y")
#: Conventions whose beam centre has a default of its own: near points do not reach it.
_OWN_CENTRE = ("MOSFLM", "DENZO", "ADXV")


def _given(flags: Stated, fields: tuple[str, ...]) -> str:
    """The flags of ``fields`` that were given, as typed."""
    return " ".join(PLACING_FLAGS[field] for field in fields if getattr(flags, field) is not None)


def _note(names: str, why: str) -> list[Note]:
    return [conflict(f"{names} not used to place the detector: {why}")] if names else []


def placing_conflicts(flags: Stated, convention: str, pivot: Pivot) -> list[Note]:
    """A note on each flag that does not place the detector although it looks so.

    ``flags``: what was on the command line alone, without headers.
    """
    if flags.pix0 is not None and flags.compat != "nanobragg":
        return _note(_given(flags, tuple(PLACING_FLAGS)), "-pix0_vector does")
    notes = []
    if flags.pix0 is not None:
        notes += _note(
            "-pix0_vector", f"with -compat nanobragg it selects the custom convention, the {pivot} pivot does"
        )
    if flags.distance is not None and flags.close_distance is not None:
        notes += _note("-distance", "-close_distance does")
    if pivot == "sample" and convention != "CUSTOM":
        notes += _note(_given(flags, ("x_beam", "y_beam", *_CLOSE)), "the pivot is the sample, ORGX and ORGY place it")
    elif convention in _OWN_CENTRE:
        notes += _note(_given(flags, (*_CLOSE, *_ORG)), "the pivot is the beam, Xbeam and Ybeam place it")
    return notes + _size_conflicts(flags)


def _size_conflicts(flags: Stated) -> list[Note]:
    notes = []
    for axis, pixels, size in (
        ("fast", flags.pixels_fast, flags.size_fast),
        ("slow", flags.pixels_slow, flags.size_slow),
    ):
        if pixels is not None and size is not None:
            notes.append(conflict(f"-detsize not used along {axis}: the number of pixels was given"))
    return notes
