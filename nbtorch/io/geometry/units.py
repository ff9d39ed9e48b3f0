"""Units as headers spell them. An unknown one is an error that names it."""

from __future__ import annotations

import math

from nbtorch.errors import FileError

_LENGTHS = {  # mm
    **dict.fromkeys(("m", "metre", "metres", "meter", "meters"), 1e3),
    **dict.fromkeys(("mm", "millimetre", "millimeter", "millimeters", "millimetres"), 1.0),
    **dict.fromkeys(("cm",), 10.0),
    **dict.fromkeys(("um", "µm", "micron", "microns", "micrometer", "micrometre"), 1e-3),
    **dict.fromkeys(("nm",), 1e-6),
    **dict.fromkeys(("a", "å", "angstrom", "angstroms"), 1e-7),
}
_ANGLES = {  # degrees
    **dict.fromkeys(("deg", "degree", "degrees", "deg."), 1.0),
    **dict.fromkeys(("rad", "radian", "radians"), 180.0 / math.pi),
    **dict.fromkeys(("mrad",), 0.18 / math.pi),
}
_ENERGIES = {"ev": 1.0, "kev": 1e3, "j": 1.0 / 1.602176634e-19}  # eV
#: Å · eV
HC = 12398.419843320026


def in_mm(unit: str, where: str) -> float:
    """How many mm one ``unit`` is."""
    return _factor(_LENGTHS, unit, where, "a length")


def in_degrees(unit: str, where: str) -> float:
    """How many degrees one ``unit`` is."""
    return _factor(_ANGLES, unit, where, "an angle")


def in_ev(unit: str, where: str) -> float:
    """How many eV one ``unit`` is."""
    return _factor(_ENERGIES, unit, where, "an energy")


def _factor(table: dict[str, float], unit: str, where: str, what: str) -> float:
    factor = table.get(unit.strip().lower())
    if factor is None:
        raise FileError(f"{where}, units {unit!r}", f"it is no known unit of {what}", f"Use one of {', '.join(table)}")
    return factor
