"""What was measured for an experiment: its spots, and which reflections they are."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch

from nbtorch.models import Experiment
from refine.indexing.index_spots import IndexingSettings, index_spots
from refine.indexing.offset_search import SearchSettings
from refine.scene.scene import FitExperiment
from refine.settings.fit_settings import FitSettings
from refine.spots.find_spots import Spots
from refine.spots.observations import Observations, hold_out
from refine.spots.spot_list import ListedSpots

Rejected = tuple[tuple[int, str], ...]  # (place among the spots, reason)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was measured for one experiment. ``rejected``: (place among the spots, reason) of those without an index."""

    expt: FitExperiment
    spots: Spots
    observed: Observations
    rejected: Rejected


def assign(
    expt: FitExperiment, spots: Spots, settings: FitSettings, experiment: Experiment, *, near: bool = False
) -> Evidence:
    """The evidence of ``spots`` with the indices that ``experiment`` gives them; ``near``: it is about right."""
    if isinstance(spots, ListedSpots):
        return _evidence(expt, spots, settings, *_within(settings, experiment, np.arange(len(spots)), spots.hkl, ()))
    scan = None if expt.still else expt.entry.scan
    search = None if near else SearchSettings(crystal_known=_crystal_known(settings))
    how = IndexingSettings(search, tolerance=1.5 if near else IndexingSettings.tolerance)
    indexed = index_spots(experiment, spots, scan, expt.exposures(1)[0], how)
    kept = _within(settings, experiment, indexed.spot, indexed.hkl, tuple(indexed.rejected))
    return _evidence(expt, spots, settings, *kept)


@torch.no_grad()
def _within(
    settings: FitSettings, experiment: Experiment, place: np.ndarray, hkl: np.ndarray, rejected: Rejected
) -> tuple[np.ndarray, np.ndarray, Rejected]:
    """The spots at ``place`` [m] with indices ``hkl`` [m, 3] with d of ``data.dmin`` or more, and the rejected."""
    _, stars = experiment.crystal.vectors()
    spacing = 1 / np.linalg.norm(hkl @ stars.numpy(), axis=1).clip(min=1e-12)
    beyond = spacing < settings.data.dmin
    reasons = [(int(place[i]), f"d = {spacing[i]:.2f} Å is beyond data.dmin") for i in np.flatnonzero(beyond)]
    return place[~beyond], hkl[~beyond], (*rejected, *reasons)


def _crystal_known(settings: FitSettings) -> bool:
    """Whether no crystal can turn against the beam in this fit: then its indices are not sought among turned ones."""
    flags = settings.parameters
    return not (flags.orientation or flags.beam_direction or flags.free)


def _evidence(
    expt: FitExperiment,
    spots: Spots,
    settings: FitSettings,
    place: np.ndarray,
    hkl: np.ndarray,
    rejected: Rejected,
) -> Evidence:
    """The evidence of the spots at ``place`` [m] with indices ``hkl`` [m, 3]."""
    columns = {item.name: getattr(spots, item.name)[place] for item in fields(Spots)}
    chosen = Spots(**columns)
    last = len(expt.images) - 1

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(values))

    observed = Observations(
        hkl=tensor(hkl).long(),
        panel=tensor(chosen.panel).long(),
        fast=tensor(chosen.fast),
        slow=tensor(chosen.slow),
        frame=tensor(chosen.frame),
        counts=tensor(chosen.counts),
        width=tensor(np.stack([chosen.width_fast, chosen.width_slow, chosen.width_frame], axis=1)),
        whole=tensor((chosen.first_frame > 0) & (chosen.last_frame < last)),
        heldout=torch.zeros(len(place), dtype=torch.bool),
        found=tensor(place),
    )
    data = settings.data
    observed = hold_out(
        observed, data.holdout, data.holdout_fraction, data.holdout_modulus, data.holdout_index, settings.seed
    )
    return Evidence(expt, spots, observed, rejected)
