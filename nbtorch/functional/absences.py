"""Reflections that symmetry forbids: the absences of centring, screw axes and glide planes."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Listing(IntEnum):
    """What a list of amplitudes knows of a reflection: nothing, that symmetry makes it zero, or its amplitude."""

    UNLISTED = -1
    ABSENT = 0
    LISTED = 1


def systematic_absences(hkl: NDArray[Any], space_group: str) -> NDArray[np.bool_]:
    """Which of ``hkl`` [n, 3] (whole numbers) have F = 0 in ``space_group`` (gemmi's extended Hermann–Mauguin name)."""
    import gemmi

    flags = gemmi.SpaceGroup(space_group).operations().systematic_absences(np.asarray(hkl, dtype=np.int32))
    return np.asarray(flags, dtype=np.bool_)
