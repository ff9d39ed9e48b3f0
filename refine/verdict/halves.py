"""Two interleaved halves of the spots, fitted by their positions alone: do they agree within their own sigmas?

It sees what no other check sees: errors that many spots share, which make the quoted sigmas too small.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch

from refine.least_squares.levenberg_marquardt import LevenbergMarquardt
from refine.least_squares.uncertainty import uncertainty
from refine.parameters.parameter_set import ParameterSet
from refine.positions.objective import PositionObjective
from refine.verdict.evidence import Half

_STEPS, _STILL = 8, 0.05  # of a fit, and the joint sigmas that its last step moves by


def compare_halves(
    halves: Sequence[PositionObjective],
    whole: PositionObjective,
    parameters: ParameterSet,
    free: Sequence[int],
    gauge: torch.Tensor | None = None,
) -> tuple[Half, ...]:
    """The differences of the values at ``free`` between two ``halves`` of the spots of ``whole``, in sigmas.

    ``parameters`` stay as they are. What one of the halves does not determine is left out.
    """  # fmt: skip
    values, sigmas, names = [], [], tuple(parameters.parameters_[i].name for i in sorted(free))
    whole.estimate_spread(parameters)
    for half in halves:
        own = copy.deepcopy(parameters)
        own.release(list(free))
        half.spread = list(whole.spread)
        solver = LevenbergMarquardt()
        for _ in range(_STEPS):
            step = solver.step(half, own)
            if not step.accepted or step.move < _STILL:
                break
        known = uncertainty(half, own, half.linearize(own), gauge)
        place = {name: i for i, name in enumerate(known.names)}
        values.append(own.values.detach()[own.free])
        sigmas.append(known.sandwich[[place[name] for name in names]])
    first, second = values
    difference = (first - second) / torch.sqrt(sigmas[0] ** 2 + sigmas[1] ** 2)
    pairs = zip(names, difference.tolist(), strict=True)
    return tuple(Half(name, value) for name, value in pairs if math.isfinite(value))
