"""Provisional: nearest indices from the start model."""

from __future__ import annotations
from typing import NamedTuple
import numpy as np, torch
from nbtorch.functional.cell import dual
from nbtorch.config import Exposure


class Indexed(NamedTuple):
    spot: np.ndarray
    hkl: np.ndarray
    panel: np.ndarray
    rejected: tuple


def index_spots(experiment, spots, scan, exposure, settings=None):
    with torch.no_grad():
        fr = experiment.detector.frames()[torch.as_tensor(spots.panel)]
        px = experiment.detector.pixel_size[torch.as_tensor(spots.panel)]
        pos = (
            fr[:, 3]
            + fr[:, 0] * (torch.as_tensor(spots.fast) * px[:, 0])[:, None]
            + fr[:, 1] * (torch.as_tensor(spots.slow) * px[:, 1])[:, None]
        )
        d = pos / pos.norm(dim=-1, keepdim=True)
        inc, lam, _ = experiment.beam.sources()
        q = (d - inc[0]) / lam[0]
        cr = experiment.crystal
        direct, _ = cr.vectors()
        if scan is not None:
            phi = scan.phi_start + torch.as_tensor(spots.frame) * scan.oscillation
            R = (
                torch.stack([cr.spindle_rotations(Exposure(float(p)))[0] for p in phi])
                if len(phi)
                else torch.zeros(0, 3, 3)
            )
        else:
            R = cr.spindle_rotations(Exposure(exposure.phi_start + exposure.oscillation / 2)).expand(len(q), 3, 3)
        h = torch.einsum("ij,nkj,nk->ni", direct, R.transpose(1, 2), q).numpy()
    r = np.round(h)
    e = np.abs(h - r).max(1)
    ok = e < 0.3
    rej = tuple((int(i), "no clear index") for i in np.nonzero(~ok)[0])
    i = np.nonzero(ok)[0]
    return Indexed(i, r[i].astype(int), np.asarray(spots.panel)[i], rej)
