"""What the report's drawings are made of, as plain values; the page's scripts (templates/page/) draw them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nbtorch.config import BeamConfig, DetectorConfig
from refine.records.finite import finite
from refine.records.outcome import Correlation, Goodness, Iteration, Outcome, SpotRow
from refine.records.pictures import FramePicture, SpotBox
from refine.report.embedded import grey_png, rounded
from refine.report.plane import Plane, beam_on, panels

MAX_SPOTS = 20_000  # rows that the page holds; spots.csv has all
_DIGITS = 3  # of a pixel


def page_data(outcome: Outcome) -> dict[str, Any]:
    """Everything that is drawn of ``outcome``."""
    spots = _shown(outcome.spots)
    beam = next(iter(outcome.beams.values()), None)
    return {
        **detector_data(outcome.detector_start, outcome.detector_end, beam),
        "frames": [frame_data(row) for row in outcome.frame_pictures],
        "spots": spot_columns(spots),
        "unlisted": len(outcome.spots) - len(spots),
        "boxes": box_data(outcome.spot_boxes, spots),
        "history": history(outcome.history),
        "z": z_data(outcome.goodness),
        "correlation": None if outcome.correlation is None else correlation(outcome.correlation),
    }


def detector_data(start: DetectorConfig, end: DetectorConfig, beam: BeamConfig | None) -> dict[str, Any]:
    """Panels before and after, and the beam for resolution rings."""
    drawn = None if beam is None else beam_on(Plane(start), beam.direction, beam.wavelength)
    return {"panels": panels(start, end), "beam": drawn}


def frame_data(row: FramePicture) -> dict[str, Any]:
    """A frame's picture, a PNG a panel."""
    return {
        "experiment": row.experiment,
        "frame": row.frame,
        "name": row.name,
        "bin": row.bin,
        "low": row.low,
        "high": row.high,
        "panels": [grey_png(levels) for levels in row.levels],
    }


def _shown(spots: Sequence[SpotRow]) -> list[SpotRow]:
    """The spots of the page: of too many, those that were used or left out first."""
    if len(spots) <= MAX_SPOTS:
        return list(spots)
    return sorted(spots, key=lambda row: not (row.used or row.heldout))[:MAX_SPOTS]


_COLUMNS = {
    "experiment": 0,
    "frame": 2,
    "panel": 0,
    "h": 0,
    "k": 0,
    "l": 0,
    "observed_fast_px": _DIGITS,
    "observed_slow_px": _DIGITS,
    "start_fast_px": _DIGITS,
    "start_slow_px": _DIGITS,
    "end_fast_px": _DIGITS,
    "end_slow_px": _DIGITS,
    "counts": 1,
    "scale": 5,
    "scale_sigma": 5,
    "intensity": 1,
    "intensity_sigma": 1,
    "background": 2,
    "chi_square": 3,
    "radial_px": _DIGITS,
    "tangential_px": _DIGITS,
    "d": 4,
}


def spot_columns(spots: Sequence[SpotRow]) -> dict[str, list[Any]]:
    """A list a column; ``state`` is 0 for a spot that was used, 1 for one left out of the fit, 2 for a rejected one."""
    columns = {
        name: rounded(np.array([_number(getattr(row, name)) for row in spots], dtype=np.float64), digits)
        for name, digits in _COLUMNS.items()
    }
    columns["state"] = [0 if row.used else 1 if row.heldout else 2 for row in spots]
    columns["reason"] = [row.reason for row in spots]
    return columns


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def box_data(boxes: Sequence[SpotBox], spots: Sequence[SpotRow]) -> list[dict[str, Any]]:
    """The pixels of spots, each with its row's number ``spot``; of a reflection that is seen twice the one near."""
    rows: dict[tuple[int, ...], list[int]] = {}
    for number, spot in enumerate(spots):
        rows.setdefault((spot.experiment, spot.panel, spot.h, spot.k, spot.l), []).append(number)
    found = []
    for box in boxes:
        here = rows.get((box.experiment, box.panel, box.h, box.k, box.l), [])
        near = [n for n in here if spots[n].observed_frame is None or _holds(box, spots[n].frame)]
        if near:
            found.append({"spot": near[0], **pixels(box)})
    return found


def _holds(box: SpotBox, frame: float) -> bool:
    return box.frame <= frame < box.frame + len(box.observed) + 1


def pixels(box: SpotBox) -> dict[str, Any]:
    """Where a box begins, and its pixels in three arrays [frame][slow][fast]."""
    whole = np.nan_to_num(box.observed)
    digits = 0 if (whole == np.round(whole)).all() else 1
    return {
        "at": [box.frame, box.slow, box.fast],
        "observed": rounded(box.observed, digits),
        "model": rounded(box.model, 1),
        "z": rounded(box.z, 1),
    }


def history(rows: Sequence[Iteration]) -> list[dict[str, Any]]:
    """The iterations."""
    names = ("iteration", "stage", "loss", "rms_fast_px", "rms_slow_px", "damping", "step_sigma")
    return [{name: _plain(getattr(row, name)) for name in names} for row in rows]


def _plain(value: float | str | None) -> float | str | None:
    return finite(value) if isinstance(value, float) else value


def z_data(goodness: Goodness) -> dict[str, Any] | None:
    """The histogram of z, None where there is none."""
    if not sum(goodness.histogram_z) or len(goodness.edges_z) != len(goodness.histogram_z) + 1:
        return None
    edges, counts = np.array(goodness.edges_z), np.array(goodness.histogram_z)
    return {"edges": rounded(edges, 4), "counts": rounded(counts, 2), "sigma": _plain(goodness.sigma_z)}


def correlation(table: Correlation) -> dict[str, Any]:
    """Names and matrix."""
    return {"names": list(table.names), "matrix": rounded(table.matrix, 3)}
