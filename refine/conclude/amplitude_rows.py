"""Which rows of the results are amplitudes, and the table of correlations without them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbtorch.config import CrystalConfig
from refine.parameters.amplitudes import indices_in
from refine.parameters.kinds import AMPLITUDE
from refine.parameters.parameter_set import ParameterSet
from refine.records.outcome import AmplitudeRow, Correlation, ParameterRow, Side


def split(
    rows: Sequence[ParameterRow], crystal: CrystalConfig, *, friedel: bool
) -> tuple[tuple[ParameterRow, ...], tuple[AmplitudeRow, ...]]:
    """The ``rows`` that are no amplitudes, and those of refined ones."""
    others = tuple(row for row in rows if row.kind != AMPLITUDE.name)
    # one that is tied to another is as free as that one
    found = [row for row in rows if row.kind == AMPLITUDE.name and row.free]
    return others, tuple(_row(row, crystal.space_group, friedel=friedel) for row in found)


def without_amplitudes(table: Correlation, parameters: ParameterSet) -> Correlation:
    """``table`` of all other parameters: of amplitudes there may be hundreds."""
    amplitudes = {row.name for row in parameters.parameters_ if row.kind == AMPLITUDE}
    kept = [i for i, name in enumerate(table.names) if name not in amplitudes]
    if len(kept) == len(table.names):
        return table
    names = tuple(table.names[i] for i in kept)
    pairs = tuple(pair for pair in table.degenerate if pair[0] in names and pair[1] in names)
    return Correlation(names, table.matrix[np.ix_(kept, kept)], pairs)


def _row(row: ParameterRow, space_group: str, *, friedel: bool) -> AmplitudeRow:
    import gemmi

    h, k, l = indices_in(row.name)  # noqa: E741
    group = gemmi.SpaceGroup(space_group)
    single = not friedel and not group.operations().is_reflection_centric([h, k, l])
    inside = gemmi.ReciprocalAsu(group).is_in([h, k, l])
    side: Side = ("plus" if inside else "minus") if single else "both"
    return AmplitudeRow(h, k, l, side, row.start, row.value, row.sigma, row.sigma_model, row.at_bound)
