"""What a user states instead of a header that has its geometry as axes in space."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from nbtorch.config import DetectorConfig, GoniometerConfig, PanelConfig, ScanConfig
from nbtorch.errors import ConfigError
from nbtorch.io.expt.detector import vec3
from nbtorch.io.geometry.sensor import attenuation_length
from nbtorch.io.geometry.simple import Known, show
from nbtorch.io.geometry.types import HeaderGeometry, Stated

#: Directions of axes are the header's own here: another direction would need the whole chain.
FIXED = ("fast_axis", "slow_axis", "two_theta", "two_theta_axis")
PER_PANEL = ("thickness", "material", "saturation", "underload", "gain", "pedestal")


def moved(geometry: HeaderGeometry, stated: Mapping[str, Known]) -> HeaderGeometry:
    """``geometry`` with what the user has ``stated``.

    ``distance`` moves the whole detector along the normal of its first panel, ``beam_centre`` within that panel's plane
    until the beam hits it at that pixel. Raises ConfigError for directions, which such a header states as axes.
    """
    for name in FIXED:
        if name in stated:
            raise ConfigError(
                f"geometry.{name}",
                "this file's header states the directions of its detector axis by axis",
                "Leave it out, or give the whole geometry as an .expt in data.experiment",
            )
    beam, panels = geometry.beam, geometry.detector.panels
    if "wavelength" in stated:
        beam = replace(beam, wavelength=float(stated["wavelength"].value))
    if "polarization" in stated:
        beam = replace(beam, kahn_factor=2.0 * float(stated["polarization"].value) - 1.0)
    panels = tuple(_with_numbers(panel, stated, beam.wavelength) for panel in panels)
    shift = _shift(panels[0], np.asarray(beam.direction), stated)
    if shift.any():
        panels = tuple(replace(panel, origin=vec3(np.asarray(panel.origin) + shift)) for panel in panels)
    goniometer, scan = _rotation(geometry, stated)
    said = [item for item in geometry.stated if item.name not in stated]
    said += [Stated(name, show(name, known.value), known.origin) for name, known in stated.items()]
    detector = DetectorConfig(panels, geometry.detector.hierarchy)
    return replace(
        geometry, beam=beam, detector=detector, goniometer=goniometer, scan=scan, stated=tuple(said),
        wavelengths=() if "wavelength" in stated else geometry.wavelengths,
        angles=() if "oscillation" in stated else geometry.angles,
    )  # fmt: skip


def _with_numbers(panel: PanelConfig, stated: Mapping[str, Known], wavelength: float) -> PanelConfig:
    value = {name: stated[name].value for name in PER_PANEL if name in stated}
    low, high = panel.trusted_range
    panel = replace(
        panel,
        pixel_size=stated["pixel_size"].value if "pixel_size" in stated else panel.pixel_size,
        thickness=value.get("thickness", panel.thickness),
        material=value.get("material", panel.material),
        trusted_range=(value.get("underload", low), value.get("saturation", high)),
        gain=value.get("gain", panel.gain),
        pedestal=value.get("pedestal", panel.pedestal),
    )
    if not {"thickness", "material", "wavelength"} & set(stated):
        return panel
    length = attenuation_length(panel.material, wavelength) if panel.thickness > 0 else math.inf
    return replace(panel, attenuation_length=length)


def _shift(panel: PanelConfig, travel: np.ndarray, stated: Mapping[str, Known]) -> np.ndarray:
    """By how much [3] mm the detector moves, so that its first panel stands at the distance and centre stated."""
    fast, slow, origin = (np.asarray(v, dtype=float) for v in (panel.fast_axis, panel.slow_axis, panel.origin))
    normal = np.cross(fast, slow)
    shift = np.zeros(3)
    if "distance" in stated:
        now = float(origin @ normal)
        shift = normal * (math.copysign(float(stated["distance"].value), now) - now)
    if "beam_centre" in stated:
        across = float(travel @ normal)
        if abs(across) < 1e-6:
            raise ConfigError("geometry.beam_centre", "the beam runs along the detector's plane", "Leave it out")
        hit = travel * float((origin + shift) @ normal) / across
        centre = np.asarray(stated["beam_centre"].value) * np.asarray(panel.pixel_size)
        shift = hit - fast * centre[0] - slow * centre[1] - origin
    return shift


def _rotation(
    geometry: HeaderGeometry, stated: Mapping[str, Known]
) -> tuple[GoniometerConfig | None, ScanConfig | None]:
    goniometer, scan = geometry.goniometer, geometry.scan
    if "oscillation" in stated:
        start, width = stated["oscillation"].value
        scan = ScanConfig(start, width, geometry.n_frames) if width else None
        goniometer = (goniometer or GoniometerConfig((1.0, 0.0, 0.0))) if width else None
    if "spindle" in stated and goniometer is not None:
        axis = np.asarray(stated["spindle"].value, dtype=float)
        goniometer = replace(goniometer, axis=vec3(axis / np.linalg.norm(axis)))
    return goniometer, scan
