"""Frames of every format, cut into panels, and damage that is refused."""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fabio
import numpy as np
import pytest
from numpy.typing import NDArray

from nbtorch.config import DetectorConfig, PanelConfig
from nbtorch.errors import DataError, FileError
from nbtorch.io import Frame, read_csv, read_expt, read_frame, write_cbf, write_smv
from tests.helpers.data import golden, shared

COUNTS = np.arange(24, dtype=np.int32).reshape(4, 6) * 7 - 2


def flat_panel(name: str = "P", size: tuple[int, int] = (6, 4), offset: tuple[int, int] = (0, 0)) -> PanelConfig:
    return PanelConfig((1, 0, 0), (0, -1, 0), (0, 0, -100), (0.1, 0.1), size, name=name, raw_image_offset=offset)


def detector(*panels: PanelConfig) -> DetectorConfig:
    return DetectorConfig(panels or (flat_panel(),))


def image(frame: Frame) -> NDArray[Any]:
    assert not isinstance(frame.counts, tuple)
    return frame.counts


@pytest.fixture
def cbf(tmp_path: Path) -> Path:
    return write_cbf(tmp_path / "f.cbf", COUNTS, {"Wavelength": "1.1 A"})


def test_cbf_comes_back_with_its_header(cbf: Path) -> None:
    frame = read_frame(cbf)
    np.testing.assert_array_equal(image(frame), COUNTS)
    assert "# Wavelength 1.1 A" in frame.header["_array_data.header_contents"]
    assert all(isinstance(value, str) for value in frame.header.values())


def test_cbf_holds_large_steps_between_neighbours(tmp_path: Path) -> None:
    wild = np.array([[0, 2**31 - 1, -(2**31)], [1, 40000, -40000]], dtype=np.int32)
    np.testing.assert_array_equal(image(read_frame(write_cbf(tmp_path / "w.cbf", wild))), wild)


@pytest.mark.parametrize("extension", ["edf", "tif"])
def test_formats_of_fabio_come_back(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"f.{extension}"
    counts = COUNTS.astype(np.uint16)[:, 1:]
    (fabio.edfimage.EdfImage if extension == "edf" else fabio.tifimage.TifImage)(counts).write(str(path))
    np.testing.assert_array_equal(image(read_frame(path)), counts)


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_a_name_is_also_tried_with_its_compressed_suffixes(
    cbf: Path, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    packed = cbf.with_name(cbf.name + suffix)
    packed.write_bytes(compress(cbf.read_bytes()))
    cbf.unlink()
    frame = read_frame(cbf)
    assert frame.path == packed
    np.testing.assert_array_equal(image(frame), COUNTS)


def test_compressed_edf_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "f.edf"
    fabio.edfimage.EdfImage(COUNTS).write(str(path))
    (tmp_path / "f.edf.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    np.testing.assert_array_equal(image(read_frame(path)), COUNTS)


def test_a_missing_frame_says_every_name_that_was_tried(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"f\.cbf, f\.cbf\.gz, f\.cbf\.bz2"):
        read_frame(tmp_path / "f.cbf")


def test_a_folder_is_not_a_frame(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="folder"):
        read_frame(tmp_path)


@pytest.mark.parametrize("held", [-100, 0, 10, 23])
def test_a_truncated_cbf_is_refused_naming_the_file(cbf: Path, held: int) -> None:
    content = cbf.read_bytes()
    start = content.index(b"\x0c\x1a\x04\xd5") + 4
    assert b"X-Binary-Size: 24" in content  # every cut loses data
    cbf.write_bytes(content[: start + held])
    with pytest.raises(FileError, match=r"f\.cbf.*(cut short|ends before its data|ends inside its header)"):
        read_frame(cbf)


def test_a_truncated_gzip_stream_is_refused(tmp_path: Path, cbf: Path) -> None:
    cut = tmp_path / "cut.cbf.gz"
    cut.write_bytes(gzip.compress(cbf.read_bytes())[:-20])
    with pytest.raises(FileError, match=r"cut\.cbf\.gz.*cut short"):
        read_frame(cut)


def test_a_cbf_with_a_flipped_byte_is_refused_by_its_checksum(cbf: Path) -> None:
    content = bytearray(cbf.read_bytes())
    content[content.index(b"\x0c\x1a\x04\xd5") + 10] ^= 0xFF
    cbf.write_bytes(bytes(content))
    with pytest.raises(FileError, match="MD5"):
        read_frame(cbf)


def test_a_cbf_that_claims_more_pixels_than_its_bytes_can_hold_is_refused(cbf: Path) -> None:
    content = cbf.read_bytes()
    for old, new in (
        (b"Elements: 24", b"Elements: 24000000"),
        (b"Fastest-Dimension: 6", b"Fastest-Dimension: 6000000"),
    ):
        assert old in content
        content = content.replace(old, new)
    cbf.write_bytes(content)
    with pytest.raises(FileError, match="cannot hold"):
        read_frame(cbf)


def test_a_cbf_that_claims_10_to_the_18_pixels_is_refused(cbf: Path) -> None:
    content = cbf.read_bytes().replace(b"Elements: 24", b"Elements: 1" + b"0" * 18)
    cbf.write_bytes(content)
    with pytest.raises(FileError, match="at most"):
        read_frame(cbf)


def test_an_edf_that_claims_10_to_the_18_pixels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.edf"
    fabio.edfimage.EdfImage(COUNTS).write(str(path))
    path.write_bytes(
        path.read_bytes().replace(b"Dim_1 = 6", b"Dim_1 = 1000000000").replace(b"Dim_2 = 4", b"Dim_2 = 1000000000")
    )
    with pytest.raises(FileError, match="claims 1000000000000000000 pixels"):
        read_frame(path)


@pytest.mark.parametrize("extension", ["edf", "tif"])
def test_truncated_formats_of_fabio_are_refused(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"f.{extension}"
    (fabio.edfimage.EdfImage if extension == "edf" else fabio.tifimage.TifImage)(COUNTS).write(str(path))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(FileError, match=rf"f\.{extension}.*damaged|f\.{extension}.*no image"):
        read_frame(path)


def test_what_is_no_image_is_refused_in_one_paragraph(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("a shopping list\n")
    with pytest.raises(FileError, match=r"notes\.txt.*no image") as caught:
        read_frame(path)
    assert "\n" not in str(caught.value)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.cbf"
    path.touch()
    with pytest.raises(FileError, match=r"empty\.cbf"):
        read_frame(path)


def test_a_frame_of_another_size_than_the_panel_is_refused_with_both_sizes(cbf: Path) -> None:
    with pytest.raises(DataError, match=r"4 × 6 pixels.*7 × 5"):
        read_frame(cbf).panel_arrays(detector(flat_panel(size=(5, 7))))


def test_panels_that_share_an_image_are_cut_at_their_offsets() -> None:
    two = detector(flat_panel("A", (2, 4)), flat_panel("B", (3, 3), (3, 1)))
    a, b = Frame(COUNTS, {}, Path("f")).panel_arrays(two)
    np.testing.assert_array_equal(a, COUNTS[:, :2])
    np.testing.assert_array_equal(b, COUNTS[1:, 3:])


def test_a_panel_that_reaches_past_the_shared_image_is_refused() -> None:
    with pytest.raises(DataError, match="panel 'B' needs 3 × 3 from slow 2, fast 3"):
        Frame(COUNTS, {}, Path("f")).panel_arrays(detector(flat_panel("A", (2, 4)), flat_panel("B", (3, 3), (3, 2))))


def test_panels_that_do_not_say_where_they_lie_in_a_shared_image_are_refused() -> None:
    with pytest.raises(DataError, match="2 panels do not say"):
        Frame(COUNTS, {}, Path("f")).panel_arrays(detector(flat_panel("A"), flat_panel("B")))


def test_panels_of_a_file_are_matched_by_name_and_else_by_order() -> None:
    frame = Frame((COUNTS, COUNTS + 1), {}, Path("f"), ("A", "B"))
    swapped = frame.panel_arrays(detector(flat_panel("B"), flat_panel("A")))
    np.testing.assert_array_equal(swapped[0], COUNTS + 1)
    unknown = frame.panel_arrays(detector(flat_panel("X"), flat_panel("Y")))
    np.testing.assert_array_equal(unknown[0], COUNTS)


def test_another_number_of_panels_is_refused() -> None:
    with pytest.raises(DataError, match="2 panels, the detector has 1"):
        Frame((COUNTS, COUNTS), {}, Path("f")).panel_arrays(detector())


def test_big_endian_counts_become_native(tmp_path: Path) -> None:
    path = tmp_path / "f.edf"
    path.write_bytes(_big_endian_edf())
    counts = image(read_frame(path))
    assert counts.dtype.isnative
    np.testing.assert_array_equal(counts, [[1, 2], [3, 400]])


def _big_endian_edf() -> bytes:
    header = "{\nByteOrder = HighByteFirst ;\nDataType = UnsignedShort ;\nDim_1 = 2 ;\nDim_2 = 2 ;\nSize = 8 ;\n"
    return header.encode().ljust(510) + b"}\n" + np.array([[1, 2], [3, 400]], dtype=">u2").tobytes()


def test_smv_is_recognized_by_its_content(tmp_path: Path) -> None:
    path = write_smv(tmp_path / "f.whatever", COUNTS.astype(np.uint16) % 100, {"DISTANCE": "100"})
    frame = read_frame(path)
    np.testing.assert_array_equal(image(frame), COUNTS.astype(np.uint16) % 100)
    assert frame.header["DISTANCE"] == "100"


def test_the_golden_mask_is_an_smv_frame() -> None:
    frame = read_frame(golden("inputs", "mask.img"))
    assert image(frame).shape == (80, 80)
    assert set(np.unique(image(frame))) == {0, 1}


def test_packed_imgcif_needs_pycbf_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = read_expt(shared("real", "thermolysin_cspad", "401.expt"))[0].images[0]
    monkeypatch.setitem(sys.modules, "pycbf", None)
    with pytest.raises(FileError, match="pip install pycbf"):
        read_frame(frame)


def test_the_cspad_frame_has_64_panels_in_the_order_of_the_detector(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pycbf")
    entry = read_expt(shared("real", "thermolysin_cspad", "401.expt"))[0]
    frame = read_frame(entry.images[0])
    panels = frame.panel_arrays(entry.detector)
    assert [panel.shape for panel in panels] == [(185, 194)] * 64
    assert frame.panel_names == tuple(panel.name for panel in entry.detector.panels)
    reversed_panels = dataclasses.replace(entry.detector, panels=entry.detector.panels[::-1])
    np.testing.assert_array_equal(frame.panel_arrays(reversed_panels)[0], panels[63])
    # Spots lie on their panels where DIALS found them, so the sections are cut right.
    peaks = []
    for spot in read_csv(shared("real", "thermolysin_cspad", "401_spots.csv")):
        fast, slow, counts = int(float(spot["fast_px"])), int(float(spot["slow_px"])), panels[int(spot["panel"])]
        around = counts[max(slow - 1, 0) : slow + 2, max(fast - 1, 0) : fast + 2]
        peaks.append((around.max() - np.median(counts)) / counts.std())
    assert min(peaks) > 2
    assert np.median(peaks) > 10
    assert capfd.readouterr() == ("", "")  # CBFlib would complain of long lines on stderr


def test_the_pilatus_frames_are_read_from_gzip() -> None:
    entry = read_expt(shared("real", "l_cysteine", "sweep4", "start.expt"))[0]
    assert all(path.suffix == ".gz" for path in entry.images)
    counts = read_frame(entry.images[0]).panel_arrays(entry.detector)[0]
    assert counts.shape == (1679, 1475)
    assert (counts.min(), counts.max()) == (-2, 2559)
