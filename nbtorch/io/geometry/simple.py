"""Headers that describe one flat detector by a few numbers: what each is called, and the geometry they make.

The frame is that of imgCIF and dxtbx: the beam travels along −z. At 2θ = 0 the detector stands at −distance along z,
the beam hits it at the beam centre, and 2θ turns the whole of it about an axis through the sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbtorch.config import BeamConfig, DetectorConfig, GoniometerConfig, PanelConfig, ScanConfig, Vec3
from nbtorch.errors import ConfigError, FileError
from nbtorch.io.expt.detector import vec3
from nbtorch.io.expt.goniometer import rotation
from nbtorch.io.geometry.sensor import attenuation_length
from nbtorch.io.geometry.types import HeaderGeometry, Stated

Rectangle = tuple[int, int, int, int]


@dataclass(frozen=True)
class Known:
    """One number, or several that belong together, and the header field or assumption behind it."""

    value: Any
    origin: str
    assumed: bool = False


@dataclass(frozen=True)
class Quantity:
    """What a name means: its unit, how many numbers it has, and whether there is no geometry without it."""

    unit: str
    count: int
    what: str
    needed: bool = False
    text: bool = False


#: What a header may say and a user may state, by the name of the setting ``geometry.*``.
QUANTITIES = {
    "wavelength": Quantity("Å", 1, "wavelength", needed=True),
    "distance": Quantity("mm", 1, "distance from the sample along the detector's normal", needed=True),
    "beam_centre": Quantity("px", 2, "where the beam hits the detector at 2θ = 0, fast and slow", needed=True),
    "pixel_size": Quantity("mm", 2, "pixel size, fast and slow", needed=True),
    "fast_axis": Quantity("", 3, "direction of the fast axis at 2θ = 0"),
    "slow_axis": Quantity("", 3, "direction of the slow axis at 2θ = 0"),
    "two_theta": Quantity("°", 1, "how far the detector is swung out"),
    "two_theta_axis": Quantity("", 3, "direction of the axis of 2θ"),
    "spindle": Quantity("", 3, "direction of the rotation axis"),
    "oscillation": Quantity("°", 2, "start and width of the first frame; width 0: stills"),
    "thickness": Quantity("mm", 1, "thickness of the sensor"),
    "material": Quantity("", 1, "material of the sensor", text=True),
    "saturation": Quantity("counts", 1, "highest count that can be trusted"),
    "underload": Quantity("counts", 1, "counts at and below this are no measurement"),
    "gain": Quantity("counts a photon", 1, "gain"),
    "pedestal": Quantity("counts", 1, "counts without light"),
    "polarization": Quantity("", 1, "fraction of the light polarized in the plane of xz"),
}
Header = Mapping[str, Known]
DEFAULTS: Header = {
    "fast_axis": Known((1.0, 0.0, 0.0), "along +x", assumed=True),
    "slow_axis": Known((0.0, -1.0, 0.0), "along −y", assumed=True),
    "two_theta": Known(0.0, "no header field", assumed=True),
    "two_theta_axis": Known((1.0, 0.0, 0.0), "along +x", assumed=True),
    "spindle": Known((1.0, 0.0, 0.0), "along +x", assumed=True),
    "oscillation": Known((0.0, 0.0), "no header field: a still", assumed=True),
    "thickness": Known(0.0, "no header field", assumed=True),
    "material": Known("", "no header field", assumed=True),
    "saturation": Known(math.inf, "no header field", assumed=True),
    "underload": Known(-1.0, "no header field", assumed=True),
    "gain": Known(1.0, "no header field", assumed=True),
    "pedestal": Known(0.0, "no header field", assumed=True),
    "polarization": Known(0.999, "no header field", assumed=True),
}


def as_stated(name: str, value: Any) -> Known:
    """``value`` of the user's for ``name``. Raises ConfigError for an unknown name or another number of numbers."""
    quantity = QUANTITIES.get(name)
    if quantity is None:
        raise ConfigError(f"geometry.{name}", "there is no such quantity", f"Use one of: {', '.join(QUANTITIES)}")
    if name == "pixel_size" and isinstance(value, (int, float)):
        value = (float(value), float(value))
    if quantity.count > 1 and (not isinstance(value, (tuple, list)) or len(value) != quantity.count):
        raise ConfigError(f"geometry.{name}={value}", f"it should be {quantity.count} numbers", quantity.what)
    return Known(tuple(value) if quantity.count > 1 else value, f"geometry.{name}, as stated")


def refuse_unknown(header: Header, path: str, example: str = "") -> None:
    """Raise FileError naming everything that neither the header nor the user says."""
    absent = [name for name, quantity in QUANTITIES.items() if quantity.needed and name not in header]
    if absent:
        what = ", ".join(QUANTITIES[name].what for name in absent)
        options = " ".join(f"geometry.{name}={_dummy(QUANTITIES[name])}" for name in absent)
        raise FileError(path, f"its header does not say: {what}", f"Give {options}{example}")


def refuse_open_two_theta(header: Header, path: str) -> None:
    """Raise FileError for a detector that is swung out about an axis that nobody names."""
    swung = header.get("two_theta")
    if swung is not None and swung.value != 0 and "two_theta_axis" not in header:
        raise FileError(
            f"{path}, {swung.origin} {swung.value:g}°",
            "the header does not say about which axis the detector is swung out",
            "Give geometry.two_theta_axis=[1,0,0] or another direction (x and y along the edges of the detector as "
            "geometry.fast_axis and geometry.slow_axis say, z to the source), or geometry.two_theta=0",
        )


def _dummy(quantity: Quantity) -> str:
    unit = quantity.unit.upper().replace(" ", "_")
    return unit if quantity.count == 1 else f"[{','.join([unit or '…'] * quantity.count)}]"


def simple_geometry(
    header: Header, size: tuple[int, int], path: str, *, mask: tuple[Rectangle, ...] = (), notes: tuple[str, ...] = ()
) -> HeaderGeometry:
    """The geometry of a flat detector of ``size`` (fast, slow) pixels from the numbers of its header.

    Raises FileError where a number that is needed is missing, or one is out of range.
    """
    refuse_unknown(header, path)
    refuse_open_two_theta(header, path)
    used = {**DEFAULTS, **header}
    for name in ("wavelength", "distance"):
        if not used[name].value > 0:
            raise FileError(
                f"{path}, {used[name].origin}", f"the {name} is {used[name].value}", f"Give geometry.{name}"
            )
    if not min(used["pixel_size"].value) > 0:
        raise FileError(f"{path}, {used['pixel_size'].origin}", "its pixels have no size", "Give geometry.pixel_size")
    start, width = used["oscillation"].value
    goniometer, scan = None, None
    if width != 0:
        goniometer, scan = GoniometerConfig(_unit(used["spindle"].value)), ScanConfig(start, width, 1)
    return HeaderGeometry(
        simple_beam(used),
        DetectorConfig((_panel(used, size, mask),)),
        goniometer,
        scan,
        1,
        _said(used, width),
        notes=notes,
    )


def simple_beam(used: Header) -> BeamConfig:
    """The beam along −z, polarized along x by the header's fraction."""
    fraction = float(used["polarization"].value)
    return BeamConfig(
        float(used["wavelength"].value),
        direction=(0.0, 0.0, -1.0),
        polarization_axis=(-1.0, 0.0, 0.0),
        kahn_factor=2.0 * fraction - 1.0,
    )


def _panel(used: Header, size: tuple[int, int], mask: tuple[Rectangle, ...]) -> PanelConfig:
    fast, slow = (np.asarray(_unit(used[name].value)) for name in ("fast_axis", "slow_axis"))
    pixel, centre = used["pixel_size"].value, used["beam_centre"].value
    origin = np.array([0.0, 0.0, -float(used["distance"].value)])
    origin = origin - fast * centre[0] * pixel[0] - slow * centre[1] * pixel[1]
    turn = rotation(used["two_theta_axis"].value, used["two_theta"].value)
    thickness, material = float(used["thickness"].value), str(used["material"].value)
    length = attenuation_length(material, used["wavelength"].value) if thickness > 0 else math.inf
    return PanelConfig(
        vec3(turn @ fast + 0.0), vec3(turn @ slow + 0.0), vec3(turn @ origin + 0.0), tuple(pixel), size,
        name="Panel", thickness=thickness, attenuation_length=length, material=material,
        trusted_range=(used["underload"].value, used["saturation"].value),
        gain=used["gain"].value, pedestal=used["pedestal"].value, mask=mask,
    )  # fmt: skip


def _said(used: Header, width: float) -> tuple[Stated, ...]:
    """What is said of the numbers: those of a rotation only where there is one, those of 2θ where it is swung out."""
    hidden = set() if width else {"spindle"}
    hidden |= set() if used["two_theta"].value else {"two_theta_axis"}
    hidden |= {"material"} if not used["thickness"].value else set()
    return tuple(
        Stated(name, show(name, used[name].value), used[name].origin, used[name].assumed)
        for name in QUANTITIES
        if name in used and name not in hidden
    )


def show(name: str, value: Any) -> str:
    """``value`` of ``name`` as text with its unit."""
    numbers = value if isinstance(value, (tuple, list)) else (value,)
    text = " ".join(item if isinstance(item, str) else f"{item:.9g}" for item in numbers)
    return f"{text} {QUANTITIES[name].unit}".strip()


def _unit(vector: Vec3) -> Vec3:
    length = math.sqrt(sum(x * x for x in vector))
    if not length > 0:
        raise ConfigError(f"a direction {list(vector)}", "it has no length", "Give three numbers")
    x, y, z = (value / length for value in vector)
    return x, y, z
