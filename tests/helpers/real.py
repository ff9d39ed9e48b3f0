"""The real frames of the reference data, read once, with the spots that the program finds on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from scipy.spatial import cKDTree

from nbtorch.config import Exposure, ScanConfig
from nbtorch.io.expt import ExperimentEntry, read_expt
from nbtorch.io.frames import read_frame
from nbtorch.io.masks import valid_pixels
from nbtorch.models import Experiment
from refine.spots.find_spots import Spots, SpotSettings, find_spots
from tests.helpers.data import shared

#: name → (experiment as a user would start, experiment that was published, spots)
MEASUREMENTS = {
    "l_cysteine_4": ("l_cysteine/sweep4/start.expt", "l_cysteine/sweep4/reference.expt", "l_cysteine/sweep4/spots.csv"),
    "l_cysteine_2": ("l_cysteine/sweep2/start.expt", "l_cysteine/sweep2/reference.expt", "l_cysteine/sweep2/spots.csv"),
    "in16c": ("in16c/indexed.expt", "in16c/indexed.expt", "in16c/spots.csv"),
    "thermolysin_401": (
        "thermolysin_cspad/401.expt",
        "thermolysin_cspad/401.expt",
        "thermolysin_cspad/401_spots.csv",
    ),
    "thermolysin_701": (
        "thermolysin_cspad/701.expt",
        "thermolysin_cspad/701.expt",
        "thermolysin_cspad/701_spots.csv",
    ),
}


@dataclass(frozen=True)
class ListedSpots:
    """n spots found and indexed by others. position: [n, 2] fast, slow; hkl: [n, 3]; panel: [n]."""

    panel: np.ndarray
    position: np.ndarray
    hkl: np.ndarray


def entry(name: str, *, published: bool = False) -> ExperimentEntry:
    """The experiment of a measurement; skips the calling test where it is absent."""
    return read_expt(shared("real", MEASUREMENTS[name][1 if published else 0]))[0]


def listed_spots(name: str) -> ListedSpots:
    """The spots that others listed."""
    table = np.genfromtxt(shared("real", MEASUREMENTS[name][2]), delimiter=",", names=True)
    panel = table["panel"] if "panel" in (table.dtype.names or ()) else np.zeros(len(table))
    position = np.stack([table["fast_px"], table["slow_px"]], axis=1)
    return ListedSpots(panel.astype(int), position, np.stack([table[x] for x in "hkl"], axis=1).astype(int))


@cache
def found_spots(name: str) -> Spots:
    """The spots that the program finds on the frames of a measurement."""
    if name.startswith("thermolysin"):
        import pytest

        pytest.importorskip("pycbf", reason="packed imgCIF frames need pycbf")
    measured = entry(name)
    frames = [read_frame(path).panel_arrays(measured.detector) for path in measured.images]
    panels = enumerate(measured.detector.panels)
    masks = [np.logical_and.reduce([valid_pixels(panel, frame[i]) for frame in frames]) for i, panel in panels]
    return spots_on(frames, masks)


def exposure_of(measured: ExperimentEntry) -> tuple[ScanConfig | None, Exposure]:
    """(scan, exposure): a scan of several frames, or one frame taken as a still."""
    scan = measured.scan
    if scan is None:
        return None, Exposure()
    return (scan if scan.n_frames > 1 else None), scan.exposure(0)


def moved_start(
    measured: ExperimentEntry,
    shift: tuple[float, float, float] = (0, 0, 0),
    tilt: tuple[float, float, float] = (0, 0, 0),
    rotation: tuple[float, float, float] = (0, 0, 0),
    cell: float = 1.0,
) -> Experiment:
    """The experiment with its detector (mm, degrees), crystal (degrees) and cell (factor) moved."""
    lengths = (measured.crystal.cell[i] * cell for i in range(3))
    crystal = replace(measured.crystal, cell=(*lengths, *measured.crystal.cell[3:]))
    start = Experiment.from_config(crystal, measured.beam, measured.detector)
    with torch.no_grad():
        start.detector.shift.copy_(torch.tensor([shift]))
        start.detector.rotation.copy_(torch.tensor([tilt]))
        start.crystal.rotation.copy_(torch.tensor(rotation))
    return start


def nearest_found(listed: ListedSpots, found: Spots) -> tuple[np.ndarray, np.ndarray]:
    """(distance [n] in pixels, place [n] among the found) of the found spot nearest to each listed one."""
    # panels are set far apart, so that none of another is near
    here = np.column_stack([found.fast, found.slow, found.panel * 1e5])
    distance, place = cKDTree(here).query(np.column_stack([listed.position, listed.panel * 1e5]))
    return distance, place


def spots_on(
    frames: Iterable[Sequence[np.ndarray]], masks: Sequence[np.ndarray], settings: SpotSettings | None = None
) -> Spots:
    """Spots on frames that all have the same ``masks``."""
    return find_spots(((panels, masks) for panels in frames), settings)
