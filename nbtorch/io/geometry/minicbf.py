"""miniCBF: the comment lines that Dectris detectors (Pilatus, Eiger) write, ``# Key value unit``."""

from __future__ import annotations

import re

from nbtorch.io.geometry.modules import gaps
from nbtorch.io.geometry.simple import Header, Known, Rectangle
from nbtorch.io.geometry.units import HC

#: How the header names what a line holds: (name, pattern of its line, factor to our unit).
_NUMBER = r"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?"
FIELDS = (
    ("wavelength", rf"Wavelength\s+({_NUMBER})\s*A", 1.0),
    ("distance", rf"Detector_distance\s+({_NUMBER})\s*m\b", 1e3),
    ("saturation", rf"Count_cutoff\s+({_NUMBER})", 1.0),
)
PAIRS = (
    ("beam_centre", rf"Beam_xy\s+\(\s*({_NUMBER}),\s*({_NUMBER})\)\s*pixels", 1.0),
    ("pixel_size", rf"Pixel_size\s+({_NUMBER})\s*m\s*x\s*({_NUMBER})\s*m\b", 1e3),
)
SENSOR = re.compile(rf"^#\s*(Silicon|CdTe|CZT|GaAs)\s+sensor,?\s+thickness\s+({_NUMBER})\s*m\b", re.MULTILINE)
ANGLES = re.compile(
    rf"^#\s*Start_angle\s+({_NUMBER})\s*deg[\s\S]*?^#\s*Angle_increment\s+({_NUMBER})\s*deg", re.MULTILINE
)
MATERIALS = {"Silicon": "Si"}


def is_minicbf(text: str) -> bool:
    """Whether the header's text has comment lines of geometry."""
    return re.search(r"^#\s*(Pixel_size|Detector_distance|Beam_xy|Detector:)", text, re.MULTILINE) is not None


def minicbf_header(text: str) -> Header:
    """What the comment lines say."""
    found: dict[str, Known] = {}
    for name, pattern, factor in FIELDS:
        match = re.search(rf"^#\s*{pattern}", text, re.MULTILINE)
        if match:
            found[name] = Known(float(match[1]) * factor, f"# {_key(pattern)}")
    for name, pattern, factor in PAIRS:
        match = re.search(rf"^#\s*{pattern}", text, re.MULTILINE)
        if match:
            found[name] = Known((float(match[1]) * factor, float(match[2]) * factor), f"# {_key(pattern)}")
    energy = re.search(rf"^#\s*(?:Photon_energy|Energy)\s+({_NUMBER})\s*eV", text, re.MULTILINE)
    if "wavelength" not in found and energy and float(energy[1]) > 0:
        found["wavelength"] = Known(HC / float(energy[1]), "# Photon_energy")
    sensor = SENSOR.search(text)
    if sensor:
        found["thickness"] = Known(float(sensor[2]) * 1e3, f"# {sensor[1]} sensor, thickness")
        found["material"] = Known(MATERIALS.get(sensor[1], sensor[1]), f"# {sensor[1]} sensor")
    angles = ANGLES.search(text)
    if angles:
        found["oscillation"] = Known((float(angles[1]), float(angles[2])), "# Start_angle, Angle_increment")
    swung = re.search(rf"^#\s*Detector_2theta\s+({_NUMBER})\s*deg", text, re.MULTILINE)
    if swung:
        found["two_theta"] = Known(float(swung[1]), "# Detector_2theta")
    return found


def minicbf_gaps(text: str, size: tuple[int, int]) -> tuple[Rectangle, ...]:
    """The gaps of the detector that the header names."""
    name = re.search(r"^#\s*Detector:\s*(.*)", text, re.MULTILINE)
    return gaps(name[1] if name else "", size)


def _key(pattern: str) -> str:
    return pattern.split("\\")[0]
