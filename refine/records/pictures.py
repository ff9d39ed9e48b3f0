"""Pictures that a report draws: frames, and the pixels of single spots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class FramePicture:
    """A measured frame in ``levels``, an array [slow, fast] of bytes a panel, each of ``bin`` × ``bin`` pixels.

    A level is the brightest of its pixels on a square-root scale from ``low`` (1) to ``high`` (255) counts; 0 was not
    measured. ``frame`` counts the frames of its ``experiment`` from 0.
    """

    experiment: int
    frame: int
    name: str
    bin: int
    low: float
    high: float
    levels: tuple[NDArray[np.uint8], ...]


@dataclass(frozen=True, eq=False)
class SpotBox:
    """The pixels of one reflection, [frame, slow, fast] each, from pixel (``fast``, ``slow``) and ``frame`` on.

    ``observed`` and ``model`` in counts; ``z`` is (observed − model)/sigma. NaN: not measured. ``chi_square`` is the
    mean squared residual of the pixels under the spot.
    """

    experiment: int
    panel: int
    h: int
    k: int
    l: int  # noqa: E741 - the third Miller index has no other name
    fast: int
    slow: int
    frame: int
    chi_square: float
    observed: NDArray[np.float32]
    model: NDArray[np.float32]
    z: NDArray[np.float32]
