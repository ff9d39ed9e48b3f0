"""What a header says of the measurement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nbtorch.config import BeamConfig, DetectorConfig, GoniometerConfig, ScanConfig


@dataclass(frozen=True)
class Stated:
    """A number of the geometry: its name, its value as text with its unit, and the field or assumption behind it."""

    name: str
    value: str
    origin: str
    assumed: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.value}: {'assumed, ' if self.assumed else ''}{self.origin}"


@dataclass(frozen=True, eq=False)
class HeaderGeometry:
    """The geometry that a file of frames states, in the frame of imgCIF and dxtbx: z to the source, mm, degrees, Å.

    ``goniometer`` and ``scan`` are None for stills. ``angles`` [frames] are the spindle's starts where they are listed,
    ``wavelengths`` [frames] those of the shots where they differ. ``masks`` holds one array [slow, fast] a panel, True
    where a pixel may be used; None where the file has no mask. ``notes`` are sentences for the report: what was not
    used and what contradicts.
    """

    beam: BeamConfig
    detector: DetectorConfig
    goniometer: GoniometerConfig | None
    scan: ScanConfig | None
    n_frames: int
    stated: tuple[Stated, ...]
    angles: tuple[float, ...] = ()
    wavelengths: tuple[float, ...] = ()
    masks: tuple[NDArray[np.bool_], ...] | None = None
    notes: tuple[str, ...] = ()
