"""Headers of Rigaku (d*TREK), Rayonix and Bruker: what dxtbx reads of the same file."""

from __future__ import annotations

import json
import struct
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbtorch.errors import FileError
from nbtorch.io import read_frame
from nbtorch.io.geometry import header_geometry
from tests.helpers.dxtbx import system_python
from tests.io.test_header_geometry import SCRIPT, compare

DTREK = {
    "HEADER_BYTES": "4096", "DIM": "2", "BYTE_ORDER": "little_endian", "Data_type": "unsigned short int",
    "TYPE": "unsigned_short", "SIZE1": "60", "SIZE2": "50", "DETECTOR_NUMBER": "1", "DETECTOR_NAMES": "CCD_",
    "CRYSTAL_GONIO_NUM_VALUES": "3", "CRYSTAL_GONIO_NAMES": "Omega Chi Phi", "CRYSTAL_GONIO_UNITS": "deg deg deg",
    "CRYSTAL_GONIO_VALUES": "0 45 30", "ROTATION": "30.0 30.5 0.5 10.0 0 0 0 0 0 0", "ROTATION_AXIS_NAME": "Phi",
    "ROTATION_VECTOR": "0.7071 0.7071 0.0", "SOURCE_VECTORS": "0 0 1 0 1 0", "DTREK_DATE_TIME": "01-Jan-2001 10:00:00",
    "SOURCE_WAVELENGTH": "1.0 0.7107", "SCAN_WAVELENGTH": "0.7107", "SOURCE_POLARZ": "0.5 0 1 0",
    "SATURATED_VALUE": "60000", "CCD_DETECTOR_DIMENSIONS": "60 50", "CCD_DETECTOR_SIZE": "6.0 6.0",
    "CCD_DETECTOR_VECTORS": "1 0 0 0 1 0", "CCD_DETECTOR_DESCRIPTION": "Saturn 724",
    "CCD_DETECTOR_IDENTIFICATION": "Saturn", "CCD_GONIO_NUM_VALUES": "6",
    "CCD_GONIO_NAMES": "RotZ RotX/Swing RotY TransX TransY TransZ/Dist", "CCD_GONIO_UNITS": "deg deg deg mm mm mm",
    "CCD_GONIO_VALUES": "1.5 -20.0 0.3 0.1 -0.2 -45.0", "CCD_GONIO_VECTORS": "0 0 1 1 0 0 0 1 0 1 0 0 0 1 0 0 0 1",
    "CCD_SPATIAL_BEAM_POSITION": "31.5 22.25", "CCD_SPATIAL_DISTORTION_INFO": "31.5 22.25 0.1 0.12",
    "CCD_SPATIAL_DISTORTION_VECTORS": "0 -1 -1 0",
}  # fmt: skip
BRUKER = {
    "FORMAT": "100", "VERSION": "11", "HDRBLKS": "15", "TYPE": "Some frame", "MODEL": "D8 VENTURE",
    "NROWS": "50", "NCOLS": "60",
    "NPIXELB": "1", "NOVERFL": "0 0 0", "NEXP": "1 0 0 0 0", "NPIXEL1": "0",
    "NUNDERF": "0", "NOVER64": "0 0 0", "LINEAR": "1.0 0.0",
    "START": "10.0", "INCREME": "0.5", "ANGLES": "20.0 190.0 33.0 54.7", "AXIS": "2", "WAVELEN": "0.7107 0.7107 0.7107",
    "DISTANC": "4.5 5.1", "CENTER": "30.5 24.0 30.25 24.5", "DETTYPE": "CMOS-PHOTONII 37.037037 5 0 0.0 0 0",
    "CCDPARM": "1.0 1.0 1.0 1.0 100000.0",
    "CREATED": "01-Jan-2001 10:00:00", "CUMULAT": "10.0", "ELAPSDR": "10.0",
}  # fmt: skip


def dtrek(path: Path, **changed: str) -> Path:
    lines = "".join(f"{key}={value};\n" for key, value in (DTREK | changed).items())
    header = f"{{\n{lines}}}\n".encode().ljust(4096)
    path.write_bytes(header + np.arange(3000, dtype="<u2").tobytes())
    return path


def bruker(path: Path, **changed: str) -> Path:
    lines = [f"{key:<7}:{value}"[:80].ljust(80) for key, value in (BRUKER | changed).items()]
    header = "".join(lines).ljust(15 * 512, " ").encode()
    path.write_bytes(header + np.arange(3000, dtype=np.uint8).tobytes())
    return path


def rayonix(path: Path, **changed: int) -> Path:
    """A square TIFF with the maker's header: the TIFF tags, then numbers at the documented places."""
    size = 50
    head = bytearray(4096)
    tags = [(256, 4, size), (257, 4, size), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 4096), (277, 3, 1),
            (278, 4, size), (279, 4, size * size * 2)]  # fmt: skip
    struct.pack_into("<2sHI", head, 0, b"II", 42, 8)
    struct.pack_into("<H", head, 8, len(tags))
    for number, (tag, kind, value) in enumerate(tags):
        struct.pack_into("<HHII", head, 10 + 12 * number, tag, kind, 1, value)
    places = {
        1104: size, 1108: size, 1112: 2, 1128: 65000, 1136: 1, 1664: 123456, 1668: 24500, 1672: 26250, 1692: 0,
        1708: 15000, 1740: 15500, 1756: 4, 1760: 500, 1796: 73242, 1800: 73242, 1804: 10000, 1932: 97950,
    }  # fmt: skip
    for place, value in (places | {int(key[1:]): value for key, value in changed.items()}).items():
        struct.pack_into("<i", head, place, value)
    head[1024 + 1312 : 1024 + 1312 + 15] = b"010110002001.00"  # the time: month, day, hour, minute, year, seconds
    head[2368 : 2368 + 32] = b"010110002001.00".ljust(32, b"\0")
    path.write_bytes(bytes(head) + np.arange(size * size, dtype="<u2").tobytes())
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("makers")
    return {
        "dtrek": dtrek(folder / "dtrek_001.img"),
        "rayonix": rayonix(folder / "rayonix_001.mccd"),
        "swung": rayonix(folder / "swung_001.mccd", _1692=25000, _1724=25000),
        "bruker": bruker(folder / "bruker_01_0001.sfrm"),
        "bruker_phi": bruker(folder / "bruker_02_0001.sfrm", AXIS="3"),
    }


@cache
def judged(paths: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(system_python()(SCRIPT, *paths))
    return found


@pytest.mark.parametrize("name", ["dtrek", "rayonix", "swung", "bruker", "bruker_phi"])
def test_the_geometry_of_a_makers_header_is_that_of_dxtbx(name: str, files: dict[str, Path]) -> None:
    judge = judged(tuple(map(str, files.values())))[str(files[name])]
    found = header_geometry(files[name])
    panel = judge["panels"][0]
    if "bruker" in name:
        panel["gain"] = 1.0  # dxtbx estimates it from the wavelength; the header has none
    if name in ("rayonix", "swung"):
        # dxtbx takes the bias off while it reads: its range is of counts less 10, ours of the file's own
        panel["trusted"], panel["pedestal"] = [value + 10 for value in panel["trusted"]], 10.0
    compare(found, judge)


@pytest.mark.parametrize("name", ["dtrek", "rayonix", "bruker"])
def test_the_pixels_of_these_files_are_read_too(name: str, files: dict[str, Path]) -> None:
    counts = read_frame(files[name]).counts
    assert isinstance(counts, np.ndarray)
    size = header_geometry(files[name]).detector.panels[0].size
    assert counts.shape == size[::-1]
    assert counts.ravel()[:4].tolist() == [0, 1, 2, 3]


def test_what_a_makers_header_cannot_mean_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="turned about its own axes"):
        header_geometry(rayonix(tmp_path / "a_1.mccd", _1764=1000))
    with pytest.raises(FileError, match="χ moves during the frame"):
        header_geometry(rayonix(tmp_path / "b_1.mccd", _1700=1000))
    with pytest.raises(FileError, match="turn in deg or shift in mm"):
        header_geometry(dtrek(tmp_path / "a_1.img", CCD_GONIO_UNITS="deg rad deg mm mm mm"))
    with pytest.raises(FileError, match="neither ω nor φ"):
        header_geometry(bruker(tmp_path / "a_1.sfrm", AXIS="4"))
