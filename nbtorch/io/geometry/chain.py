"""Chains of transformations: each axis moves what depends on it (NeXus depends_on, imgCIF _axis.depends_on)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nbtorch.config import Vec3
from nbtorch.io.expt.goniometer import rotation

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Axis:
    """One transformation of a chain. ``values`` are degrees or mm, one or one a frame; ``offset`` in mm."""

    name: str
    kind: Literal["rotation", "translation"]
    vector: Vec3
    offset: Vec3
    values: tuple[float, ...]

    @property
    def moves(self) -> bool:
        """Whether its value differs between frames by more than rounding (1e-6)."""
        return max(self.values) - min(self.values) > 1e-6

    def matrix(self, frame: int = 0) -> Matrix:
        """The [4, 4] matrix of column vectors at ``frame``: turn or shift along ``vector``, then the offset."""
        result = np.eye(4)
        result[:3, 3] = self.offset
        value = self.values[frame if len(self.values) > 1 else 0]
        if self.kind == "rotation":
            result[:3, :3] = rotation(self.vector, value)
        else:
            result[:3, 3] += value * np.asarray(self.vector) / np.linalg.norm(self.vector)
        return result


def total(chain: Sequence[Axis], frame: int = 0) -> Matrix:
    """The product [4, 4] of a chain listed from what moves to the laboratory: the last is applied last."""
    result = np.eye(4)
    for axis in chain:
        result = axis.matrix(frame) @ result
    return result
