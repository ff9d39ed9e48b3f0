"""The table of parameters: values, sigmas, bounds and restraints of each."""

from __future__ import annotations

from dataclasses import replace

from refine.conclude.restraint_rows import followed, limits
from refine.conclude.spread_rows import of_spread
from refine.least_squares.uncertainty import Uncertainty
from refine.parameters.kinds import SCALE
from refine.parameters.parameter_set import ParameterSet
from refine.records.finite import finite
from refine.records.outcome import ParameterRow


def parameter_rows(parameters: ParameterSet, known: Uncertainty | None, explained: bool) -> tuple[ParameterRow, ...]:
    """One row a parameter and one for each that follows it; sigmas are Fisher's where all is ``explained``."""
    place = {name: i for i, name in enumerate(known.names)} if known else {}
    bounds, values = parameters.at_bound(), parameters.values.detach().tolist()
    rows = []
    for i, parameter in enumerate(parameters.parameters_):
        free = i in parameters.free
        if parameter.kind == SCALE and not free:
            continue
        sigma = model = drawn = None
        if known is not None and free:
            at = place[parameter.name]
            model = finite(float(known.model[at]))
            sigma = model if explained else finite(float(known.sandwich[at]))
            drawn = None if known.bootstrap is None or sigma is None else float(known.bootstrap[at])
        row = ParameterRow(
            parameter.name,
            parameter.unit,
            parameter.start,
            values[i],
            sigma,
            model,
            free,
            free and bounds[i],
            sigma_bootstrap=drawn,
            kind=parameter.kind.name,
            owner=parameter.kind.owner,
        )
        row = replace(of_spread(row, parameter), **limits(parameter, free=free))
        rows.append(row)
        rows += [followed(row, follower.name, follower.ratio, follower.start) for follower in parameter.follows]
    return tuple(rows)
