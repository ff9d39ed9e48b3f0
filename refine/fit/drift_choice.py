"""Which curves of a drifting crystal are fitted: those that the positions determine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from refine.fit.fit_parameters import parameter_set
from refine.fit.outliers import fitted_blocks
from refine.indexing.assignment import Evidence
from refine.parameters.parameter_set import ParameterSet
from refine.positions.scan_varying import Kinds, choose, too_short
from refine.records.journal import Journal
from refine.scene.scene import Scene
from refine.settings.fit_settings import FitSettings


def decide_drift(
    scene: Scene, evidence: Sequence[Evidence], coarse: ParameterSet, settings: FitSettings, journal: Journal
) -> FitSettings:
    """``settings`` with those curves alone that the positions determine.

    ``evidence`` is this process's share; the decision is that of all.
    """
    asked, flags = settings.parameters.scan_varying, settings.parameters
    if not asked or not settings.solver.coarse:
        return settings
    if not any(expt.model.crystal.drifts for expt in scene.experiments):
        decision = too_short(asked, flags.knot_spacing)
    else:

        def make(kinds: Kinds) -> ParameterSet:
            chosen = replace(flags, scan_varying=kinds)
            return parameter_set(scene, replace(settings, parameters=chosen), coarse=True)

        decision = choose(fitted_blocks(evidence, settings), coarse, asked, make)
    journal.add(decision.reason)
    return replace(settings, parameters=replace(flags, scan_varying=decision.kinds))
