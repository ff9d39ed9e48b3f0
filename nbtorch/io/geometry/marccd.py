"""MarCCD and Rayonix: a TIFF whose bytes 1024 to 4096 are the maker's header (Rayonix, MarCCD header documentation).

Angles are in 1/1000 degree, lengths in 1/1000 mm or pixel, pixel sizes in nm, wavelengths in fm. X is the fast axis.
"""

from __future__ import annotations

import struct
from pathlib import Path

from nbtorch.errors import FileError
from nbtorch.io.geometry.simple import Header, Known

HEADER_BYTES = 4096
#: Where the image says its own size, which tells this header from any other TIFF.
SIZE_AT, SATURATED_AT, DISTANCE_AT, BEAM_AT = 1104, 1128, 1664, 1668
START_ANGLES_AT, START_DISTANCE_AT, END_ANGLES_AT, AXIS_AT, RANGE_AT = 1692, 1720, 1724, 1756, 1760
TURNED_AT, PIXEL_AT, BIAS_AT, WAVELENGTH_AT = 1764, 1796, 1804, 1932
ANGLES = ("2θ", "ω", "χ", "κ", "φ", "δ", "γ")


def is_marccd(head: bytes) -> bool:
    """Whether a TIFF begins with the maker's header: the byte order stands in it again, at 1024 + 28."""
    if head[:4] not in (b"II*\0", b"MM\0*") or len(head) < HEADER_BYTES:
        return False
    fast, slow, depth = _unpack(head, SIZE_AT, 3)
    ones, *zeros = _unpack(head, 1136, 4)
    return 0 < fast < 65536 and 0 < slow < 65536 and depth in (1, 2, 4) and ones == 1 and not any(zeros)


def marccd_header(head: bytes, path: Path) -> tuple[Header, tuple[int, int]]:
    """(what the header says, pixels fast and slow). Raises FileError for a detector turned about its own axes."""
    found: dict[str, Known] = {}
    distance = _unpack(head, DISTANCE_AT, 1)[0] or _unpack(head, START_DISTANCE_AT, 1)[0]
    if distance > 0:
        found["distance"] = Known(distance * 1e-3, "xtal_to_detector")
    beam, pixel = _unpack(head, BEAM_AT, 2), _unpack(head, PIXEL_AT, 2)
    if any(beam):
        found["beam_centre"] = Known(
            (beam[0] * 1e-3, beam[1] * 1e-3), "beam_x, beam_y: X taken for the fast axis", True
        )
    if min(pixel) > 0:
        found["pixel_size"] = Known((pixel[0] * 1e-6, pixel[1] * 1e-6), "pixelsize_x, pixelsize_y")
    wavelength = _unpack(head, WAVELENGTH_AT, 1)[0]
    if wavelength > 0:
        found["wavelength"] = Known(wavelength * 1e-5, "source_wavelength")
    saturated = _unpack(head, SATURATED_AT, 1)[0]
    if saturated > 0:
        found["saturation"] = Known(float(saturated), "saturated_value")
    bias = float(round(_unpack(head, BIAS_AT, 1)[0] * 1e-3))
    found["pedestal"] = Known(bias, "mean_bias")
    found["underload"] = Known(0.0, "an unsigned image has nothing below 0", assumed=True)
    found |= _angles(head, path)
    size = _unpack(head, SIZE_AT, 2)
    return found, (size[0], size[1])


def _angles(head: bytes, path: Path) -> dict[str, Known]:
    starts, ends = _unpack(head, START_ANGLES_AT, 7), _unpack(head, END_ANGLES_AT, 7)
    axis, width = _unpack(head, AXIS_AT, 1)[0], _unpack(head, RANGE_AT, 1)[0]
    if any(_unpack(head, TURNED_AT, 3)):
        raise FileError(str(path), "its detector is turned about its own axes (detector_rotx, y, z)", "Give an .expt")
    found = {"two_theta": Known(starts[0] * 1e-3, "start_twotheta")}
    if starts[0]:
        found["two_theta_axis"] = Known((1.0, 0.0, 0.0), "along +x", assumed=True)
    moving = [name for number, name in enumerate(ANGLES) if number != axis and starts[number] != ends[number]]
    if moving:
        raise FileError(str(path), f"{', '.join(moving)} moves during the frame beside its scan axis", "Give an .expt")
    if not 0 <= axis < len(ANGLES):
        raise FileError(str(path), f"its rotation_axis {axis} is none of 0 … 6", "Give geometry.oscillation")
    found["oscillation"] = Known((starts[axis] * 1e-3, width * 1e-3), f"start of {ANGLES[axis]}, rotation_range")
    return found


def _unpack(head: bytes, where: int, count: int) -> tuple[int, ...]:
    order = "<" if head[:2] == b"II" else ">"
    return struct.unpack_from(f"{order}{count}i", head, where)
