"""A list of spots with indices from elsewhere, in the place of the fit's own: ``data.spots``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from nbtorch.config import DetectorConfig
from nbtorch.errors import FileError
from nbtorch.io.table import read_csv
from refine.spots.find_spots import Spots
from refine.spots.strong_pixels import Floats, Ints

_SAME = 3.0  # pixels, and frames: up to which a listed spot is one that was found
# what a program may call them; the second column of names is that of a run's own spots.csv
_NAMES = {
    "h": ("h",),
    "k": ("k",),
    "l": ("l",),
    "panel": ("panel",),
    "fast": ("fast_px", "observed_fast_px"),
    "slow": ("slow_px", "observed_slow_px"),
    "frame": ("frame",),
    "experiment": ("experiment",),
}


@dataclass(frozen=True)
class ListedSpots(Spots):
    """Spots whose indices ``hkl`` [n, 3] are given."""

    hkl: Ints


@dataclass(frozen=True)
class SpotList:
    """n rows: panel [n], hkl [n, 3], fast, slow [n] pixels, and frame [n]: of a scan, or the number of the still.

    ``experiment`` [n]: the number of the entry in the experiment list; NaN where the list does not say.
    """

    panel: Ints
    hkl: Ints
    fast: Floats
    slow: Floats
    frame: Floats
    experiment: Floats

    def of_frames(self, frames: tuple[int, int] | None) -> SpotList:
        """The rows of ``frames`` first to last alone (counted from 0, inclusive), which are counted anew from 0."""
        if frames is None:
            return self
        first, last = frames
        kept = np.isnan(self.frame) | ((self.frame >= first) & (self.frame < last + 1))
        rows = {item.name: getattr(self, item.name)[kept] for item in fields(SpotList)}
        return SpotList(**rows | {"frame": rows["frame"] - first})

    def of_experiment(self, found: Spots, expt: int, *, still: bool) -> ListedSpots:
        """The rows of one experiment. Width and counts are those of the spot ``found`` there, else the median's."""
        here = np.isnan(self.experiment) | (self.experiment == expt)
        here &= (np.isnan(self.frame) | (np.floor(self.frame) == expt)) if still else True
        panel, fast, slow, frame = (x[here] for x in (self.panel, self.fast, self.slow, self.frame))
        frame = np.full(len(panel), 0.5) if still else frame
        nearest = _nearest(found, np.stack([panel * 1e6, fast, slow, frame], axis=1))
        columns = {item.name: _taken(getattr(found, item.name), nearest) for item in fields(Spots)}
        first, last = (np.floor(frame).astype(int), np.floor(frame).astype(int))
        touched = {"first_frame": first, "last_frame": last}
        columns |= {name: np.where(nearest < 0, value, columns[name]) for name, value in touched.items()}
        columns |= {"panel": panel, "fast": fast, "slow": slow, "frame": frame}
        return ListedSpots(**columns, hkl=self.hkl[here])


def _nearest(found: Spots, place: Floats) -> Ints:
    """The spot [n] of ``found`` at each ``place`` [n, 4] (panel apart, fast, slow, frame); −1 where there is none."""
    if len(found) == 0 or len(place) == 0:
        return np.full(len(place), -1)
    tree = cKDTree(np.stack([found.panel * 1e6, found.fast, found.slow, found.frame], axis=1))
    _, index = tree.query(place, distance_upper_bound=_SAME)
    return np.where(index < len(found), index, -1)


def _taken(values: np.ndarray, index: Ints) -> np.ndarray:
    """``values`` at ``index`` [n], their median where it is −1."""
    if len(values) == 0:
        return np.zeros(len(index), dtype=values.dtype)
    return np.where(index < 0, np.median(values).astype(values.dtype), values[index])


def read_spot_list(path: str | Path, detector: DetectorConfig, *, framed: bool) -> SpotList:
    """The rows of a CSV with columns h, k, l, fast_px, slow_px; panel unless all are on the first; frame if ``framed``;
    experiment where several scans share a list.

    A run's own spots.csv serves too; rows with a reason of rejection are left out. Raises FileError for a column that
    is missing, a number that is none, fractional indices, and a spot off its panel.
    """
    rows = [row for row in read_csv(path) if not (row.get("reason", "").strip() and row.get("used") == "0")]
    if not rows:
        raise FileError(str(path), "it lists no spot", "Give one row a spot")
    optional = {"panel": 0.0, "experiment": np.nan} | ({} if framed else {"frame": np.nan})
    columns = {name: _column(rows, path, name, optional.get(name)) for name in _NAMES}
    hkl = np.stack([columns[name] for name in "hkl"], axis=1)
    whole = np.round(hkl).astype(int)
    _refuse(path, np.abs(hkl - whole).max(1) > 1e-3, "its indices are no integers", "Round them, or leave it out")
    panel = columns["panel"].astype(int)
    _refuse(path, (panel < 0) | (panel >= len(detector.panels)), "its panel is not there", "Count panels from 0")
    size = np.array([item.size for item in detector.panels])[panel]
    fast, slow = columns["fast"], columns["slow"]
    off = (fast < 0) | (slow < 0) | (fast > size[:, 0]) | (slow > size[:, 1])
    _refuse(path, off, "it lies off its panel", "Count pixels from 0 at the corner of the first")
    return SpotList(panel, whole, fast, slow, columns["frame"], columns["experiment"])


def _column(rows: list[dict[str, str]], path: str | Path, name: str, default: float | None) -> Floats:
    """One column of numbers by any of its names; ``default`` where there is none and it may be missing."""
    key = next((known for known in _NAMES[name] if known in rows[0]), None)
    if key is None:
        if default is not None:
            return np.full(len(rows), default)
        raise FileError(str(path), f"it has no column {_NAMES[name][0]}", f"It has: {', '.join(rows[0])}")
    values = np.empty(len(rows))
    for number, row in enumerate(rows):
        try:
            values[number] = float(row[key])
        except ValueError:
            values[number] = np.nan
    _refuse(path, ~np.isfinite(values), f"its {key} is not a number", "Repair it, or leave the spot out")
    return values


def _refuse(path: str | Path, wrong: np.ndarray, why: str, change: str) -> None:
    if wrong.any():
        raise FileError(f"{path}, spot {int(np.nonzero(wrong)[0][0]) + 1}", why, change)
