"""Images in HDF5 files: every way in which detectors lay them out, and every way in which they can be missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from nbtorch.errors import DataError, FileError
from nbtorch.io import FrameRef, list_frames, read_frame
from nbtorch.io.hdf5 import image_list
from tests.helpers.data import shared

IMAGES = np.random.default_rng(7).integers(0, 50, (5, 12, 9)).astype(np.uint32)
IMAGES[:, 3] = 2**32 - 1
LZ4 = hdf5plugin.Bitshuffle(nelems=0, cname="lz4")


def data_file(path: Path, images: np.ndarray = IMAGES, **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("/entry/data/data", data=images, chunks=(1, *images.shape[1:]), **(options or LZ4))
    return path


def master(path: Path, parts: Sequence[str]) -> Path:
    """An Eiger master: numbered external links."""
    with h5py.File(path, "w") as file:
        group = file.create_group("entry/data")
        group.attrs["NX_class"] = "NXdata"
        for number, part in enumerate(parts, 1):
            group[f"data_{number:06d}"] = h5py.ExternalLink(part, "/entry/data/data")
    return path


def virtual(path: Path, sources: Sequence[tuple[str, int, int]], *, links: bool = False) -> Path:
    """A master with a virtual data set of (file, images of the file, images taken)."""
    layout = h5py.VirtualLayout((sum(taken for _, _, taken in sources), 12, 9), np.uint32)
    start = 0
    for name, held, taken in sources:
        layout[start : start + taken] = h5py.VirtualSource(name, "/entry/data/data", (held, 12, 9))[:taken]
        start += taken
    with h5py.File(path, "w") as file:
        group = file.create_group("entry/data")
        group.create_virtual_dataset("data", layout)
        for number, (name, _, _) in enumerate(sources if links else (), 1):
            group[f"data_{number:06d}"] = h5py.ExternalLink(name, "/entry/data/data")
    return path


def all_images(path: Path) -> np.ndarray:
    return np.stack([np.asarray(read_frame(ref).counts) for ref in list_frames(path)])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.uint32, np.int32, np.float32])
@pytest.mark.parametrize("name", ["bitshuffle", "zstd", "lz4", "gzip", "none"])
def test_images_come_back_bit_for_bit_from_every_compression(tmp_path: Path, dtype: type, name: str) -> None:
    filters = {"zstd": hdf5plugin.Zstd(), "lz4": hdf5plugin.LZ4(), "gzip": {"compression": "gzip"}, "bitshuffle": LZ4}
    images = IMAGES.astype(dtype)
    found = all_images(data_file(tmp_path / "d.h5", images, **filters.get(name, {"shuffle": False})))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, images)


def test_a_master_lists_the_images_of_its_links_in_order(tmp_path: Path) -> None:
    data_file(tmp_path / "a.h5", IMAGES[:3])
    data_file(tmp_path / "b.h5", IMAGES[3:])
    path = master(tmp_path / "master.h5", ["a.h5", "b.h5"])
    assert [ref.index for ref in list_frames(path)] == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(all_images(path), IMAGES)


def test_a_virtual_data_set_and_its_links_are_counted_once(tmp_path: Path) -> None:
    data_file(tmp_path / "a.h5", IMAGES[:3])
    data_file(tmp_path / "b.h5", IMAGES[3:])
    path = virtual(tmp_path / "master.h5", [("a.h5", 3, 3), ("b.h5", 2, 2)], links=True)
    np.testing.assert_array_equal(all_images(path), IMAGES)


def test_a_virtual_data_set_may_take_its_images_through_links_of_its_own_file(tmp_path: Path) -> None:
    data_file(tmp_path / "a.h5")
    layout = h5py.VirtualLayout(IMAGES.shape, np.uint32)
    layout[:] = h5py.VirtualSource(".", "/entry/data/data_000001", IMAGES.shape)
    with h5py.File(tmp_path / "m.nxs", "w") as file:
        file["/entry/data/data_000001"] = h5py.ExternalLink("a.h5", "/entry/data/data")
        file["/entry/data"].create_virtual_dataset("data", layout)
    np.testing.assert_array_equal(all_images(tmp_path / "m.nxs"), IMAGES)


def test_modules_of_a_virtual_data_set_are_put_together_with_its_fill_value_between(tmp_path: Path) -> None:
    data_file(tmp_path / "top.h5", IMAGES[:, :5])
    data_file(tmp_path / "bottom.h5", IMAGES[:, 7:])
    layout = h5py.VirtualLayout(IMAGES.shape, np.uint32)
    layout[:, :5] = h5py.VirtualSource("top.h5", "/entry/data/data", (5, 5, 9))
    layout[:, 7:] = h5py.VirtualSource("bottom.h5", "/entry/data/data", (5, 5, 9))
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_virtual_dataset("/entry/data/data", layout, fillvalue=77)
    found = all_images(tmp_path / "m.h5")
    np.testing.assert_array_equal(found[:, :5], IMAGES[:, :5])
    np.testing.assert_array_equal(found[:, 7:], IMAGES[:, 7:])
    assert (found[:, 5:7] == 77).all()
    (tmp_path / "bottom.h5").unlink()
    with pytest.raises(FileError, match=r"bottom\.h5, which is missing"):
        read_frame(FrameRef(tmp_path / "m.h5", 0))


def test_panels_with_arrays_of_their_own_stay_apart(tmp_path: Path) -> None:
    path = data_file(tmp_path / "jf.h5", IMAGES[None].repeat(2, axis=0))
    counts = read_frame(FrameRef(path, 1)).counts
    assert isinstance(counts, tuple)
    assert len(counts) == 5
    np.testing.assert_array_equal(counts[2], IMAGES[2])


def test_a_missing_source_of_a_virtual_data_set_is_named_and_never_zeros(tmp_path: Path) -> None:
    data_file(tmp_path / "a.h5", IMAGES[:3])
    path = virtual(tmp_path / "master.h5", [("a.h5", 3, 3), ("gone.h5", 2, 2)])
    assert len(list_frames(path)) == 5
    np.testing.assert_array_equal(read_frame(FrameRef(path, 2)).counts, IMAGES[2])
    with pytest.raises(FileError, match=r"image 0 is kept in .*gone\.h5, which is missing"):
        read_frame(FrameRef(path, 3))


def test_a_missing_part_of_a_master_is_named_and_the_images_before_it_can_be_read(tmp_path: Path) -> None:
    data_file(tmp_path / "a.h5", IMAGES[:3])
    path = master(tmp_path / "master.h5", ["a.h5", "gone.h5"])
    with pytest.raises(FileError, match=r"data_000002 is kept in .*gone\.h5, which is missing"):
        list_frames(path)
    np.testing.assert_array_equal(read_frame(FrameRef(path, 2)).counts, IMAGES[2])


def test_a_source_shorter_than_the_master_says_is_refused(tmp_path: Path) -> None:
    data_file(tmp_path / "a.h5", IMAGES[:2])
    path = virtual(tmp_path / "master.h5", [("a.h5", 5, 5)])
    np.testing.assert_array_equal(read_frame(FrameRef(path, 1)).counts, IMAGES[1])
    with pytest.raises(FileError, match="less than the master takes from it"):
        read_frame(FrameRef(path, 3))


def test_images_that_were_never_written_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        data = file.create_dataset("/entry/data/data", (5, 12, 9), "u4", chunks=(1, 12, 9))
        data[0] = IMAGES[0]
    np.testing.assert_array_equal(read_frame(FrameRef(tmp_path / "d.h5", 0)).counts, IMAGES[0])
    with pytest.raises(FileError, match="image 1: its pixels were never written"):
        read_frame(FrameRef(tmp_path / "d.h5", 1))


def test_a_truncated_chunk_is_refused(tmp_path: Path) -> None:
    path = data_file(tmp_path / "d.h5")
    with h5py.File(path) as file:
        chunk = file["/entry/data/data"].id.get_chunk_info(2)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + 8] = b"\xff" * 8  # the claimed size of the unpacked chunk
    path.write_bytes(bytes(content))
    with pytest.raises(FileError, match="cannot be read"):
        read_frame(FrameRef(path, 2))


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = data_file(tmp_path / "d.h5")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(FileError, match=r"d\.h5.*(no whole HDF5 file|cannot be read)"):
        all_images(path)


def test_an_unknown_filter_is_named(tmp_path: Path) -> None:
    path = data_file(tmp_path / "d.h5", compression="gzip")
    content = path.read_bytes()
    with h5py.File(path) as file:
        assert file["/entry/data/data"].compression == "gzip"
    # the message of filters in the object header: code 1 (deflate), its name's length 8
    old = b"\x01\x00\x08\x00\x01\x00\x01\x00deflate"
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, b"\x39\x30" + old[2:]))
    with pytest.raises(FileError, match=r"filter 12345 \(deflate.*hdf5plugin does not have"):
        read_frame(FrameRef(path, 0))


def test_several_images_need_a_number_and_a_number_must_be_there(tmp_path: Path) -> None:
    path = data_file(tmp_path / "d.h5")
    with pytest.raises(FileError, match=r"it holds 5 images.*'d\.h5 //0'"):
        read_frame(path)
    with pytest.raises(DataError, match=r"image 5.*5 images, counted from 0"):
        read_frame(FrameRef(path, 5))
    single = data_file(tmp_path / "one.h5", IMAGES[:1])
    np.testing.assert_array_equal(read_frame(single).counts, IMAGES[0])


def test_sets_of_images_that_could_both_be_meant_are_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        for name in "ab":
            file.create_dataset(f"/run/{name}/pixels", data=IMAGES)
    with pytest.raises(FileError, match=r"several data sets.*/run/a/pixels, /run/b/pixels"):
        list_frames(tmp_path / "d.h5")
    refs = list_frames(tmp_path / "d.h5", "/run/b/pixels")
    np.testing.assert_array_equal(read_frame(refs[4]).counts, IMAGES[4])


def test_a_claim_of_too_many_pixels_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.create_dataset("/entry/data/data", (1, 2**20, 2**20), "u4", chunks=(1, 16, 16))
    with pytest.raises(FileError, match="more than are read"):
        list_frames(tmp_path / "d.h5")


def test_a_file_without_images_says_so(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["/entry/title"] = "nothing"
    with pytest.raises(FileError, match="holds no images"):
        list_frames(tmp_path / "d.h5")


def test_a_frame_is_named_in_text_and_back() -> None:
    for ref in (FrameRef(Path("a b.cbf")), FrameRef(Path("run.h5"), 17), FrameRef(Path("run.h5"), 3, "/entry/x")):
        assert FrameRef.parse(str(ref)) == ref
    assert str(FrameRef(Path("run.h5"), 17)) == "run.h5 //17"


@pytest.mark.parametrize(
    "name", ["one_master", "onevds_master", "three_master", "threevds_master", "three_data_000001"]
)
def test_masters_made_elsewhere_have_the_images_that_are_expected(name: str) -> None:
    path = shared("formats", "nxmx_made", f"{name}.h5")
    expected = json.loads(shared("formats", "expected.json").read_text())[f"nxmx_made/{name}.h5"]["expected"]
    images = all_images(path).astype(np.int64)
    assert images.shape == (expected["n_images"], *expected["shape"])
    assert [int(image[image < 2**32 - 1].sum()) for image in images] == expected["sum_of_valid_per_image"]
    assert images[0, 5, 7] == 777


@pytest.mark.parametrize(
    ("name", "count", "why"),
    [
        ("nxmx_made/oneonly_master.h5", 1, r"gone_data_000001\.h5, which is missing"),
        ("nxmx/Therm_6_2.nxs", 488, r"Therm_6_2_000001\.h5, which is missing"),
        ("nxmx/FJ_P5P1_1_master.h5", 3600, "never written"),
    ],
)
def test_masters_without_their_pixels_are_counted_and_refused(name: str, count: int, why: str) -> None:
    path = shared("formats", *name.split("/"))
    assert len(image_list(path)) == count
    with pytest.raises(FileError, match=why):
        read_frame(FrameRef(path, 0))
