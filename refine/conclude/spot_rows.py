"""The table of spots: where each was seen and predicted."""

from __future__ import annotations

import numpy as np

from refine.fit.problem import Problem
from refine.fit.shoebox_choice import predicted_centres
from refine.indexing.assignment import Evidence
from refine.parameters.parameter_set import ParameterSet
from refine.records.outcome import Pair, SpotRow


def spot_rows(problem: Problem, parameters: ParameterSet) -> tuple[SpotRow, ...]:
    """One row a spot found, indexed or not."""
    rows: list[SpotRow] = []
    for item, start in zip(problem.evidence, problem.start_px, strict=True):
        end, valid = predicted_centres(problem, item, parameters)
        seen, still = item.observed, item.expt.still
        frame = [float(item.expt.index)] * len(seen) if still else seen.frame.tolist()
        hkl, begun, ended = seen.hkl.tolist(), start.tolist(), end.tolist()
        columns = (seen.panel, seen.fast, seen.slow, seen.counts, valid, seen.heldout)
        absent = problem.left_out.get(item.expt.index, "")
        for i, row in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
            panel, fast, slow, counts, on_panel, held = row
            reason = absent if on_panel else "no longer predicted on its panel"
            rows.append(
                SpotRow(
                    frame[i], panel, hkl[i][0], hkl[i][1], hkl[i][2], fast, slow, None if still else frame[i],
                    begun[i][0], begun[i][1], ended[i][0], ended[i][1], counts, None,
                    used=not reason and not held, heldout=held, reason=reason,
                )
            )  # fmt: skip
        rows.extend(_rejected_rows(item))
    return tuple(rows)


def _rejected_rows(item: Evidence) -> list[SpotRow]:
    """Spots that were found and not indexed, with the reason."""
    nan, rows = float("nan"), []
    for place, reason in item.rejected:
        spots = item.spots
        frame = float(item.expt.index) if item.expt.still else float(spots.frame[place])
        where = float(spots.fast[place]), float(spots.slow[place])
        rows.append(
            SpotRow(frame, int(spots.panel[place]), 0, 0, 0, *where, None if item.expt.still else frame, nan, nan, nan,
                    nan, float(spots.counts[place]), None, used=False, reason=reason)
        )  # fmt: skip
    return rows


def rms(spots: tuple[SpotRow, ...], *, heldout: bool) -> Pair | None:
    """rms (fast, slow) of observed − predicted at the end over the used or the held-out spots."""
    rows = [
        (spot.observed_fast_px - spot.end_fast_px, spot.observed_slow_px - spot.end_slow_px)
        for spot in spots
        if (spot.heldout if heldout else spot.used)
        and spot.observed_fast_px is not None
        and spot.observed_slow_px is not None
    ]
    values = np.array([row for row in rows if np.isfinite(row).all()])
    if len(values) == 0:
        return None
    fast, slow = np.sqrt((values**2).mean(0)).tolist()
    return fast, slow
