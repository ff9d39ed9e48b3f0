"""Where the knots of a crystal that drifts lie."""

from __future__ import annotations

import math

from nbtorch.config import ScanConfig
from refine.settings.fit_settings import ParameterSettings


def scan_knots(scan: ScanConfig, frames: int, settings: ParameterSettings) -> tuple[float, ...]:
    """Spindle angles (degrees, rising) of the knots over the first ``frames`` of ``scan``.

    They are evenly spaced from its start to its end, about ``knot_spacing`` apart; none where nothing varies, or where
    the scan is shorter than half a spacing.
    """
    first, last = sorted((scan.phi_start, scan.phi_start + frames * scan.oscillation))
    intervals = math.floor((last - first) / settings.knot_spacing + 0.5)
    if not settings.scan_varying or intervals < 1:
        return ()
    return tuple(first + (last - first) * k / intervals for k in range(intervals + 1))
