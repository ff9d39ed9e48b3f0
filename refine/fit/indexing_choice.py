"""Which of several indexings the fit goes on with: the first search's, or a rival that the positions find likelier."""

from __future__ import annotations

from dataclasses import replace

from refine.fit.outliers import fitted_blocks, without_outliers
from refine.fit.position_fit import PositionFit
from refine.processes import count
from refine.settings.fit_settings import FitSettings
from refine.spots.spot_list import ListedSpots
from refine.verdict.evidence import Rival
from refine.verdict.rivals import Indexing, Weighing, settle


def settled(found: PositionFit, settings: FitSettings) -> tuple[PositionFit, tuple[Rival, ...]]:
    """``found`` with the likeliest indexing, and the rivals that were weighed.

    Weighed where ``advanced.rivals`` asks for it. Indices that the user gives are the user's. A fit of several
    processes keeps the first search's.
    """
    if (
        not (settings.advanced.judge and settings.advanced.rivals)
        or not found.ran
        or count() > 1
        or any(isinstance(item.spots, ListedSpots) for item in found.evidence)
    ):
        return found, ()
    first = Indexing("the indices of the first search", tuple(found.evidence), found.parameters)
    best, rivals = settle(first, Weighing(settings, lambda items: fitted_blocks(list(items), settings)))
    evidence = list(best.evidence)
    if any(rival.chosen for rival in rivals):
        evidence = without_outliers(evidence, best.parameters, settings)
    return replace(found, evidence=evidence, parameters=best.parameters), rivals
