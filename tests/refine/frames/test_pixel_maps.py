"""Mask, gain and pedestal of every pixel: used where they can be read, said where they cannot."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nbtorch.config import DetectorConfig
from nbtorch.errors import NbtorchError
from nbtorch.io import read_expt, write_cbf
from nbtorch.io.expt import PixelFiles
from refine.frames.frame_stack import FrameReader
from refine.frames.kept_pixels import KeptPixels
from refine.frames.pixel_maps import PixelMaps, pixel_maps
from refine.records.journal import Journal
from tests.refine import small

SHAPE = (small.SIZE, small.SIZE)


@pytest.fixture
def detector(tmp_path: Path) -> DetectorConfig:
    path = tmp_path / "start.expt"
    path.write_text(json.dumps(small.document()))
    return read_expt(path)[0].detector


def saved(path: Path, values: np.ndarray) -> Path:
    np.save(path, values)
    return path


def test_the_files_of_the_list_are_used_and_said(tmp_path: Path, detector: DetectorConfig) -> None:
    mask = np.ones(SHAPE, dtype=np.uint8)
    mask[:7] = 0
    gain, pedestal = np.full(SHAPE, 2.0), np.full(SHAPE, 30.0)
    gain[:, :5], pedestal[20] = 4.0, 50.0
    names = ("mask", "gain", "pedestal")
    files = PixelFiles(*(saved(tmp_path / f"{n}.npy", v) for n, v in zip(names, (mask, gain, pedestal), strict=True)))
    journal = Journal()
    reader = FrameReader(detector, pixel_maps(detector, files, None, journal))
    assert [entry.code for entry in journal.entries] == ["pixel_file_used"] * 3
    counts = np.random.default_rng(1).integers(100, 200, SHAPE).astype(np.int32)
    write_cbf(tmp_path / "a.cbf", counts)
    (signal,), (valid,) = reader.frame(tmp_path / "a.cbf")
    assert not valid[:7].any()
    assert valid[7:].all()
    expected = (counts - pedestal) * (2.0 / gain)  # photons times the panel's gain, which is the map's median
    assert signal == pytest.approx(expected)
    assert reader.detector.panels[0].gain == 2.0
    places = np.array([3, 25 * small.SIZE + 2, 20 * small.SIZE + 90])
    kept: KeptPixels = reader.pixels(tmp_path / "a.cbf", 0, places)
    assert kept.counts == pytest.approx(expected.ravel()[places])
    assert kept.valid.tolist() == [False, True, True]


def test_without_files_counts_are_as_in_the_frame(tmp_path: Path, detector: DetectorConfig) -> None:
    counts = np.arange(small.SIZE**2, dtype=np.int32).reshape(SHAPE)
    write_cbf(tmp_path / "a.cbf", counts)
    (signal,), _ = FrameReader(detector).frame(tmp_path / "a.cbf")
    assert signal.dtype == np.int32
    assert np.array_equal(signal, counts)


def test_a_pedestal_of_the_panel_gives_way_to_that_of_its_pixels(detector: DetectorConfig) -> None:
    panel = replace(detector.panels[0], pedestal=5.0)
    config = replace(detector, panels=(panel,))
    counts = np.full(SHAPE, 100, dtype=np.int32)
    assert (PixelMaps().signal(config, 0, counts) == 95).all()
    assert (PixelMaps(pedestal=(np.full(SHAPE, 7.0),)).signal(config, 0, counts) == 93).all()


def test_a_pickled_mask_is_a_warning_with_the_way_to_use_it(tmp_path: Path, detector: DetectorConfig) -> None:
    path = tmp_path / "pixels.mask"
    path.write_bytes(b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00")
    journal = Journal()
    maps = pixel_maps(detector, PixelFiles(mask=path), None, journal)
    assert maps.mask is None
    (entry,) = journal.entries
    assert (entry.code, entry.level) == ("pixel_file_not_used", "warning")
    assert "dials.python" in entry.sentence


def test_a_gain_that_is_not_positive_is_not_used(tmp_path: Path, detector: DetectorConfig) -> None:
    gain = np.ones(SHAPE)
    gain[3, 4] = 0
    journal = Journal()
    maps = pixel_maps(detector, PixelFiles(gain=saved(tmp_path / "g.npy", gain)), None, journal)
    assert maps.gain is None
    assert "the gain of 1 pixels is not positive" in journal.entries[0].sentence


def test_the_users_mask_replaces_the_lists_and_a_bad_one_ends_the_run(tmp_path: Path, detector: DetectorConfig) -> None:
    own = np.ones(SHAPE)
    own[0] = 0
    mine, theirs = saved(tmp_path / "own.npy", own), saved(tmp_path / "their.npy", np.zeros(SHAPE))
    journal = Journal()
    maps = pixel_maps(detector, PixelFiles(mask=theirs), str(mine), journal)
    assert maps.mask is not None
    assert (maps.mask[0].sum(), journal.entries[0].code) == (small.SIZE * (small.SIZE - 1), "mask_replaced")
    with pytest.raises(NbtorchError, match=r"nowhere\.npy"):
        pixel_maps(detector, PixelFiles(), str(tmp_path / "nowhere.npy"), Journal())
