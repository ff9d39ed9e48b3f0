"""Whether the reflections that the amplitudes make brightest are there."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree

from nbtorch.config import Exposure, ScanConfig
from nbtorch.models import Experiment
from nbtorch.render.excited import Excited, excited_reflections
from nbtorch.render.predict import predict
from refine.indexing.index_spots import expected_light
from refine.indexing.lattice_view import Floats
from refine.spots.find_spots import Spots

_NEAR = 3.0  # pixels, and frames of a scan, within which a spot is that of a reflection
_MARGIN = 0.15  # degrees from the sphere that a reflection of a still may be lit at


def bright_seen(
    experiment: Experiment, exposure: Exposure, scan: ScanConfig | None, spots: Spots, resolution: float, number: int
) -> tuple[int, int]:
    """Of the ``number`` brightest predicted reflections up to |q| = ``resolution`` (Å⁻¹): how many there are, and how
    many of them lie near one of ``spots``. (0, 0) without amplitudes."""
    found = excited_reflections(experiment, exposure, 1 / resolution, margin=0.0 if scan is not None else _MARGIN)
    light = expected_light(experiment, found.hkl) if len(found) else None
    if light is None:
        return 0, 0
    light = np.nan_to_num(light)  # of a reflection that is not listed nothing is expected
    if scan is None:
        with torch.no_grad():
            hkl, panel = torch.as_tensor(found.hkl), torch.as_tensor(found.panel)
            light = light * predict(experiment, hkl, panel, exposure=exposure).weight.numpy()
    bright = np.argsort(-light, kind="stable")[:number]
    places = _places(found, scan)
    tree = cKDTree(np.column_stack([1e6 * spots.panel, spots.fast, spots.slow, spots.frame * (scan is not None)]))
    distance, _ = tree.query(places[bright], p=np.inf, distance_upper_bound=_NEAR) if len(spots) else (np.zeros(0), 0)
    near = int(np.isfinite(distance).sum())
    return len(bright), near


def _places(found: Excited, scan: ScanConfig | None) -> Floats:
    """Panel, fast, slow and frame [m, 4], panels far apart."""
    frame = (found.phi - scan.phi_start) / scan.oscillation if scan is not None else np.zeros(len(found))
    return np.column_stack([1e6 * found.panel, found.fast, found.slow, frame])
