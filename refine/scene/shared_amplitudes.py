"""Amplitudes that symmetry and Friedel's law make equal, as one value each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nbtorch.errors import ConfigError
from nbtorch.io.amplitudes.symmetry import rotation_matrices
from refine.records.journal import JournalEntry

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def mates(hkl: Ints, space_group: str, *, friedel: bool) -> Ints:
    """A number [n] for each of ``hkl`` [n, 3], the same for reflections of one amplitude: those that the rotations of
    ``space_group`` make of one another, and with ``friedel`` their mates −h.

    Without ``friedel`` centric reflections still are their mates' equals.
    """
    orbit = np.stack([hkl @ rotation for rotation in rotation_matrices(space_group)])
    if friedel:
        orbit = np.concatenate([orbit, -orbit])
    reach = int(np.abs(orbit).max(initial=0))
    places = orbit + reach
    key = (places[..., 0] * (2 * reach + 1) + places[..., 1]) * (2 * reach + 1) + places[..., 2]
    return np.asarray(np.unique(key.max(0), return_inverse=True)[1], dtype=np.int64)


def shared_values(
    hkl: Ints, values: Floats, space_groups: set[str], *, friedel: bool
) -> tuple[Ints, Floats, list[JournalEntry]]:
    """The groups of :func:`mates`, the mean of each one's ``values`` for all of it [n], and what to say about them.

    Raises ConfigError for more than one of ``space_groups``.
    """
    if len(space_groups) > 1:
        raise ConfigError(
            "parameters.amplitudes=true",
            f"the crystals have different space groups: {', '.join(sorted(space_groups))}",
            "Fit crystals of one space group together",
        )
    (space_group,) = space_groups
    group = mates(hkl, space_group, friedel=friedel)
    mean = (np.bincount(group, values) / np.bincount(group))[group]
    off = float(np.abs(values - mean).max(initial=0) / max(np.abs(mean).max(initial=0), 1e-300))
    kind = f"{space_group} and Friedel's law make" if friedel else f"{space_group} makes"
    if off <= 1e-3:
        return group, mean, []
    said = f"amplitudes that {kind} equal differ in the file, by up to {100 * off:.2g} % of the largest"
    return group, mean, [JournalEntry("amplitudes_averaged", f"{said}: their mean counts", "choice", {"largest": off})]
