"""dxtbx beams. ``direction`` points from the sample to the source: the beam travels the other way.

The polarization is a plane normal and the fraction in that plane; E = unit(normal × travel), K = 2·fraction − 1, and
back on writing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nbtorch.config import BeamConfig
from nbtorch.io.amplitudes.types import Radiation
from nbtorch.io.expt.detector import vec3
from nbtorch.io.expt.node import Node


def read_beam(node: Node) -> BeamConfig:
    """A beam of the document. Raises FileError for a direction of no length or a normal along the beam, and for beams
    of many wavelengths (time of flight)."""
    kind = node.text("__id__")
    if kind not in ("", "monochromatic"):
        node.fail(f"its beam is {kind!r}, not of one wavelength (Laue or time of flight), which is not modelled")
    direction = np.array(node["direction"].vec3())
    if not np.linalg.norm(direction) > 0:
        node["direction"].fail("a direction needs a length")
    travel = 0.0 - direction / np.linalg.norm(direction)  # 0 - x: no negative zeros
    normal = (
        np.array(node["polarization_normal"].vec3()) if node.has("polarization_normal") else np.array([0.0, 1.0, 0.0])
    )
    electric = np.cross(normal, travel)
    if np.linalg.norm(electric) < 1e-6 * np.linalg.norm(normal) or not np.any(normal):
        node["polarization_normal"].fail("the normal of the polarization plane has no length or lies along the beam")
    fraction = node.optional("polarization_fraction", 0.999)
    if not 0.0 <= fraction <= 1.0:
        node["polarization_fraction"].fail(f"a fraction lies in 0 … 1, not at {fraction}")
    wavelength = node["wavelength"].number()
    if wavelength <= 0:
        node["wavelength"].fail(f"a wavelength is more than 0 Å, not {wavelength}")
    return BeamConfig(
        wavelength=wavelength,
        direction=vec3(travel),
        polarization_axis=vec3(electric / np.linalg.norm(electric)),
        kahn_factor=2.0 * fraction - 1.0,
    )


def read_radiation(node: Node) -> Radiation | None:
    """What a beam of the document is made of; None where it does not say. Raises FileError for neutrons."""
    probe = node.text("probe")
    if probe not in ("", "x-ray", "electron"):
        node["probe"].fail(f"a beam of {probe!r} is not modelled: X-rays and electrons are")
    return "electron" if probe == "electron" else "x-ray" if probe else None


def patch_beam(document: dict[str, Any], before: BeamConfig, after: BeamConfig) -> dict[str, Any]:
    """A copy of a beam's JSON with direction, wavelength and polarization of ``after``; what did not change stays.

    The beams at scan points go where direction or wavelength changed: they are another refinement's.
    """
    patched = dict(document)
    if (after.direction, after.wavelength) != (before.direction, before.wavelength):
        patched.pop("s0_at_scan_points", None)
    travel = np.array(after.direction) / np.linalg.norm(after.direction)
    if after.direction != before.direction:
        patched["direction"] = [float(0.0 - x) for x in travel]
    if after.wavelength != before.wavelength:
        patched["wavelength"] = after.wavelength
    if after.polarization_axis != before.polarization_axis:
        normal = np.cross(travel, after.polarization_axis)
        patched["polarization_normal"] = [float(x) for x in normal / np.linalg.norm(normal)]
    if after.kahn_factor is not None and after.kahn_factor != before.kahn_factor:
        patched["polarization_fraction"] = (1.0 + after.kahn_factor) / 2.0
    return patched
