"""Which of several indexings the fit goes on with: the first search's, or a rival that the positions find likelier."""

from __future__ import annotations

from collections.abc import Sequence

from refine.indexing.assignment import Evidence
from refine.parameters.parameter_set import ParameterSet
from refine.processes import count
from refine.settings.fit_settings import FitSettings
from refine.spots.spot_list import ListedSpots
from refine.verdict.evidence import Rival
from refine.verdict.rivals import Blocks, Indexing, Weighing, settle

Settled = tuple[list[Evidence], ParameterSet, tuple[Rival, ...]]


def settled(evidence: Sequence[Evidence], coarse: ParameterSet, settings: FitSettings, blocks: Blocks) -> Settled:
    """The evidence and values of the likeliest indexing, and the rivals that were weighed.

    Indices that the user gives are the user's. A fit of several processes keeps the first search's.
    """
    asked = settings.solver.coarse and coarse.free and count() == 1
    if not asked or any(isinstance(item.spots, ListedSpots) for item in evidence):
        return list(evidence), coarse, ()
    first = Indexing("the indices of the first search", tuple(evidence), coarse)
    best, rivals = settle(first, Weighing(settings, blocks))
    return list(best.evidence), best.parameters, rivals
