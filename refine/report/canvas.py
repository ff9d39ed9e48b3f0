"""All panels of a frame as one picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nbtorch.config import DetectorConfig
from refine.report.plane import Plane, corners_of, positions

Array = NDArray[np.float64]
MAX_WIDTH = 1100  # pixels of a drawing


class Canvas:
    """All panels laid out on the detector's mean plane, as one image."""

    def __init__(self, detector: DetectorConfig) -> None:
        self.detector, self.plane = detector, Plane(detector)
        corners = np.concatenate([self.plane.project(corners_of(panel)) for panel in detector.panels])
        self.low = corners.min(0)
        pixel = max(detector.panels[0].pixel_size)
        size = np.ptp(corners, axis=0)
        # a whole number of pixels a dot, so that no row of dots gets one pixel more than its neighbours
        self.step = pixel * max(1, int(np.ceil(size[0] / pixel / MAX_WIDTH)))
        self.shape = tuple(int(n) for n in np.ceil(size / self.step - 1e-6))

    def place(self, panel: int, fast: float, slow: float) -> tuple[float, float]:
        """(x, y) of a place on a panel, in dots of the drawing."""
        lab = positions(self.detector.panels[panel], np.array([[fast, slow]]))
        x, y = (self.plane.project(lab)[0] - self.low) / self.step
        return round(float(x), 2), round(float(y), 2)

    def paint(self, counts: Sequence[np.ndarray], valid: Sequence[np.ndarray]) -> tuple[str, int, int]:
        """The frame as a PNG; a dot shows the brightest of its pixels, so that no spot is lost."""
        width, height = self.shape
        image = np.full(width * height, np.nan)
        for panel, values, good in zip(self.detector.panels, counts, valid, strict=True):
            slow, fast = np.nonzero(good)
            lab = positions(panel, np.stack([fast + 0.5, slow + 0.5], 1))
            dots = ((self.plane.project(lab) - self.low) / self.step).astype(int)
            inside = ((dots >= 0) & (dots < (width, height))).all(1)
            np.fmax.at(
                image, dots[inside, 1] * width + dots[inside, 0], values[slow[inside], fast[inside]].astype(float)
            )
        return _png(image.reshape(height, width)), width, height


def _png(image: Array) -> str:
    """Dark spots on a light ground, on a square-root scale to the 99.9th percentile; blue-grey was not measured."""
    measured = image[np.isfinite(image)]
    low, high = (float(np.percentile(measured, q)) for q in (5.0, 99.9)) if len(measured) else (0.0, 1.0)
    shade = np.sqrt(np.clip((image - low) / max(high - low, 1e-9, 4.0 - low), 0, 1))
    grey = np.where(np.isfinite(image), 255 - 225 * np.nan_to_num(shade), 0)
    pixels = np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)
    pixels[~np.isfinite(image)] = (205, 213, 224)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="png")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
