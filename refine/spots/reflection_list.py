"""Spots with indices from a reflection table of DIALS, as the fit takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbtorch.errors import FileError
from nbtorch.io.expt import ExperimentEntry
from nbtorch.io.refl import ReflectionTable
from refine.spots.find_spots import Spots
from refine.spots.spot_list import SpotList

REFLECTION_TABLE = ".refl"  # what its name ends in
_HALF_HEIGHT = 2.355  # full width of a box about a spot is taken as this many of its rms: a guess that nothing rests on


def reflection_list(table: ReflectionTable, entries: Sequence[ExperimentEntry], numbers: Sequence[int]) -> SpotList:
    """The indexed rows of ``table`` for experiments ``numbers`` of ``entries``: frames count from a scan's first.

    ``entries`` are all of the experiment list that the table belongs to. Raises FileError for rows of an experiment or
    a panel that is not there, and for positions that are no numbers.
    """
    rows = indexed_rows(table)
    whose = _experiments(table, entries)[rows]
    place = table["xyzobs.px.value"][rows]
    panel = table["panel"][rows].astype(np.int64) if "panel" in table.columns else np.zeros(len(rows), dtype=np.int64)
    panels = np.array([len(entry.detector.panels) for entry in entries])[whose]
    _refuse(
        table,
        rows,
        (panel < 0) | (panel >= panels),
        "its panel is not there",
        "Give the .expt that the table belongs to",
    )
    _refuse(table, rows, ~np.isfinite(place).all(1), "its position is not a number", "Leave it out")
    first = np.array([0 if e.scan is None else e.scan.first_image - 1 for e in entries])[whose]
    still = np.array([entry.is_still for entry in entries])[whose]
    frame = np.where(still, np.nan, place[:, 2] - first)
    kept = np.isin(whose, np.asarray(numbers))
    return SpotList(
        panel[kept],
        table["miller_index"][rows].astype(np.int64)[kept],
        place[kept, 0],
        place[kept, 1],
        frame[kept],
        whose[kept].astype(np.float64),
    )


def indexed_rows(table: ReflectionTable) -> NDArray[np.int64]:
    """The rows [m] that have an index and an experiment."""
    named = (table["miller_index"] != 0).any(axis=1)
    return np.flatnonzero(named & (table["id"] >= 0))


def spots_of(table: ReflectionTable, rows: NDArray[np.int64], listed: SpotList) -> Spots:
    """Brightness and extent of the spots of ``listed``, in its order; ``rows`` of ``table`` are theirs."""
    count = len(listed.panel)
    box = table.columns["bbox"][rows] if "bbox" in table.columns else np.tile([0, 3, 0, 3, 0, 1], (count, 1))
    counts = table.columns.get("intensity.sum.value", np.zeros(len(table)))[rows].astype(np.float64)
    extent = (box[:, 1::2] - box[:, ::2]).astype(np.float64)
    frame = np.where(np.isnan(listed.frame), 0.5, listed.frame)
    first = np.floor(frame - extent[:, 2] / 2 + 0.5).astype(np.int64)
    columns: dict[str, Any] = {
        "panel": listed.panel,
        "fast": listed.fast,
        "slow": listed.slow,
        "frame": frame,
        "counts": counts,
        "peak": np.zeros(count),
        "background": np.zeros(count),
        "significance": np.zeros(count),
        "n_pixels": np.maximum(extent.prod(1), 1).astype(np.int64),
        "width_fast": extent[:, 0] / _HALF_HEIGHT,
        "width_slow": extent[:, 1] / _HALF_HEIGHT,
        "width_frame": extent[:, 2] / _HALF_HEIGHT,
        "first_frame": first,
        "last_frame": first + np.maximum(extent[:, 2].astype(np.int64) - 1, 0),
    }
    return Spots(**columns)


def _experiments(table: ReflectionTable, entries: Sequence[ExperimentEntry]) -> NDArray[np.int64]:
    """The number in ``entries`` [n] of each row's experiment, by identifier where both have one; −1 for none."""
    number = {entry.identifier: index for index, entry in enumerate(entries) if entry.identifier}
    ids = table["id"].astype(np.int64)
    known = {i: number[name] for i, name in table.identifiers.items() if name in number}
    found = np.array([known.get(i, i) for i in ids.tolist()], dtype=np.int64)
    wrong = found >= len(entries)
    _refuse(
        table,
        np.arange(len(ids)),
        wrong,
        f"its experiment {int(ids[wrong][0]) if wrong.any() else 0} is not among the {len(entries)} of the .expt",
        "Give the .expt that the table belongs to",
    )
    return found


def _refuse(table: ReflectionTable, rows: NDArray[np.int64], wrong: NDArray[np.bool_], why: str, change: str) -> None:
    if wrong.any():
        raise FileError(f"{table.path}, row {int(rows[np.flatnonzero(wrong)[0]])}", why, change)
