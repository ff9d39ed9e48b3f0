"""SMV headers: ADSC detectors, what simulators write, and the Timepix of electron diffraction.

BEAM_CENTER_X and _Y are in mm. Which axis X is they leave open: ADSC's count X along the slow axis from the outer edge
(the DENZO row of nbtorch.conventions). Simulators that sign themselves BEAMLINE=fake write ADXV's; Timepix in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nbtorch.conventions import Frame, convention
from nbtorch.errors import FileError
from nbtorch.io.geometry.simple import Header, Known

NUMBERS = (
    ("WAVELENGTH", "wavelength"),
    ("DISTANCE", "distance"),
    ("GAIN", "gain"),
)
#: 16-bit counters end here, less what the pedestal takes.
FULL_SCALE = 65535.0
#: The tilt axis of the microscope whose headers say BEAMLINE=TIMEPIX_SU (516 × 516 pixels).
TIMEPIX_SPINDLE = (0.7826, -0.6226, 0.0)


def smv_header(header: Mapping[str, str], path: Path) -> Header:
    """What an SMV header says. Raises FileError where a key does not hold a number."""
    found = {
        name: Known(_number(header, key, path), key) for key, name in NUMBERS if key in header and header[key].strip()
    }
    if "PIXEL_SIZE" in header:
        pixel = _number(header, "PIXEL_SIZE", path)
        found["pixel_size"] = Known((pixel, pixel), "PIXEL_SIZE")
        if {"BEAM_CENTER_X", "BEAM_CENTER_Y"} <= header.keys():
            found["beam_centre"] = beam_centre(header, pixel, path)
    if {"OSC_START", "OSC_RANGE"} <= header.keys():
        start, width = (_number(header, key, path) for key in ("OSC_START", "OSC_RANGE"))
        found |= _rotation(start, width)
    if header.get("TWOTHETA", "").strip() and _number(header, "TWOTHETA", path) != 0:
        found["two_theta"] = Known(_number(header, "TWOTHETA", path), "TWOTHETA")
    electrons = is_timepix(header)
    pedestal = 0.0 if electrons else _number(header, "IMAGE_PEDESTAL", path) if "IMAGE_PEDESTAL" in header else 0.0
    found["saturation"] = Known(FULL_SCALE - pedestal, "16 bits" + (" less IMAGE_PEDESTAL" if pedestal else ""))
    found["underload"] = Known(-1.0 - pedestal, "16 bits" + (" less IMAGE_PEDESTAL" if pedestal else ""))
    if pedestal:
        found["pedestal"] = Known(pedestal, "IMAGE_PEDESTAL")
    if electrons:
        if header.get("SIZE1") == header.get("SIZE2") == "512":
            raise FileError(
                str(path),
                "its chips meet in pixels three times as wide as the others (512 × 512 of TIMEPIX_SU)",
                "Give an .expt with its four panels (dials.import)",
            )
        if "oscillation" in found:
            found["spindle"] = Known(TIMEPIX_SPINDLE, "that microscope's, as dxtbx has it", assumed=True)
        found["polarization"] = Known(0.5, "BEAMLINE: electrons are not polarized", assumed=True)
    return found


def is_timepix(header: Mapping[str, str]) -> bool:
    """Whether the header is of the Timepix detector whose beam centre is in pixels."""
    return header.get("BEAMLINE", "").strip().upper() == "TIMEPIX_SU"


def beam_centre(header: Mapping[str, str], pixel: float, path: Path) -> Known:
    """The beam centre in pixels (fast, slow), by the convention that the header's author follows."""
    x, y = (_number(header, key, path) for key in ("BEAM_CENTER_X", "BEAM_CENTER_Y"))
    if is_timepix(header):
        return Known((x, y), "BEAM_CENTER_X, _Y in pixels, fast and slow (BEAMLINE=TIMEPIX_SU)")
    name = "ADXV" if header.get("BEAMLINE", "").strip() == "fake" else "DENZO"
    size = [_number(header, key, path) * pixel for key in ("SIZE1", "SIZE2")]
    if {"DENZO_X_BEAM", "DENZO_Y_BEAM"} <= header.keys():  # nanoBragg says it in every convention
        x, y = (_number(header, f"DENZO_{axis}_BEAM", path) for axis in "XY")
        fast, slow = convention("DENZO").beam_on_axes(x, y, Frame(size[0], size[1], pixel, x, y))
        return Known((fast / pixel, slow / pixel), "DENZO_X_BEAM, DENZO_Y_BEAM")
    fast, slow = convention(name).beam_on_axes(x, y, Frame(size[0], size[1], pixel, x, y))
    return Known(
        (fast / pixel, slow / pixel), f"BEAM_CENTER_X, _Y in mm, by the convention of {name}, which is assumed", True
    )


def _rotation(start: float, width: float) -> dict[str, Known]:
    """ADSC headers say a negative width for a spindle that turns the other way."""
    if width >= 0:
        return {"oscillation": Known((start, width), "OSC_START, OSC_RANGE")}
    return {
        "oscillation": Known((start, -width), "OSC_START, −OSC_RANGE"),
        "spindle": Known((-1.0, 0.0, 0.0), "along −x, since OSC_RANGE is negative", assumed=True),
    }


def _number(header: Mapping[str, str], key: str, path: Path) -> float:
    try:
        return float(header[key].split()[0])
    except (KeyError, ValueError, IndexError) as error:
        given = f"{path}, header key {key}={header.get(key, '')}"
        raise FileError(given, "it should hold a number", "Give the geometry.* setting that it stands for") from error
