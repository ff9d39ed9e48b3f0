"""The table of frames: spots, rms and scale of each, and why one was left out."""

from __future__ import annotations

import math
from dataclasses import replace

from refine.conclude.spot_rows import rms
from refine.fit.problem import Problem
from refine.parameters.kinds import SCALE
from refine.parameters.parameter_set import ParameterSet
from refine.records.outcome import FrameRow, SpotRow


def frame_rows(problem: Problem, spots: tuple[SpotRow, ...], parameters: ParameterSet) -> tuple[FrameRow, ...]:
    """One row a frame, those that failed too, in the order of the experiments."""
    values, all_lost = parameters.values.detach().tolist(), problem.lost_frames()
    of_experiment: dict[int, list[FrameRow]] = {row.index: [row] for row in problem.failed}
    of_frame: dict[int, list[SpotRow]] = {}
    for spot in spots:
        if spot.used:
            of_frame.setdefault(int(spot.frame), []).append(spot)
    for item in problem.evidence:
        rows = of_experiment.setdefault(item.expt.index, [])
        scale = values[parameters.index_of(SCALE, item.expt.index)]
        absent = problem.left_out.get(item.expt.index, "")
        for z, path in enumerate(item.expt.images):
            number = item.expt.index if item.expt.still else z
            here = tuple(of_frame.get(number, ()))
            pair = rms(here, heldout=False)
            lost = next((message for message in all_lost[item.expt.index] if str(path) in message), absent)
            px = None if pair is None else math.hypot(*pair)
            rows.append(FrameRow(number, str(path), len(here), px, scale, ok=not lost, message=lost))
    ordered = [row for _, rows in sorted(of_experiment.items()) for row in rows]
    return tuple(replace(row, index=number) for number, row in enumerate(ordered))
