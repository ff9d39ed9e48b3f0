"""SMV headers byte for byte as nanoBragg writes them, and damaged ones refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from nbtorch.errors import DataError, FileError
from nbtorch.io import read_smv, write_smv
from nbtorch.io.smv import GEOMETRY_KEYS, header_bytes, parse_header
from tests.helpers.data import golden

COUNTS = np.arange(12, dtype=np.uint16).reshape(3, 4)
CASES = {case["name"]: case["header"] for case in json.loads(golden("cases.json").read_text())}
FIXED = ("HEADER_BYTES", "DIM", "BYTE_ORDER", "TYPE", "SIZE1", "SIZE2")


@pytest.mark.parametrize("name", [name for name, header in CASES.items() if header])
def test_every_golden_header_is_written_with_its_keys_in_order_and_read_back(name: str) -> None:
    wanted = CASES[name]
    geometry = {key: wanted[key] for key in GEOMETRY_KEYS}
    content = header_bytes((int(wanted["SIZE2"]), int(wanted["SIZE1"])), geometry)
    header, end = parse_header(content, Path("golden"))
    assert list(header.items()) == list(wanted.items())
    assert len(content) == max(512, end)  # two of them are longer
    assert content[end - 2 : end] == b"}\f"
    assert content[end:] == b" " * (len(content) - end)


def test_a_header_past_512_bytes_pushes_the_pixels_and_is_still_read(tmp_path: Path) -> None:
    geometry = {"DISTANCE": "1", "COMMENT": "x" * 600}
    image = read_smv(write_smv(tmp_path / "long.img", COUNTS, geometry))
    np.testing.assert_array_equal(image.counts, COUNTS)
    assert image.header["HEADER_BYTES"] == "512"


@settings(deadline=None, max_examples=25)
@given(counts=hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=7)))
def test_counts_come_back(counts: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("smv") / "f.img"
    np.testing.assert_array_equal(read_smv(write_smv(path, counts, {})).counts, counts)


def test_big_endian_and_other_types_are_read(tmp_path: Path) -> None:
    header = b"{\nHEADER_BYTES=256;\nDIM=2;\nBYTE_ORDER=big_endian;\nTYPE=signed_long;\nSIZE1=4;\nSIZE2=3;\n}\n"
    path = tmp_path / "f.img"
    path.write_bytes(header.ljust(256) + (COUNTS.astype(int) - 5).astype(">i4").tobytes())
    counts = read_smv(path).counts
    np.testing.assert_array_equal(counts, COUNTS.astype(int) - 5)
    assert counts.dtype.isnative


def test_a_truncated_image_is_refused_saying_in_which_row(tmp_path: Path) -> None:
    path = write_smv(tmp_path / "f.img", COUNTS, {})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(FileError, match=r"f\.img.*3 × 4 pixels.*7 of 12, in row 1"):
        read_smv(path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"SIZE1=4", b"SIZE1=x", "SIZE1=x.*positive integer"),
        (b"SIZE1=4", b"SIZE1=0", "SIZE1=0.*positive integer"),
        (b"SIZE1=4", b"SIZE9=4", "SIZE1=: it must"),
        (b"SIZE1=4;\nSIZE2=3", b"SIZE1=1000000000;\nSIZE2=1000000000", "cut short"),
        (b"unsigned_short", b"complex", "TYPE=complex.*unsigned_short"),
        (b"}", b" ", "header"),
    ],
)
def test_a_header_that_cannot_be_is_refused(tmp_path: Path, old: bytes, new: bytes, words: str) -> None:
    path = write_smv(tmp_path / "f.img", COUNTS, {})
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(FileError, match=words):
        read_smv(path)


def test_only_two_dimensional_unsigned_16_bit_counts_are_written(tmp_path: Path) -> None:
    for counts in (COUNTS.astype(np.int32), COUNTS.ravel()):
        with pytest.raises(DataError, match="uint16"):
            write_smv(tmp_path / "f.img", counts, {})  # type: ignore[arg-type]
    assert not (tmp_path / "f.img").exists()
