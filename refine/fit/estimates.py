"""What the spots' widths tell of the crystal where the user states nothing: its size and its mosaic spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from refine.indexing.assignment import Evidence
from refine.records.journal import Journal
from refine.settings.fit_settings import FitSettings
from refine.spots.widths import Widths

_FEW_SPOTS = 60  # below it the three sizes of a crystal are one


def with_estimates(
    settings: FitSettings, widths: Widths, evidence: Sequence[Evidence], journal: Journal
) -> FitSettings:
    """``settings`` with the crystal's size and mosaic spread as the spots tell them."""
    crystal, flags = settings.crystal, settings.parameters
    if crystal.n_cells is None:
        cells = ", ".join(f"{n:.1f}" for n in widths.n_cells)
        said = f"crystal.n_cells = {cells}: from the spots' width, rms {widths.pixel:.2f} px"
        journal.say("n_cells_from_width", said, "choice", n_cells=list(widths.n_cells), width_px=widths.pixel)
        crystal = replace(crystal, n_cells=widths.n_cells)
        if not flags.n_cells:
            said = "crystal.n_cells is refined: an estimate of the spots' width is no measurement"
            journal.say("n_cells_freed", said, "choice")
            flags = replace(flags, n_cells=True)
    scan = any(not item.expt.still for item in evidence)
    if crystal.mosaic_spread is None and scan:
        said = f"crystal.mosaic_spread = {widths.mosaic_spread:.3f}°: from the spots' width over the frames"
        journal.say("mosaic_spread_from_width", said, "choice", mosaic_spread_deg=widths.mosaic_spread)
        # a free one begins where spots are plainly broadened: the span of a spread grows with its start
        spread = max(widths.mosaic_spread, 0.03) if flags.mosaic_spread else widths.mosaic_spread
        crystal = replace(crystal, mosaic_spread=spread)
    elif crystal.mosaic_spread is None and flags.mosaic_spread:
        crystal = replace(crystal, mosaic_spread=0.05)
        said = "crystal.mosaic_spread = 0.05° to start with: a still does not tell it from a width"
        journal.say("mosaic_spread_assumed", said, "assumption", mosaic_spread_deg=0.05)
    spots = sum(len(item.observed) for item in evidence) / len(evidence)
    if flags.n_cells and flags.n_cells_tie == "independent" and spots < _FEW_SPOTS:
        flags = replace(flags, n_cells_tie="size")
        said = f"the crystal has one size along all axes: {spots:.0f} spots do not tell three"
        journal.say("one_size", said, "choice", spots_per_experiment=spots)
    return replace(settings, crystal=crystal, parameters=flags)
