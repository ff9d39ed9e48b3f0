"""Geometry from the header of a file of frames."""

from __future__ import annotations

from pathlib import Path

from nbtorch.errors import FileError
from nbtorch.io.geometry.nexus import nexus_geometry
from nbtorch.io.geometry.types import HeaderGeometry
from nbtorch.io.hdf5 import is_hdf5
from nbtorch.io.paths import find_file, read_head


def header_geometry(path: str | Path) -> HeaderGeometry:
    """What the header of ``path`` says of beam, detector, goniometer and mask. Pixels are not read.

    NXmx so far. Raises FileError for a file of another format, or one whose header leaves the geometry open.
    """
    found = find_file(path)
    if not is_hdf5(read_head(found, 512)):
        raise FileError(str(found), "the geometry of this format's header is not read", "Give an .expt")
    return nexus_geometry(found)
