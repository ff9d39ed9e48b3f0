"""What a user states of the geometry, before what the headers of frames say."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from nbtorch.config import Vec3
from refine.settings.limits import NOT_NEGATIVE, POSITIVE, Limit, check


@dataclass(frozen=True)
class GeometrySettings:
    """One field a quantity of ``nbtorch.io.geometry.QUANTITIES``, in its unit; None: what the header says."""

    wavelength: float | None = None
    distance: float | None = None
    beam_centre: tuple[float, float] | None = None
    pixel_size: float | tuple[float, float] | None = None
    fast_axis: Vec3 | None = None
    slow_axis: Vec3 | None = None
    two_theta: float | None = None
    two_theta_axis: Vec3 | None = None
    spindle: Vec3 | None = None
    oscillation: tuple[float, float] | None = None
    thickness: float | None = None
    material: str | None = None
    saturation: float | None = None
    underload: float | None = None
    gain: float | None = None
    pedestal: float | None = None
    polarization: float | None = None

    def __post_init__(self) -> None:
        limits = dict.fromkeys(("wavelength", "distance", "pixel_size", "gain"), POSITIVE)
        check("geometry", self, limits | {"thickness": NOT_NEGATIVE, "polarization": Limit(0, 1)})

    def stated(self) -> dict[str, Any]:
        """Name → value of what was stated."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
