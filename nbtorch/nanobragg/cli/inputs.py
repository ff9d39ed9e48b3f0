"""Reads the files that a command names."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nbtorch.config import Mat3
from nbtorch.errors import ConfigError, DataError
from nbtorch.io.amplitudes.fdump import END, Fdump, read_fdump, write_fdump
from nbtorch.io.amplitudes.hkl import read_hkl
from nbtorch.io.amplitudes.symmetry import pack
from nbtorch.io.matrix import read_matrix
from nbtorch.io.paths import find_file
from nbtorch.io.smv import SmvImage, read_smv
from nbtorch.io.sources import read_sources
from nbtorch.models import StructureFactors
from nbtorch.nanobragg.resolve import Inputs, Note, Stated
from nbtorch.nanobragg.resolve.notes import choice

DUMP = "Fdump.bin"
#: How files begin that carry symmetry or columns; anything else is a plain list, used exactly as it stands.
_STRUCTURED = (b"MTZ ", b"data_", b"CRYST1", b"HEADER")
_STRUCTURED_SUFFIXES = (".mtz", ".cif", ".mmcif", ".fcf", ".pdb", ".ent")


@dataclass(frozen=True, eq=False)
class Reflections:
    """``hkl`` [n, 3] and ``amplitudes`` [n] (electrons), each reflection once."""

    hkl: NDArray[np.int64]
    amplitudes: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Loaded:
    """What the named files hold. ``mask`` [slow, fast]: true where a pixel is rendered."""

    inputs: Inputs
    reflections: Reflections | None
    mask: NDArray[np.bool_] | None
    notes: tuple[Note, ...]


def load(stated: Stated) -> Loaded:
    """Read every named file. Raises FileError, DataError, or ConfigError when nothing would scatter."""
    image = read_smv(stated.img) if stated.img is not None else None
    mask = read_smv(stated.mask) if stated.mask is not None else None
    reflections, notes = load_reflections(stated)
    if reflections is None and not stated.default_F:
        raise ConfigError("the structure factors", "all of them are zero", "Give -hkl or -default_F")
    inputs = Inputs(
        image_header=None if image is None else image.header,
        mask_header=None if mask is None else mask.header,
        matrix=None if stated.mat is None else _raw_matrix(stated.mat),
        sources=None if stated.sourcefile is None else functools.partial(read_sources, stated.sourcefile),
        has_table=reflections is not None,
    )
    return Loaded(inputs, reflections, None if mask is None else mask.counts != 0, notes)


def _raw_matrix(path: str) -> Mat3:
    """The nine numbers as they stand, still multiplied by the wavelength."""
    x, y, z = ((float(row[0]), float(row[1]), float(row[2])) for row in read_matrix(path, 1.0))
    return x, y, z


def load_reflections(stated: Stated) -> tuple[Reflections | None, tuple[Note, ...]]:
    """-hkl, else the binary dump: -dump, or Fdump.bin where it lies in the working folder, as the original does."""
    if stated.hkl is not None:
        return read_reflections(stated.hkl)
    if stated.dump is not None:
        return _from_dump(stated.dump), ()
    if Path(DUMP).is_file():
        return _from_dump(DUMP), (choice(f"structure factors from {DUMP}, because there is no -hkl"),)
    return None, ()


def read_reflections(path: str) -> tuple[Reflections, tuple[Note, ...]]:
    """Amplitudes of ``path``: MTZ, mmCIF, coordinates expanded to P1; text exactly as listed, last of equals wins."""
    found = find_file(path)
    with found.open("rb") as stream:
        start = stream.read(256)
    if END in start:
        return _from_dump(path), ()
    name = found.name.lower().removesuffix(".gz").removesuffix(".bz2")
    if start.lstrip().startswith(_STRUCTURED) or name.endswith(_STRUCTURED_SUFFIXES):
        from nbtorch.io.amplitudes import read_amplitudes  # gemmi only where it is needed: start-up time

        expanded = read_amplitudes(path)
        return Reflections(expanded.hkl, expanded.F), tuple(choice(note) for note in expanded.notes)
    listed = read_hkl(path)
    if not len(listed.hkl):
        raise DataError(str(found), "it holds no reflection", "Check the file")
    _, last = np.unique(pack(listed.hkl)[::-1], return_index=True)
    rows = len(listed.hkl) - 1 - last
    return Reflections(listed.hkl[rows], listed.F[rows]), ()


def _from_dump(path: str) -> Reflections:
    dump = read_fdump(path)
    grid = np.indices(dump.F.shape).reshape(3, -1).T + np.array(dump.start)
    return Reflections(grid, dump.F.reshape(-1))


def structure_factors(
    reflections: Reflections | None, default_F: float, dtype: torch.dtype, device: torch.device
) -> StructureFactors:
    """The table that the renderer reads; holes take ``default_F``."""
    if reflections is None:
        return StructureFactors(default_F=default_F, dtype=dtype, device=device)
    return StructureFactors(reflections.hkl, reflections.amplitudes, default_F=default_F, dtype=dtype, device=device)


def save_dump(path: str, factors: StructureFactors) -> None:
    """Write the dense table as the original caches it."""
    table = factors.table()
    if table is not None:
        write_fdump(path, Fdump(table.values.detach().cpu().double().numpy(), table.first), overwrite=True)


__all__ = ["Loaded", "Reflections", "SmvImage", "load", "load_reflections", "save_dump", "structure_factors"]
