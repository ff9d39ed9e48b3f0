"""Which convention, its vectors with the user's in their places, and what stays put under detector rotations."""

from __future__ import annotations

from dataclasses import dataclass

from nbtorch.config import Vec3
from nbtorch.conventions import CONVENTIONS, Convention, Pivot
from nbtorch.nanobragg.resolve.notes import Note, choice, conflict
from nbtorch.nanobragg.resolve.stated import Stated
from nbtorch.nanobragg.resolve.vectors import cross, length, unit

VECTOR_FLAGS = {
    "fast_vector": "-fdet_vector",
    "slow_vector": "-sdet_vector",
    "normal_vector": "-odet_vector",
    "beam_vector": "-beam_vector",
    "polar_vector": "-polar_vector",
    "spindle_axis": "-spindle_axis",
    "twotheta_axis": "-twotheta_axis",
    "pix0": "-pix0_vector",
}
PIVOT_FLAGS: dict[str, Pivot] = {
    "distance": "beam",
    "x_beam": "beam",
    "y_beam": "beam",
    "close_distance": "sample",
    "x_close": "sample",
    "y_close": "sample",
    "org_x": "sample",
    "org_y": "sample",
    "twotheta": "sample",
}


@dataclass(frozen=True)
class Axes:
    """Unit vectors in the lab before any detector rotation, and the convention they come from."""

    convention: Convention
    beam: Vec3
    fast: Vec3
    slow: Vec3
    normal: Vec3
    twotheta: Vec3
    polarization: Vec3
    spindle: Vec3


def resolve_axes(stated: Stated) -> tuple[Axes, list[Note]]:
    """The lab vectors: the named convention's, or, when any vector is given, MOSFLM's with the given ones in place."""
    given = [name for field, name in VECTOR_FLAGS.items() if getattr(stated, field) is not None]
    notes = []
    if given and stated.convention is not None:
        notes.append(conflict(f"{given[0]} selects the custom convention, -{stated.convention.lower()} is not used"))
    elif given:
        notes.append(choice(f"convention CUSTOM, because of {given[0]}"))
    elif stated.convention is None:
        notes.append(choice("convention MOSFLM"))
    base = CONVENTIONS["CUSTOM" if given else stated.convention or "MOSFLM"]
    fast, slow = unit(stated.fast_vector or base.fast), unit(stated.slow_vector or base.slow)
    return Axes(
        convention=base,
        beam=unit(stated.beam_vector or base.beam, "-beam_vector"),
        fast=fast,
        slow=slow,
        normal=_normal(stated.normal_vector or base.normal, fast, slow),
        twotheta=unit(stated.twotheta_axis or base.twotheta_axis, "-twotheta_axis"),
        polarization=unit(stated.polar_vector or base.polarization, "-polar_vector"),
        spindle=unit(stated.spindle_axis or base.spindle, "-spindle_axis"),
    ), notes


def _normal(given: Vec3, fast: Vec3, slow: Vec3) -> Vec3:
    """nanoBragg: a normal whose length, as typed, is not exactly 1 is replaced by unit(fast × slow)."""
    return given if length(given) == 1.0 else unit(cross(fast, slow), "the normal of parallel detector axes")


def resolve_pivot(stated: Stated, axes: Axes) -> tuple[Pivot, list[Note]]:
    """What stays in place: -pivot, else the convention's, else what the last of the distance and centre flags implies.

    nanoBragg loses an explicit -pivot to a named convention; so does ``-compat nanobragg``.
    """
    own = axes.convention.pivot
    if stated.pivot is not None:
        if stated.compat != "nanobragg" or own is None or own == stated.pivot:
            return stated.pivot, []
        return own, [conflict(f"-compat nanobragg: convention {axes.convention.name} overrules -pivot {stated.pivot}")]
    if own is not None:
        return own, [choice(f"pivot {own}, the {axes.convention.name} convention's")]
    implied = [PIVOT_FLAGS[field] for field in stated.order if field in PIVOT_FLAGS]
    pivot: Pivot = implied[-1] if implied else "beam"
    return pivot, [choice(f"pivot {pivot}, " + ("from the last flag that implies one" if implied else "the default"))]
