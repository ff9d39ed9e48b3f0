"""What the spots' widths tell of the crystal where the user states nothing: its size and its mosaic spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from refine.indexing.assignment import Evidence
from refine.settings.fit_settings import FitSettings
from refine.spots.widths import Widths

_FEW_SPOTS = 60  # below it the three sizes of a crystal are one


def with_estimates(
    settings: FitSettings, widths: Widths, evidence: Sequence[Evidence]
) -> tuple[FitSettings, list[str]]:
    """``settings`` with the crystal's size and mosaic spread as the spots tell them, and what to say about it."""
    choices: list[str] = []
    crystal, flags = settings.crystal, settings.parameters
    if crystal.n_cells is None:
        cells = ", ".join(f"{n:.1f}" for n in widths.n_cells)
        choices.append(f"crystal.n_cells = {cells}: from the spots' width, rms {widths.pixel:.2f} px")
        crystal = replace(crystal, n_cells=widths.n_cells)
        if not flags.n_cells:
            choices.append("crystal.n_cells is refined: an estimate of the spots' width is no measurement")
            flags = replace(flags, n_cells=True)
    scan = any(not item.expt.still for item in evidence)
    if crystal.mosaic_spread is None and scan:
        choices.append(f"crystal.mosaic_spread = {widths.mosaic_spread:.3f}°: from the spots' width over the frames")
        # a free spread must not start at zero, where the loss is flat in it
        spread = max(widths.mosaic_spread, 0.03) if flags.mosaic_spread else widths.mosaic_spread
        crystal = replace(crystal, mosaic_spread=spread)
    elif crystal.mosaic_spread is None and flags.mosaic_spread:
        crystal = replace(crystal, mosaic_spread=0.05)
        choices.append("crystal.mosaic_spread = 0.05° to start with: a still does not tell it from a width")
    spots = sum(len(item.observed) for item in evidence) / len(evidence)
    if flags.n_cells and flags.n_cells_tie == "independent" and spots < _FEW_SPOTS:
        flags = replace(flags, n_cells_tie="size")
        choices.append(f"the crystal has one size along all axes: {spots:.0f} spots do not tell three")
    return replace(settings, crystal=crystal, parameters=flags), choices
