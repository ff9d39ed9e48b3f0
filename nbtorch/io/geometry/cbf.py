"""The geometry of CBF: by the axes of an imgCIF where there are any, else by the comment lines of a miniCBF."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nbtorch.errors import FileError
from nbtorch.io.cbf import scan_sections
from nbtorch.io.geometry.imgcif import Tables, header_text, imgcif_geometry, listed_size, plain_numbers
from nbtorch.io.geometry.minicbf import minicbf_gaps, minicbf_header
from nbtorch.io.geometry.overrides import moved
from nbtorch.io.geometry.simple import Known, simple_geometry
from nbtorch.io.geometry.types import HeaderGeometry


def cbf_geometry(content: bytes, path: Path, stated: Mapping[str, Known]) -> HeaderGeometry:
    """The geometry of the CBF ``content``; what the user has ``stated`` comes before the header.

    Raises FileError naming what neither says.
    """
    first = scan_sections(content, path)[0].header
    size = (
        int(first.get("X-Binary-Size-Fastest-Dimension", "0")),
        int(first.get("X-Binary-Size-Second-Dimension", "0")),
    )
    text = header_text(content, path)
    comments = minicbf_header(text)
    mask = minicbf_gaps(text, size)
    if "_array_structure_list." in text or "_axis.id" in text:
        tables = Tables(text, path)
        if tables.has_axes:
            known = {**comments, **({"wavelength": stated["wavelength"]} if "wavelength" in stated else {})}
            return moved(imgcif_geometry(tables, known, mask), stated)
        comments, size = {**plain_numbers(tables), **comments}, size if min(size) > 0 else listed_size(tables)
    if min(size) < 1:
        raise FileError(str(path), "its binary header does not say how many pixels there are", "Check the file")
    header = {**comments, **stated}
    return simple_geometry(header, size, str(path), mask=mask)
