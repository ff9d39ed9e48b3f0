"""The detector as it stands, seen from the sample, with the residual of every spot drawn as an arrow."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nbtorch.config import DetectorConfig, PanelConfig
from nbtorch.models.detector import group_frame, root_group, start_frame
from refine.records.outcome import Outcome, SpotRow
from refine.report.figures import FAINT, GRID, HELDOUT, INK, USED, style, svg

Array = NDArray[np.float64]
ARROW_SHARE = 0.06  # of the detector's width, for an arrow of typical length
NICE = (1, 2, 5)


def residual_arrows(outcome: Outcome) -> str | None:
    """Before and after, side by side; each says how much its arrows are lengthened. None without observed spots."""
    seen = [spot for spot in outcome.spots if spot.observed_fast_px is not None and (spot.used or spot.heldout)]
    if not seen:
        return None
    plane = Plane(outcome.detector_start)
    width, height = plane.extent()
    with _Tall(width, height) as figure:
        for axes, end in zip(figure.subplots(1, 2, sharex=True, sharey=True), (False, True), strict=True):
            _draw(axes, outcome.detector_end if end else outcome.detector_start, plane, seen, end=end)
        return svg(figure)


class _Tall:
    """A two-column figure whose height follows the detector's shape."""

    def __init__(self, width: float, height: float) -> None:
        self.style = style()
        self.size = (13.0, float(np.clip(6.0 * height / width, 2.6, 8.5)) + 1.0)

    def __enter__(self) -> Figure:
        self.style.__enter__()
        return Figure(self.size, layout="constrained")

    def __exit__(self, *error: object) -> None:
        self.style.__exit__(None, None, None)


class Plane:
    """The mean plane of a detector: lab positions become (along fast, along slow) in mm."""

    def __init__(self, detector: DetectorConfig) -> None:
        frame = group_frame(detector, root_group(detector))
        self.axes, self.centre, self.detector = frame[:2], frame[3], detector

    def project(self, positions: Array) -> Array:
        """[n, 3] mm in the lab → [n, 2] mm."""
        return np.asarray((positions - self.centre) @ self.axes.T)

    def extent(self) -> tuple[float, float]:
        """Width and height (mm) of the whole detector."""
        corners = np.concatenate([self.project(corners_of(panel)) for panel in self.detector.panels])
        width, height = np.ptp(corners, axis=0)
        return float(width), float(height)


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


def _draw(axes: Axes, detector: DetectorConfig, plane: Plane, seen: list[SpotRow], *, end: bool) -> None:
    outlines = [plane.project(corners_of(panel)) for panel in detector.panels]
    axes.add_collection(PolyCollection(outlines, facecolors="#f6f8fb", edgecolors=FAINT, linewidths=0.7))
    tail, head = np.empty((len(seen), 2)), np.empty((len(seen), 2))
    for index, spot in enumerate(seen):
        predicted = (spot.end_fast_px, spot.end_slow_px) if end else (spot.start_fast_px, spot.start_slow_px)
        pair = np.array([predicted, (spot.observed_fast_px, spot.observed_slow_px)], dtype=float)
        tail[index], head[index] = plane.project(positions(detector.panels[spot.panel], pair))
    delta = head - tail
    scale = _magnification(delta, plane.extent()[0])
    used = np.array([spot.used for spot in seen])
    for chosen, colour in ((used, USED), (~used, HELDOUT)):
        if chosen.any():
            axes.quiver(
                *tail[chosen].T, *(scale * delta[chosen]).T, color=colour, angles="xy", scale_units="xy", scale=1,
                width=0.0035, headwidth=3.5, headlength=4.5, headaxislength=4, minlength=0.4,
            )  # fmt: skip
    rms = outcome_rms(seen, end=end)
    axes.set_title(f"{'after' if end else 'before'}: rms {rms:.2f} px, arrows ×{scale:g}", color=INK)
    axes.set_aspect("equal")
    axes.grid(False)
    axes.autoscale_view()
    if not axes.yaxis_inverted():
        axes.invert_yaxis()
    axes.set_xlabel("along fast, mm")
    if not end:
        axes.set_ylabel("along slow, mm")
    for spine in axes.spines.values():
        spine.set_color(GRID)


def outcome_rms(seen: list[SpotRow], *, end: bool) -> float:
    """Two-dimensional rms (pixels) of the spots drawn."""
    squares = [
        (float(s.observed_fast_px or 0) - (s.end_fast_px if end else s.start_fast_px)) ** 2
        + (float(s.observed_slow_px or 0) - (s.end_slow_px if end else s.start_slow_px)) ** 2
        for s in seen
    ]
    return math.sqrt(float(np.mean(squares)))


def _magnification(delta: Array, width: float) -> float:
    """A round factor that makes the typical arrow ARROW_SHARE of the detector's width."""
    typical = float(np.sqrt(np.mean((delta**2).sum(1))))
    if typical <= 0:
        return 1.0
    wanted = max(1.0, ARROW_SHARE * width / typical)
    power = 10 ** math.floor(math.log10(wanted))
    return float(max(step * power for step in NICE if step * power <= wanted))
