"""Fields that NXmx masters have, whether or not they have chains of transformations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbtorch.errors import FileError
from nbtorch.io.geometry.nexus_axes import numbers, units
from nbtorch.io.geometry.nexus_reader import Reader
from nbtorch.io.geometry.units import HC, in_ev, in_mm
from nbtorch.io.hdf5.open import missing_target, text

SATURATION = (
    "saturation_value",
    "countrate_correction_count_cutoff",
    "detectorSpecific/countrate_correction_count_cutoff",
)


def children(file: Any, parent: str, kind: str) -> list[str]:
    """The groups of NX_class ``kind`` in ``parent`` that can be reached."""
    import h5py

    base = parent.rstrip("/")
    return [
        f"{base}/{name}"
        for name in file[parent]
        if missing_target(file, f"{base}/{name}") is None
        and isinstance(file.get(f"{base}/{name}"), h5py.Group)
        and text(file[f"{base}/{name}"].attrs.get("NX_class", "")) == kind
    ]


def child(file: Any, parent: str, kind: str) -> str:
    """The one group of NX_class ``kind`` in ``parent``. Raises FileError where there is none, or several."""
    found = children(file, parent, kind)
    if len(found) != 1:
        why = f"it has several {kind}: {', '.join(found)}" if found else f"it has no {kind}"
        raise FileError(f"{file.filename}, {parent}", f"{why}, so its geometry is not read", "Give an .expt")
    return found[0]


def beam_groups(entry: str, instrument: str) -> list[str]:
    """Where a wavelength may stand."""
    return [f"{instrument}/beam", f"{entry}/sample/beam", f"{instrument}/monochromator"]


def wavelengths_in(reader: Reader, groups: list[str]) -> tuple[NDArray[np.float64], str] | None:
    """(Å, one or one an image; the field's name), from a wavelength or an energy; None where there is neither."""
    item = reader.find(*(f"{group}/{name}" for group in groups for name in ("incident_wavelength", "wavelength")))
    if item is not None:
        where = f"{reader.file.filename}, {item.name}"
        return numbers(item) * in_mm(units(item, "angstrom"), where) * 1e7, item.name
    item = reader.find(*(f"{group}/{name}" for group in groups for name in ("incident_energy", "energy")))
    if item is None:
        return None
    return HC / (numbers(item) * in_ev(units(item, "eV"), f"{reader.file.filename}, {item.name}")), item.name


def trusted_range(reader: Reader, detector: str) -> tuple[float, float]:
    """(underload, saturation) of a detector; what it does not say is assumed, and said."""
    high = reader.find(*(f"{detector}/{name}" for name in SATURATION))
    low = reader.find(f"{detector}/underload_value")
    top = math.inf if high is None else float(numbers(high)[0])
    bottom = -1.0 if low is None else float(numbers(low)[0])
    if high is None:
        reader.say("saturation", "none", "no saturation_value", assumed=True)
    else:
        reader.say("saturation", f"{top:g}", high.name)
    return bottom, top
