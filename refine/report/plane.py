"""A detector on its mean plane, seen from the sample: where its panels lie, as the pages draw them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbtorch.config import DetectorConfig, PanelConfig
from nbtorch.models.detector import group_frame, root_group, start_frame
from refine.report.embedded import rounded

Array = NDArray[np.float64]


class Plane:
    """The mean plane of a detector: lab positions become (along fast, along slow) in mm."""

    def __init__(self, detector: DetectorConfig) -> None:
        frame = group_frame(detector, root_group(detector))
        self.axes, self.normal, self.centre = frame[:2], frame[2], frame[3]

    def project(self, positions: Array) -> Array:
        """[n, 3] mm in the lab → [n, 2] mm."""
        return np.asarray((positions - self.centre) @ self.axes.T)

    def local(self, positions: Array) -> Array:
        """[n, 3] mm in the lab → [n, 3] mm: along fast, along slow, along the normal."""
        return np.asarray((positions - self.centre) @ np.vstack([self.axes, self.normal]).T)

    def panel(self, panel: PanelConfig) -> dict[str, Any]:
        """Corner of pixel (0, 0), and one pixel along fast and slow (mm on the plane); the same in three dimensions."""
        fast, slow, _, origin = start_frame(panel)
        steps = fast * panel.pixel_size[0], slow * panel.pixel_size[1]
        flat = [self.project(origin[None])[0], *(self.axes @ step for step in steps)]
        solid = self.local(corners_of(panel))
        return {"flat": [rounded(v, 6) for v in flat], "corners": rounded(solid, 4)}


def corners_of(panel: PanelConfig) -> Array:
    """The four corners [4, 3] (mm, lab) of ``panel``, around it."""
    fast, slow, _, origin = start_frame(panel)
    along = np.array(panel.size) * panel.pixel_size
    return np.array(
        [origin, origin + along[0] * fast, origin + along[0] * fast + along[1] * slow, origin + along[1] * slow]
    )


def positions(panel: PanelConfig, pixels: Array) -> Array:
    """Lab positions [n, 3] (mm) of ``pixels`` [n, 2] (fast, slow)."""
    fast, slow, _, origin = start_frame(panel)
    across = pixels * np.array(panel.pixel_size)
    return np.asarray(origin + across[:, :1] * fast + across[:, 1:] * slow)


def panels(start: DetectorConfig, end: DetectorConfig) -> list[dict[str, Any]]:
    """Every panel before and after, on the plane of ``start``."""
    plane = Plane(start)
    return [
        {"name": now.name, "size": list(now.size), "start": plane.panel(before), "end": plane.panel(now)}
        for before, now in zip(start.panels, end.panels, strict=True)
    ]


def beam_on(plane: Plane, direction: tuple[float, float, float], wavelength: float) -> dict[str, Any]:
    """The beam as the page draws resolution rings: direction and sample in the plane's own axes, wavelength in Å."""
    axes = np.vstack([plane.axes, plane.normal])
    travel = np.asarray(direction) / np.linalg.norm(direction)
    return {
        "direction": rounded(axes @ travel, 9),
        "sample": rounded(axes @ -plane.centre, 5),
        "wavelength": wavelength,
    }
