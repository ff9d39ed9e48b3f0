"""Geometry from the header of a file of frames, whichever format it has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbtorch.io.geometry.cbf import cbf_geometry
from nbtorch.io.geometry.dtrek import dtrek_geometry, is_dtrek
from nbtorch.io.geometry.nexus import nexus_geometry
from nbtorch.io.geometry.other import other_geometry
from nbtorch.io.geometry.overrides import moved
from nbtorch.io.geometry.simple import Known, as_stated, simple_geometry
from nbtorch.io.geometry.smv import smv_header
from nbtorch.io.geometry.types import HeaderGeometry
from nbtorch.io.hdf5 import is_hdf5
from nbtorch.io.paths import find_file, read_bytes, read_head
from nbtorch.io.recognize import refuse_other_files
from nbtorch.io.smv import has_smv_header, parse_header, sizes


def header_geometry(path: str | Path, stated: Mapping[str, Any] | None = None) -> HeaderGeometry:
    """What the header of ``path`` says of beam, detector, goniometer and mask. Pixels are not looked at.

    ``stated`` (name of QUANTITIES → value) comes before the header, value by value. Raises FileError naming what
    neither says, with the setting that says it, and for a file that is no image; ConfigError for a name or value of
    ``stated`` that cannot be meant.
    """
    found = find_file(path)
    known = {name: as_stated(name, value) for name, value in (stated or {}).items()}
    head = read_head(found)
    if is_hdf5(head):
        return nexus_geometry(found, known)
    if head[:7] == b"###CBF:":
        return cbf_geometry(read_bytes(found), found, known)
    if has_smv_header(head):
        return _smv(head, found, known)
    refuse_other_files(head, found)
    return other_geometry(found, known)


def _smv(head: bytes, path: Path, stated: Mapping[str, Known]) -> HeaderGeometry:
    header, _ = parse_header(head, path)
    if is_dtrek(header):
        return moved(dtrek_geometry(header, path), stated)
    return simple_geometry({**smv_header(header, path), **stated}, sizes(header, path), str(path))
