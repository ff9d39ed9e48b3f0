"""Which program wrote a file of reflections, told by how it begins; and what to say of those that hold none."""

from __future__ import annotations

import re
from pathlib import Path

from nbtorch.errors import FileError
from nbtorch.io.amplitudes import crystfel_list, xds
from nbtorch.io.pickles import refuse_pickle

#: How a text begins, what it is, and what to do with it.
_NO_AMPLITUDES = (
    (
        "CrystFEL stream format",
        "it is a CrystFEL stream, whose intensities are not merged",
        "Merge it with process_hkl or partialator, and give the .hkl that they write",
    ),
    ("{", "it is JSON, such as an experiment list (.expt)", "Give an experiment list as data.experiment"),
    ("[", "it is JSON, not a list of reflections", "Give the amplitudes (MTZ, CIF, h k l F, …)"),
)
_GEOMETRY = re.compile(r"^\S+/(min_fs|max_fs|fs|ss|corner_x)\s*=", re.MULTILINE)
_BINARY = (
    (b"\x89HDF\r\n\x1a\n", "it is HDF5, which holds frames", "Give frames as data.frames"),
    (b"###CBF", "it is a CBF, which holds a frame", "Give frames as data.frames"),
    (b"\x87\xaf__id__", "it is a DIALS reflection table (.refl)", "Export it: dials.export integrated.refl (MTZ)"),
    (b"\x83\xa6__type", "it is a DIALS reflection table (.refl)", "Export it: dials.export integrated.refl (MTZ)"),
)


def refuse_binary(start: bytes, path: Path) -> None:
    """Raises FileError for a file whose first bytes say that it holds no amplitudes: pickles, frames, .refl tables."""
    refuse_pickle(start, path, "Write the amplitudes as MTZ, or as text h k l F")
    for mark, what, remedy in _BINARY:
        if start.startswith(mark):
            raise FileError(str(path), f"{what}, not amplitudes", remedy)


def refuse_other_kind(text: str, path: Path) -> None:
    """Raises FileError, naming what it is, for a text that is no plain list h k l F although it holds reflections."""
    for mark, what, remedy in _NO_AMPLITUDES:
        if text.startswith(mark):
            raise FileError(str(path), what, remedy)
    if _GEOMETRY.search(text[:100_000]):
        raise FileError(str(path), "it is a CrystFEL geometry (.geom)", "Give the amplitudes (MTZ, CIF, h k l F, …)")
    known = (
        (xds.MARKS, "reflections of XDS, which are intensities"),
        ((crystfel_list.MARK,), "a reflection list of CrystFEL, which holds intensities"),
    )
    for marks, what in known:
        if text.startswith(marks):
            raise FileError(
                str(path), f"it is {what}, not a list h k l F", "Read it with read_amplitudes, and write out h k l F"
            )


def is_cif(text: str) -> bool:
    """Whether the first line that is neither blank nor a comment opens a CIF data block."""
    for line in text.splitlines():
        words = line.strip()
        if words and not words.startswith("#"):
            return words.lower().startswith("data_")
    return False
