"""The geometry of the images that fabio reads: what their headers say, completed by what the user states."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nbtorch.io.fabio_images import read_with_fabio
from nbtorch.io.geometry.simple import Known, simple_geometry
from nbtorch.io.geometry.types import HeaderGeometry
from nbtorch.io.paths import read_bytes


def other_geometry(path: Path, stated: Mapping[str, Known]) -> HeaderGeometry:
    """The geometry of ``path``. Raises FileError naming what neither its header nor the user says."""
    counts, _ = read_with_fabio(read_bytes(path), path, 0)
    return simple_geometry(stated, (counts.shape[1], counts.shape[0]), str(path))
