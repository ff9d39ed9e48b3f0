"""What restraints, bounds and ties add to the rows of the results."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from refine.parameters.parameter_set import Parameter
from refine.records.finite import finite
from refine.records.outcome import ParameterRow


def limits(parameter: Parameter, *, free: bool) -> dict[str, Any]:
    """Bounds and restraint as a row of the results has them; None for what there is not."""
    restraint = parameter.restraint if free else None
    target = parameter.start if parameter.target is None else parameter.target
    return {
        "lower": finite(parameter.told(parameter.lower)),
        "upper": finite(parameter.told(parameter.upper)),
        "restraint_sigma": None if restraint is None else parameter.sigma_told(target, restraint),
        "restraint_target": None if restraint is None else parameter.told(target),
    }


def followed(row: ParameterRow, name: str, ratio: float, start: float) -> ParameterRow:
    """The row of ``name``, which is ``ratio`` times that of ``row`` and was ``start`` when given."""

    def scaled(value: float | None) -> float | None:
        return None if value is None else value * ratio

    return replace(
        row,
        name=name,
        tied_to=row.name,
        start=start,
        value=row.value * ratio,
        sigma=scaled(row.sigma),
        sigma_model=scaled(row.sigma_model),
        sigma_bootstrap=scaled(row.sigma_bootstrap),
        lower=scaled(row.lower),
        upper=scaled(row.upper),
        interval=None if row.interval is None else (row.interval[0] * ratio, row.interval[1] * ratio),
        upper_limit=scaled(row.upper_limit),
        restraint_target=scaled(row.restraint_target),
        restraint_sigma=scaled(row.restraint_sigma),
    )
