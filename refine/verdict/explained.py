"""Which spots lie where the lattice has a reflection, lit brightly enough to be used in the fit or not.

Indices of the fit are cautious: a spot near two predictions, or cut by the end of a scan, has none. Here every spot is
asked whether its scattering vector is one of the lattice, to a few pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from nbtorch.config import ScanConfig
from nbtorch.functional import prediction
from nbtorch.models import Experiment
from nbtorch.render.predict import spindle_of
from nbtorch.units import DEGREES
from refine.indexing.lattice_view import Candidates, Floats, observed_rays, view_of
from refine.spots.find_spots import Spots

_PIXELS, _SPACING = 2.0, 0.2  # a spot's distance from its reflection: px, and at most this share of the lattice's rows
_DEGREES = 1.5  # by which the lattice would have to turn to bring the reflection to the sphere


def on_lattice(
    experiment: Experiment, spots: Spots, scan: ScanConfig | None, still_phi: float = 0.0
) -> NDArray[np.bool_]:
    """Whether each of n ``spots`` [n] lies on a reflection of ``experiment``, in a still at ``still_phi`` degrees."""
    if not len(spots):
        return np.zeros(0, dtype=bool)
    view = view_of(experiment, spots, scan)
    phi = view.phi if scan is not None else np.full(len(spots), still_phi)
    stars = _stars_at(experiment, phi)
    scattering = observed_rays(experiment, spots) * np.linalg.norm(view.wave) - view.wave
    hkl = np.rint(np.einsum("ni,nij->nj", scattering, np.linalg.inv(stars)))
    there = Candidates(hkl.astype(np.int64), np.einsum("nj,nji->ni", hkl, stars), phi)
    apart = np.linalg.norm(view.predicted(there) - view.position, axis=1)
    rows = np.linalg.norm(stars, axis=2).min() / np.linalg.norm(view.wave) * view.plane.distance / view.plane.pixel
    near = apart <= min(_PIXELS, _SPACING * abs(rows))
    return np.asarray(near & (np.abs(view.miss(there)) <= _DEGREES) & hkl.any(1))


def _stars_at(experiment: Experiment, phi: Floats) -> Floats:
    """Rows a*, b*, c* [n, 3, 3] (Å⁻¹, lab) at spindle angles ``phi`` [n] (degrees)."""
    crystal, spindle = experiment.crystal, spindle_of(experiment)
    with torch.no_grad():
        angle = torch.as_tensor(phi).to(crystal.cell)
        rows = []
        for axis in np.eye(3):
            hkl = torch.as_tensor(axis).expand(len(phi), 3)
            rows.append(prediction.turn(crystal.reflections(hkl, angle), spindle, angle * DEGREES))
    return np.asarray(torch.stack(rows, dim=1).numpy(), dtype=np.float64)
