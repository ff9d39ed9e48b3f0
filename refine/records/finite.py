"""Numbers as JSON has them: finite, or none."""

from __future__ import annotations

import math


def finite(value: float) -> float | None:
    """``value``, or None where it is infinite or no number: as JSON has it."""
    return value if math.isfinite(value) else None
