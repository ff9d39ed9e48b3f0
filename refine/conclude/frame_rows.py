"""The table of frames: spots, rms and scale of each, and why one was left out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median

from refine.conclude.spot_rows import rms
from refine.fit.problem import Problem
from refine.records.outcome import FrameRow, SpotRow

OfFrame = dict[tuple[int, int], list[SpotRow]]


def frame_rows(
    problem: Problem, spots: Sequence[SpotRow], scales: Mapping[int, float], left_out: Mapping[int, str]
) -> tuple[FrameRow, ...]:
    """One row a frame, those that failed too, in the order of the experiments.

    ``scales`` that the spots of a crystal share, and ``left_out``, why no pixels are fitted, go by experiment.
    """
    of_frame, all_lost = used_by_frame(spots), problem.lost_frames()
    of_experiment = {row.index: [replace(row, experiment=row.index)] for row in problem.failed}
    for item in problem.evidence:
        number = item.expt.index
        rows = of_experiment.setdefault(number, [])
        absent = left_out.get(number, "")
        for frame, path in enumerate(item.expt.images):
            here = of_frame.get((number, number if item.expt.still else frame), [])
            pair = rms(here, heldout=False)
            lost = next((message for message in all_lost.get(number, ()) if str(path) in message), absent)
            row = FrameRow(
                len(rows),
                str(path),
                len(here),
                rms_px=None if pair is None else math.hypot(*pair),
                scale=scales.get(number, _median_scale(here)),
                ok=not lost,
                message=lost,
                experiment=number,
                frame=frame,
            )
            rows.append(row)
    ordered = [row for _, rows in sorted(of_experiment.items()) for row in rows]
    return tuple(replace(row, index=number) for number, row in enumerate(ordered))


def used_by_frame(spots: Sequence[SpotRow]) -> OfFrame:
    """The spots that the fit used, by experiment and frame: scans count their frames alike, each from 0."""
    found: OfFrame = {}
    for spot in spots:
        if spot.used:
            found.setdefault((spot.experiment, int(spot.frame)), []).append(spot)
    return found


def _median_scale(spots: Sequence[SpotRow]) -> float | None:
    scales = [spot.scale for spot in spots if spot.scale is not None]
    return median(scales) if scales else None
