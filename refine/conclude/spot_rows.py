"""The table of spots: where each was seen and predicted, how bright it is, and how well it fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nbtorch.models import Experiment
from refine.conclude.box_rows import NAMES, BoxRows
from refine.conclude.refined_models import refined_beam, refined_detector
from refine.conclude.seen_from_the_beam import seen_from_the_beam
from refine.fit.problem import Problem
from refine.fit.shoebox_choice import predicted_centres
from refine.indexing.assignment import Evidence
from refine.parameters.parameter_set import ParameterSet
from refine.records.finite import finite
from refine.records.outcome import Pair, SpotRow


def spot_rows(
    problem: Problem,
    parameters: ParameterSet,
    experiments: Sequence[Experiment],
    boxes: Mapping[int, BoxRows],
    left_out: Mapping[int, str],
) -> tuple[SpotRow, ...]:
    """One row a spot found, indexed or not. ``experiments``: the refined ones of ``problem.evidence``.

    ``boxes`` and ``left_out``, why no pixels of an experiment are fitted, go by its number.
    """
    rows: list[SpotRow] = []
    for item, start, experiment in zip(problem.evidence, problem.start_px, experiments, strict=True):
        end, valid = predicted_centres(problem, item, parameters)
        columns = _positions(item, start, end) | _residuals(item, end, experiment)
        columns |= _of_boxes(item, boxes.get(item.expt.index))
        rows += _indexed_rows(item, columns, valid.tolist(), left_out.get(item.expt.index, ""))
        rows += _rejected_rows(item)
    return tuple(rows)


def _positions(item: Evidence, start: Tensor, end: np.ndarray) -> dict[str, list[float]]:
    """Where each spot was seen, and predicted at the start and at the end."""
    seen = item.observed
    observed = torch.stack([seen.fast, seen.slow], dim=1)
    pairs = {"observed": observed, "start": start, "end": torch.as_tensor(end)}
    axes = list(enumerate(("fast", "slow")))
    return {f"{name}_{axis}_px": pair[:, i].tolist() for name, pair in pairs.items() for i, axis in axes}


def _residuals(item: Evidence, end: np.ndarray, experiment: Experiment) -> dict[str, list[float]]:
    seen = item.observed
    observed = np.stack([seen.fast.numpy(), seen.slow.numpy()], axis=1)
    beam = refined_beam(item.expt.entry.beam, experiment)
    detector = refined_detector(experiment.detector)
    found = seen_from_the_beam(observed, end[:, :2], seen.panel.numpy(), detector, beam)
    return {"radial_px": found.radial.tolist(), "tangential_px": found.tangential.tolist(), "d": found.d.tolist()}


def _of_boxes(item: Evidence, boxes: BoxRows | None) -> dict[str, list[float]]:
    if boxes is None:
        return {name: [np.nan] * len(item.observed) for name in NAMES}
    return {name: values.tolist() for name, values in boxes.at(item.observed, still=item.expt.still).items()}


_FINITE = (*NAMES, "radial_px", "tangential_px", "d")


def _indexed_rows(item: Evidence, columns: Mapping[str, list[float]], valid: list[bool], absent: str) -> list[SpotRow]:
    """One row for each spot with an index; ``absent``: why none of the experiment is fitted, or ""."""
    seen, rows = item.observed, []
    whose = zip(seen.hkl.tolist(), seen.panel.tolist(), seen.frame.tolist(), strict=True)
    for i, (hkl, panel, frame) in enumerate(whose):
        reason = absent if valid[i] else "no longer predicted on its panel"
        values: dict[str, Any] = {name: finite(x[i]) if name in _FINITE else x[i] for name, x in columns.items()}
        values |= {"observed_frame": None if item.expt.still else frame, "counts": float(seen.counts[i])}
        held = bool(seen.heldout[i])
        values |= {"used": not reason and not held, "heldout": held, "reason": reason}
        rows.append(SpotRow(*_place(item, frame), panel, *hkl, **values))
    return rows


def _place(item: Evidence, frame: float) -> tuple[int, float]:
    """The number of the experiment, and the frame of one of its spots: of a still the experiment's number."""
    number = item.expt.index
    return number, float(number) if item.expt.still else frame


def _rejected_rows(item: Evidence) -> list[SpotRow]:
    """Spots that were found and not indexed, with the reason."""
    nan, spots, rows = float("nan"), item.spots, []
    for place, reason in item.rejected:
        frame = float(spots.frame[place])
        row = SpotRow(
            *_place(item, frame),
            *(int(spots.panel[place]), 0, 0, 0),
            observed_fast_px=float(spots.fast[place]),
            observed_slow_px=float(spots.slow[place]),
            observed_frame=None if item.expt.still else frame,
            start_fast_px=nan,
            start_slow_px=nan,
            end_fast_px=nan,
            end_slow_px=nan,
            counts=float(spots.counts[place]),
            used=False,
            reason=reason,
        )
        rows.append(row)
    return rows


def rms(spots: Sequence[SpotRow], *, heldout: bool) -> Pair | None:
    """rms (fast, slow) of observed − predicted at the end over the used or the held-out spots."""
    rows = [
        (spot.observed_fast_px - spot.end_fast_px, spot.observed_slow_px - spot.end_slow_px)
        for spot in spots
        if (spot.heldout if heldout else spot.used)
        and spot.observed_fast_px is not None
        and spot.observed_slow_px is not None
    ]
    return rms_of(rows)


def rms_of(pairs: Sequence[tuple[float, float]]) -> Pair | None:
    """rms of the first and of the second numbers of ``pairs`` where both are finite; None where none are."""
    values = np.array([pair for pair in pairs if np.isfinite(pair).all()])
    if len(values) == 0:
        return None
    first, second = np.sqrt((values**2).mean(0)).tolist()
    return first, second


def radial_rms(spots: Sequence[SpotRow]) -> Pair | None:
    """rms (radial, tangential) of observed − predicted at the end over the used spots."""
    seen = [(s.radial_px, s.tangential_px) for s in spots if s.used]
    return rms_of([(radial, across) for radial, across in seen if radial is not None and across is not None])
