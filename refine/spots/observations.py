"""Observed spots with their indices: what a fit of positions sees."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Observations:
    """n indexed spots of one experiment. hkl [n, 3], panel [n]; fast, slow [n] pixels; frame [n] (0.0: first's start).

    width [n, 3] is the rms extent along fast, slow, frame; ``whole`` [n] says that a spot does not touch the first or
    last frame; ``heldout`` [n] that it only scores the fit; ``found`` [n] is its place among the spots found.
    """

    hkl: Tensor
    panel: Tensor
    fast: Tensor
    slow: Tensor
    frame: Tensor
    counts: Tensor
    width: Tensor
    whole: Tensor
    heldout: Tensor
    found: Tensor

    def __len__(self) -> int:
        return len(self.panel)

    def __getitem__(self, chosen: Tensor) -> Observations:
        return Observations(*(getattr(self, item.name)[chosen] for item in fields(self)))

    def fitted(self) -> Observations:
        """Those that the fit may see."""
        return self[~self.heldout]


def hold_out(
    observations: Observations, kind: str, fraction: float, modulus: int, index: int, seed: int
) -> Observations:
    """``observations`` with the spots marked that only score the fit; see DataSettings.holdout."""
    if kind == "frame":
        held = torch.floor(observations.frame).long() % modulus == index
    elif kind == "fraction":
        # by reflection, not by order, so that a spot stays on its side when others come and go; each index of one seed
        # holds others out
        key = (observations.hkl * torch.tensor([73856093, 19349663, 83492791])).sum(1) + 7919 * seed
        draw = torch.as_tensor(np.random.default_rng(seed).permutation(1009))[key % 1009] / 1009
        held = torch.floor(draw / fraction) == index
    else:
        held = torch.zeros(len(observations), dtype=torch.bool)
    return replace(observations, heldout=held)
