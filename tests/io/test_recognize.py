"""A file that is no image is named as what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbtorch.errors import FileError
from nbtorch.io import read_frame
from tests.helpers.data import shared

FILES = {
    "crystfel/pilatus.geom": "CrystFEL geometry",
    "crystfel/jf-swissfel-16M.geom": "CrystFEL geometry",
    "crystfel/crystfel.stream": "CrystFEL stream",
    "crystfel/head.hkl": "list of reflections of CrystFEL",
    "xds/NEW_XPARM.XDS": "XPARM.XDS",
    "xds/example-xparm.xds": "XPARM.XDS",
    "xds/XDS_ASCII.HKL": "integrated intensities of XDS",
    "xds/INTEGRATE.HKL": "integrated intensities of XDS",
    "shelx/p21c_head.hkl": "SHELX",
    "cif_core/LTA_SCXRD.fcf": "CIF of amplitudes",
    "expt/I23_P12M.expt": "dxtbx experiment list",
    "expt/datablock.json": "dxtbx data block",
    "poni/CeO2_Pilatus1M.poni": "pyFAI geometry",
    "pdb/pdb1gdr.ent": "PDB file",
    "mask/mask_rayonix340mx_4x4.pickle.gz": "Python pickle",
}
HEADS = {
    "CrystFEL geometry": b"; a detector\nclen = 0.1\nq0/min_fs = 0\nq0/max_fs = 9\n",
    "CrystFEL stream": b"CrystFEL stream format 2.3\n",
    "XPARM.XDS": b" XPARM.XDS    VERSION Jan 31, 2020\n",
    "XDS.INP": b"DETECTOR= EIGER MINIMUM_VALID_PIXEL_VALUE=0\n",
    "list of spots": b" 1228.51 1084.34     3.50  25631.   1   2   3\n 1.00 2.00 3.00 4.\n",
    "dxtbx experiment list": b'{\n "__id__": "ExperimentList",\n',
    "numpy array": b"\x93NUMPY\x01\x00",
    "Python pickle": b"\x80\x04\x95\x00",
    "MTZ file": b"MTZ \x00\x00",
    "SHELX": b"   1   0   0  323.11   10.61\n   1   0   0  339.50   10.60\n   2   0   0  314.68   10.15\n",
}


@pytest.mark.parametrize(("name", "what"), FILES.items(), ids=FILES)
def test_a_file_of_a_neighbour_is_named_with_what_takes_it(name: str, what: str) -> None:
    with pytest.raises(FileError, match=what):
        read_frame(shared("formats", *name.split("/")))


@pytest.mark.parametrize(("what", "head"), HEADS.items(), ids=HEADS)
def test_a_file_is_known_by_how_it_begins(tmp_path: Path, what: str, head: bytes) -> None:
    (tmp_path / "given.img").write_bytes(head)
    with pytest.raises(FileError, match=what):
        read_frame(tmp_path / "given.img")
