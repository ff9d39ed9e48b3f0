"""One word of a command line to one value, in mm, Å and degrees. Each raises ValueError for a word it cannot take."""

from __future__ import annotations

import math
from collections.abc import Callable

from nbtorch.units import METRES_PER_MM, MM_PER_MICRON, wavelength_from_energy


def number(text: str) -> float:
    """A finite number. Raises ValueError."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def count(text: str) -> int:
    """A whole number; "5." and "1e3" are whole. Raises ValueError."""
    value = number(text)
    if value != int(value):
        raise ValueError(text)
    return int(value)


def microns(text: str) -> float:
    """µm to mm."""
    return number(text) * MM_PER_MICRON


def attenuation(text: str) -> float:
    """An attenuation depth, µm to mm; "inf" and 0 both mean that nothing is absorbed."""
    return math.inf if text.lower() == "inf" or number(text) == 0 else microns(text)


def metres(text: str) -> float:
    """Metres to mm."""
    return number(text) / METRES_PER_MM


def electronvolts(text: str) -> float:
    """Photon energy (eV) to wavelength (Å)."""
    return wavelength_from_energy(number(text))


def choice(*names: str) -> Callable[[str], str]:
    """A reader of one of ``names``, in any case."""

    def read(text: str) -> str:
        if text.lower() not in names:
            raise ValueError(text)
        return text.lower()

    return read
