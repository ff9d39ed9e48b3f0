"""What a user states of the spreads that only the closed form averages over. It validates, it derives nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nbtorch.checks import Vec3, at_most
from nbtorch.errors import ConfigError

Six = tuple[float, float, float, float, float, float]
MOST_MOSAIC, MOST_BANDWIDTH, MOST_DIVERGENCE, MOST_CELL, MOST_POINT = 5.0, 0.08, 50.0, 0.1, 50.0


@dataclass(frozen=True)
class SpreadConfig:
    """Normal distributions, each given as an rms spread, on top of what crystal, beam and pixel have.

    ``mosaic`` (degrees): one number, or three about a*, c × a* and c; its square is added to that of the crystal's own.
    ``bandwidth``: relative width of every line of the spectrum, one number or one a line (0.001 is 0.1 %).
    ``divergence`` (mrad): horizontal and vertical. ``cell``: relative, of the lengths a, b, c.
    ``covariance`` (Å⁻²): of a reflection in reciprocal space, in the axes a*, c × a*, c that turn with the crystal, as
    11, 22, 33, 12, 13, 23. ``point_spread`` (pixels): of the detector. ``coupling``: the off-diagonal N_ab, N_ac, N_bc
    of shape gauss_hkl, diffBragg's, whose ρ² is |N·δ|².
    Raises ConfigError for a spread that is negative, not finite or beyond any experiment, and for a covariance with a
    negative eigenvalue.
    """

    mosaic: float | Vec3 = 0.0
    bandwidth: float | tuple[float, ...] = 0.0
    divergence: tuple[float, float] = (0.0, 0.0)
    cell: Vec3 = (0.0, 0.0, 0.0)
    covariance: Six = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    point_spread: float = 0.0
    coupling: Vec3 = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        mosaic = self.mosaic if isinstance(self.mosaic, tuple) else (self.mosaic,)
        bandwidth = self.bandwidth if isinstance(self.bandwidth, tuple) else (self.bandwidth,)
        if len(mosaic) not in (1, 3):
            raise ConfigError(f"mosaic={self.mosaic}", "it has neither one number nor three", "Give 1 or 3")
        if not bandwidth:
            raise ConfigError("bandwidth=()", "no line has a width", "Give one number, or one a line")
        for name, values, most, unit in (
            ("mosaic", mosaic, MOST_MOSAIC, "degrees"),
            ("bandwidth", bandwidth, MOST_BANDWIDTH, "of the wavelength"),
            ("divergence", self.divergence, MOST_DIVERGENCE, "mrad"),
            ("cell", self.cell, MOST_CELL, "of a length"),
            ("point_spread", (self.point_spread,), MOST_POINT, "pixels"),
        ):
            for value in values:
                at_most(name, value, most, unit)
        if not all(map(math.isfinite, (*self.covariance, *self.coupling))):
            raise ConfigError(f"covariance={self.covariance}, coupling={self.coupling}", "not finite", "Change them")
        least, largest = np.linalg.eigvalsh(np.array(self.covariance)[COVARIANCE_PLACES])[[0, -1]]
        if least < -1e-9 * abs(largest):
            raise ConfigError(
                f"covariance={self.covariance}", f"it has the negative eigenvalue {least:.3g}", "Give a real covariance"
            )


COVARIANCE_PLACES = np.array([[0, 3, 4], [3, 1, 5], [4, 5, 2]])  # of the six numbers in the matrix
