"""Whatever happens to a file on its way, its reader answers with one of our errors or with data: never with a crash."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fabio
import gemmi
import numpy as np
import pytest

from nbtorch.config import DetectorConfig, PanelConfig
from nbtorch.errors import NbtorchError
from nbtorch.io import (
    read_amplitudes,
    read_expt,
    read_frame,
    read_mask,
    read_matrix,
    read_sources,
    write_cbf,
    write_smv,
)
from nbtorch.io.amplitudes.fdump import Fdump, write_fdump
from tests.io.documents import document

COUNTS = np.arange(24, dtype=np.int32).reshape(4, 6)
DETECTOR = DetectorConfig((PanelConfig((1, 0, 0), (0, 1, 0), (0, 0, 1), (0.1, 0.1), (6, 4)),))
PDB = b"""CRYST1   20.000   22.000   24.000  90.00  90.00  90.00 P 21 21 21
ATOM      1  CA  GLY A   1       3.000   4.000   5.000  1.00 10.00           C
"""


def _mtz(path: Path) -> None:
    table = gemmi.Mtz(with_base=True)
    table.spacegroup = gemmi.SpaceGroup("P 43 21 2")
    table.set_cell_for_all(gemmi.UnitCell(40, 40, 60, 90, 90, 90))
    table.add_dataset("d")
    table.add_column("I", "J")
    table.add_column("SIGI", "Q")
    table.set_data(np.array([(1, 2, k, 10 * k - 5, 5) for k in range(9)], dtype=np.float32))
    table.write_to_file(str(path))


def _amplitudes(path: Path) -> Any:
    return read_amplitudes(path, dmin=4.0)


Case = tuple[Callable[[Path], Any], Callable[[Path], Any]]
CASES: dict[str, Case] = {
    "f.cbf": (lambda path: write_cbf(path, COUNTS), read_frame),
    "f.img": (lambda path: write_smv(path, COUNTS.astype(np.uint16), {"DISTANCE": "1"}), read_frame),
    "f.edf": (lambda path: fabio.edfimage.EdfImage(COUNTS).write(str(path)), read_frame),
    "f.tif": (lambda path: fabio.tifimage.TifImage(COUNTS).write(str(path)), read_frame),
    "m.npy": (lambda path: np.save(path, COUNTS), lambda path: read_mask(path, DETECTOR)),
    "t.expt": (lambda path: path.write_text(json.dumps(document())), read_expt),
    "f.mtz": (_mtz, _amplitudes),
    "f.hkl": (lambda path: path.write_text("".join(f"1 {k} 3 {k}.5\n" for k in range(20))), _amplitudes),
    "f.pdb": (lambda path: path.write_bytes(PDB), _amplitudes),
    "F.bin": (lambda path: write_fdump(path, Fdump(np.ones((2, 2, 2)), (0, 0, 0))), _amplitudes),
    "A.mat": (lambda path: path.write_text("0.1 0 0\n0 0.1 0\n0 0 0.1\n"), lambda path: read_matrix(path, 1.0)),
    "s.txt": (lambda path: path.write_text("-1 0 0 1 1e-10\n"), lambda path: read_sources(path, (1, 0, 0), 1.0)),
}


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """The bytes cut short, with some changed, some missing, or some inserted."""
    place = int(rng.integers(len(content)))
    kind = rng.integers(4)
    if kind == 0:
        return content[:place]
    if kind == 1:
        changed = bytearray(content)
        for where in rng.integers(0, len(content), 3):
            changed[where] = int(rng.integers(256))
        return bytes(changed)
    if kind == 2:
        return content[:place] + content[place + int(rng.integers(1, 30)) :]
    return content[:place] + bytes(rng.choice(list(b'0123456789-.eE{}[],"nai'), 6).astype(np.uint8)) + content[place:]


@pytest.mark.parametrize("name", CASES)
def test_a_damaged_file_is_refused_with_our_own_error_or_read(
    tmp_path: Path, rng: np.random.Generator, name: str
) -> None:
    write, read = CASES[name]
    path = tmp_path / name
    write(path)
    read(path)  # whole, it is read
    content = path.read_bytes()
    messages = []
    for _ in range(60):
        path.write_bytes(damaged(content, rng))
        try:
            read(path)
        except NbtorchError as error:
            messages.append(str(error))
    assert messages
    assert not any("\n" in message for message in messages)
