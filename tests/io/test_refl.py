"""Reflection tables of DIALS: read as plain arrays, refused where they contradict themselves, written for DIALS."""

from __future__ import annotations

from pathlib import Path

import msgpack
import numpy as np
import pytest

from nbtorch.errors import FileError
from nbtorch.io.refl import NAME, ReflectionTable, read_refl, write_refl
from tests.helpers.data import shared
from tests.helpers.dxtbx import system_python

N = 5


def table() -> ReflectionTable:
    rng = np.random.default_rng(1)
    return ReflectionTable(
        {
            "miller_index": rng.integers(-9, 9, (N, 3)).astype(np.int32),
            "id": np.array([0, 0, 1, 1, -1], dtype=np.int32),
            "panel": np.zeros(N, dtype=np.uint64),
            "flags": np.full(N, 4, dtype=np.uint64),
            "xyzobs.px.value": rng.uniform(0, 100, (N, 3)),
            "entering": np.array([True, False, True, False, True]),
            "bbox": np.tile(np.array([1, 4, 2, 5, 0, 1], dtype=np.int32), (N, 1)),
        },
        {0: "first", 1: "second"},
    )


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    found = read_refl(write_refl(tmp_path / "a.refl", table()))
    assert found.identifiers == {0: "first", 1: "second"}
    for name, values in table().columns.items():
        assert found[name].dtype == values.dtype, name
        assert np.array_equal(found[name], values), name
    with pytest.raises(FileError, match="exists"):
        write_refl(tmp_path / "a.refl", table())


def test_a_column_of_boxes_is_skipped_and_one_that_is_missing_named(tmp_path: Path) -> None:
    body = {"identifiers": {}, "nrows": 1, "data": {"shoebox": ["Shoebox<>", [1, b"\0" * 9]]}}
    (tmp_path / "a.refl").write_bytes(msgpack.packb([NAME, 1, body]))
    found = read_refl(tmp_path / "a.refl")
    assert found.skipped == ("shoebox",)
    with pytest.raises(FileError, match=r"no column xyzobs\.px\.value"):
        _ = found["xyzobs.px.value"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"not msgpack \xc1", "whole MessagePack"),
        (msgpack.packb(["something else", 1, {}]), "no reflection table"),
        (msgpack.packb([NAME, 1, {"nrows": 3}]), "no rows or no columns"),
        (msgpack.packb([NAME, 1, {"nrows": 10**12, "data": {"id": ["int", [10**12, b"\0" * 8]]}}]), "column id"),
        (msgpack.packb([NAME, 1, {"nrows": 2, "data": {"id": ["int", [2, b"\0" * 7]]}}]), "column id"),
        (msgpack.packb([NAME, 1, {"nrows": 2, "data": {"id": 5}}]), "column id"),
        (b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00", "pickle"),
    ],
)
def test_what_is_no_table_is_an_error_of_ours(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "a.refl"
    path.write_bytes(content)
    with pytest.raises(FileError, match=said):
        read_refl(path)


def test_a_table_cut_short_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    whole = write_refl(tmp_path / "a.refl", table()).read_bytes()
    for length in range(0, len(whole) - 1, 37):
        (tmp_path / "cut.refl").write_bytes(whole[:length])
        with pytest.raises(FileError):
            read_refl(tmp_path / "cut.refl")


def test_published_tables_are_read_as_dials_reads_them(tmp_path: Path) -> None:
    path = shared("positions", "thaumatin_like_scan.refl")
    found = read_refl(path)
    assert len(found) == 654
    code = (
        "import sys; from dials.array_family import flex; t = flex.reflection_table.from_file(sys.argv[1]);"
        "x, y, z = t['xyzobs.px.value'].parts(); print(repr(float(flex.sum(x))), repr(float(flex.sum(z))), len(t))"
    )
    run = system_python()
    fast, frame, rows = run(code, str(path)).split()[-3:]
    positions = found["xyzobs.px.value"]
    assert (float(fast), float(frame)) == pytest.approx((positions[:, 0].sum(), positions[:, 2].sum()), rel=1e-12)
    assert int(rows) == len(found)
    written = write_refl(tmp_path / "again.refl", found)
    assert run(code, str(written)).split()[-3:] == [fast, frame, rows]


@pytest.mark.parametrize("body", [{"nrows": 0, "data": {}, "identifiers": {"a": "b"}}, {(1, 2): 0}])
def test_keys_of_the_wrong_kind_are_errors_of_ours(tmp_path: Path, body: dict[object, object]) -> None:
    path = tmp_path / "odd.refl"
    path.write_bytes(msgpack.packb([NAME, 1, body]))
    with pytest.raises(FileError, match=r"identifiers|not a whole MessagePack|no rows"):
        read_refl(path)
