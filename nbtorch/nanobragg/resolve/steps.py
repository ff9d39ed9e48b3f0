"""Step rules of docs/physics.md §4: from any of a count, a range and a step, all three."""

from __future__ import annotations

import math
from typing import NamedTuple

from nbtorch.errors import ConfigError

MAX_STEPS = 10**6  # points along one axis; beyond it somebody mistook a unit


class Steps(NamedTuple):
    """``points``, ``range`` from first to last edge, ``step`` apart; one point has range and step 0."""

    points: int
    range: float
    step: float


ONE_POINT = Steps(1, 0.0, 0.0)


def _collapse(count: float, width: float, step: float) -> Steps:
    """The steps, or one point when any of the three is not positive."""
    if count > MAX_STEPS:
        raise ConfigError(f"{count:.3g} steps", f"at most {MAX_STEPS} are possible", "Check the range and the step")
    if count <= 0 or width <= 0 or step <= 0:
        return ONE_POINT
    return Steps(int(count), width, step)


def _uncounted(width: float | None, step: float | None) -> Steps:
    if width is None:
        return ONE_POINT if step is None else _collapse(2, step, step)
    if step is None:
        return _collapse(2, width, width)
    return _collapse(math.ceil(width / step) if step > 0 else 0, width, step)


def beam_steps(count: int | None, width: float | None, step: float | None) -> Steps:
    """Points of the divergence (radians) or dispersion (fraction); None: not given. A count ≤ 0 counts as not given.

    nanoBragg: a count without a range spans 1 radian.
    """
    if count is None or count <= 0:
        return _uncounted(width, step)
    if width is None:
        return _collapse(count, 1.0, 1.0 / count) if step is None else _collapse(2, step, step)
    if step is None:
        count = max(count, 2)
        return _collapse(count, width, width / (count - 1))
    return _collapse(count, width, step)


def spindle_steps(count: int | None, width: float | None, step: float | None) -> Steps:
    """Left edges of the spindle (degrees): a range without a step is cut into ``count`` steps, 2 by default.

    nanoBragg: a count alone spans one degree.
    """
    count = None if count is None or count <= 0 else count
    if step is None and width is not None:
        count = count or 2
        return _collapse(count, width, width / count)
    if step is None and count is not None:
        return _collapse(count, 1.0, 1.0 / count)
    return beam_steps(count, width, step)
