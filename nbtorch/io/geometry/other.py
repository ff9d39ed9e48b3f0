"""The geometry of the images that fabio reads: what their headers say, completed by what the user states."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nbtorch.io.fabio_images import read_with_fabio
from nbtorch.io.geometry.bruker import bruker_geometry, is_bruker
from nbtorch.io.geometry.marccd import is_marccd, marccd_header
from nbtorch.io.geometry.simple import Known, simple_geometry
from nbtorch.io.geometry.types import HeaderGeometry
from nbtorch.io.paths import read_bytes
from nbtorch.io.ser import is_ser, read_ser


def other_geometry(path: Path, stated: Mapping[str, Known]) -> HeaderGeometry:
    """The geometry of ``path``. Raises FileError naming what neither its header nor the user says."""
    content = read_bytes(path)
    if is_marccd(content):
        header, size = marccd_header(content, path)
        return simple_geometry({**header, **stated}, size, str(path))
    if is_ser(content):
        counts = read_ser(content, path, 0)
        electrons = {"polarization": Known(0.5, "electrons are not polarized", assumed=True)}
        return simple_geometry({**electrons, **stated}, (counts.shape[1], counts.shape[0]), str(path))
    counts, header_text = read_with_fabio(content, path, 0)
    if is_bruker(content):
        return bruker_geometry(header_text, (counts.shape[1], counts.shape[0]), path, stated)
    return simple_geometry(stated, (counts.shape[1], counts.shape[0]), str(path))
