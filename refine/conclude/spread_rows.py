"""What a fit of squares says of the spreads themselves."""

from __future__ import annotations

import math
from dataclasses import replace

from refine.parameters.parameter_set import Parameter
from refine.records.outcome import ParameterRow

_LIMIT = 1.645  # sigmas: 95 % of a normal distribution lies below
_APART = 4.0  # sigmas of the square from 0, below which a spread may be 0 and has a limit in place of a sigma
_NONE = 1e-6  # of a square, beneath which a bound is that of zero itself


def of_spread(row: ParameterRow, parameter: Parameter) -> ParameterRow:
    """``row`` of a squared ``parameter`` as rows of the spread itself; any other as it is.

    v ± σ of the square is √v ± σ/(2√v) of the spread where v is well above 0. Where it is not, a normal distribution
    of the spread would be an invention: the interval is from √(v − σ) to √(v + σ), and √(v + 1.645 σ) is the limit.
    """
    if not parameter.squared:
        return row
    spread = parameter.told(row.value)
    told = replace(row, start=parameter.told(row.start), value=spread)
    if row.sigma is None:
        return told
    interval = parameter.told(row.value - row.sigma), parameter.told(row.value + row.sigma)
    if row.value < _APART * row.sigma:
        limit = parameter.told(row.value + _LIMIT * row.sigma)
        bound = row.at_bound and parameter.lower > _NONE
        none = {"sigma": None, "sigma_model": None, "sigma_bootstrap": None}
        return replace(told, **none, interval=interval, upper_limit=limit, at_bound=bound)  # type: ignore[arg-type]
    by = 0.5 / math.sqrt(row.value)
    model = None if row.sigma_model is None else by * row.sigma_model
    drawn = None if row.sigma_bootstrap is None else by * row.sigma_bootstrap
    return replace(told, sigma=by * row.sigma, sigma_model=model, sigma_bootstrap=drawn, interval=interval)
