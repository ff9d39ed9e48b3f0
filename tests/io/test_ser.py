"""TIA series of electron microscopes, and old CBF whose binary header has no dimensions."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from nbtorch.errors import FileError
from nbtorch.io import FrameRef, list_frames, read_expt, read_frame
from nbtorch.io.geometry import header_geometry
from nbtorch.io.ser import ELEMENT
from tests.helpers.data import shared
from tests.helpers.dxtbx import system_python


def series(path: Path, images: np.ndarray, kind: int, version: int = 0x210, data: int = 0x4122) -> Path:
    """A series of ``images`` [n, slow, fast] as TIA writes it."""
    wide, count = version >= 0x220, len(images)
    where = 22 + (8 if wide else 4) + 4
    offsets, body = [], b""
    start = where + count * (8 if wide else 4)
    for image in images:
        offsets.append(start + len(body))
        body += ELEMENT.pack(0, 1, 0, 0, 1, 0, kind, image.shape[1], image.shape[0]) + image.tobytes()
    head = struct.pack("<HHHIIII", 0x4949, 0x0197, version, data, 0x4152, count, count)
    head += struct.pack("<Q" if wide else "<I", where) + struct.pack("<I", 1)
    path.write_bytes(head + struct.pack(f"<{count}{'Q' if wide else 'I'}", *offsets) + body)
    return path


@pytest.mark.parametrize(("kind", "dtype"), [(2, "<u2"), (5, "<i2"), (6, "<i4"), (7, "<f4")])
@pytest.mark.parametrize("version", [0x210, 0x220])
def test_the_images_of_a_series_are_read_one_by_one(tmp_path: Path, kind: int, dtype: str, version: int) -> None:
    images = np.arange(2 * 5 * 7).reshape(2, 5, 7).astype(dtype)
    path = series(tmp_path / "a_1.ser", images, kind, version)
    assert list_frames(path) == (FrameRef(path, 0), FrameRef(path, 1))
    for index in (0, 1):
        counts = read_frame(FrameRef(path, index)).counts
        assert isinstance(counts, np.ndarray)
        assert counts.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(counts, images[index])
    with pytest.raises(FileError, match="it holds 2 images"):
        read_frame(path)


def test_dxtbx_reads_the_pixels_of_a_series_alike(tmp_path: Path) -> None:
    images = np.arange(5 * 7).reshape(1, 5, 7).astype("<u2")
    script = """
import sys
from dxtbx.format.FormatSER import FormatSERimages
print(*FormatSERimages(sys.argv[1]).get_raw_data())
"""
    path = series(tmp_path / "a_1.ser", images, 2)
    counts = read_frame(path).counts
    assert isinstance(counts, np.ndarray)
    assert [int(word) for word in system_python()(script, str(path)).split()] == counts.ravel().tolist()


def test_a_series_that_is_cut_short_or_holds_spectra_is_refused(tmp_path: Path) -> None:
    path = series(tmp_path / "a_1.ser", np.ones((1, 5, 7), dtype="<u2"), 2)
    content = path.read_bytes()
    for size, why in ((20, "inside its header"), (len(content) - 2, "5 × 7 pixels are not all there")):
        path.write_bytes(content[:size])
        with pytest.raises(FileError, match=why):
            read_frame(path)
    with pytest.raises(FileError, match="it holds spectra"):
        read_frame(series(tmp_path / "b_1.ser", np.ones((1, 5, 7), dtype="<u2"), 2, data=0x4120))


def test_the_geometry_of_a_series_is_what_is_stated(tmp_path: Path) -> None:
    path = series(tmp_path / "a_1.ser", np.ones((1, 5, 7), dtype="<u2"), 2)
    with pytest.raises(FileError, match=r"Give geometry\.wavelength=Å geometry\.distance=MM"):
        header_geometry(path)
    stated = {"wavelength": 0.0251, "distance": 500.0, "beam_centre": (3.5, 2.5), "pixel_size": 0.014}
    geometry = header_geometry(path, stated)
    assert geometry.detector.panels[0].size == (7, 5)
    assert geometry.beam.kahn_factor == 0.0  # electrons


def test_an_image_of_a_published_series_is_read() -> None:
    counts = read_frame(shared("formats", "em", "64x64_diffraction_acquire_1.ser")).counts
    assert isinstance(counts, np.ndarray)
    assert (counts.shape, counts.dtype) == ((64, 64), np.dtype("<f4"))
    assert np.isfinite(counts).all()
    assert counts.max() > 10 * np.median(counts)


def test_an_old_cbf_takes_its_dimensions_from_its_tables() -> None:
    """Fit2D's: uncompressed, without dimensions or number of elements in the binary header."""
    path = shared("formats", "cbf", "fit2d_data.cbf")
    counts = read_frame(path).counts
    assert isinstance(counts, np.ndarray)
    assert counts.shape == (236, 263)
    assert int(counts.sum()) == 20677491  # of the 248272 bytes as little-endian int32
    with pytest.raises(FileError, match=r"Give geometry\.distance=MM geometry\.beam_centre"):
        header_geometry(path)
    geometry = header_geometry(path, {"distance": 100.0, "beam_centre": (1, 2), "pixel_size": 0.1})
    assert geometry.beam.wavelength == 1.7712
    assert geometry.detector.panels[0].size == (263, 236)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("crystfel/pilatus.geom", "it is a CrystFEL geometry"),
        ("xds/example-xparm.xds", "it is an XPARM.XDS"),
        ("poni/CeO2_Pilatus1M.poni", r"it is a pyFAI geometry \(\.poni\): no experiment list"),
        ("crystfel/crystfel.stream", "it is a CrystFEL stream"),
        ("cbf/fit2d_data.cbf", r"it is an image .* Give it as data\.frames="),
        ("nxmx/Therm_6_2.nxs", r"file of images.* Give it as data\.frames="),
        ("expt/datablock.json", r"data block.* Convert it with dials\.import"),
    ],
)
def test_what_is_no_experiment_list_is_named_as_what_it_is(name: str, what: str) -> None:
    with pytest.raises(FileError, match=what):
        read_expt(shared("formats", *name.split("/")))
