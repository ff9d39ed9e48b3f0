"""Which pixels count as measured."""

from __future__ import annotations

import dataclasses
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbtorch.config import DetectorConfig, PanelConfig
from nbtorch.errors import DataError, FileError
from nbtorch.io import read_expt, read_frame, read_mask, valid_pixels, write_cbf
from tests.helpers.data import shared

PANEL = PanelConfig((1, 0, 0), (0, -1, 0), (0, 0, -100), (0.1, 0.1), (3, 2), name="P")
COUNTS = np.array([[-2, -1, 0], [5, 100, 101]], dtype=np.int32)


def ranged(low: float, high: float, **changes: Any) -> PanelConfig:
    return dataclasses.replace(PANEL, trusted_range=(low, high), **changes)


@pytest.mark.parametrize("low", [-2.0, -1.0, 0.0])
def test_negative_counts_of_a_counting_detector_are_marks(low: float) -> None:
    valid = valid_pixels(ranged(low, 100), COUNTS)
    np.testing.assert_array_equal(valid, [[False, False, True], [True, True, False]])


def test_negative_units_of_an_integrating_detector_are_measurements() -> None:
    assert valid_pixels(ranged(-400, 1000), COUNTS).all()
    np.testing.assert_array_equal(valid_pixels(ranged(-400, 1000), COUNTS - 399), COUNTS - 399 >= -400)


def test_a_range_that_starts_above_zero_is_kept() -> None:
    np.testing.assert_array_equal(valid_pixels(ranged(5, 100), COUNTS), [[False, False, False], [True, True, False]])


def test_without_a_range_negative_integers_are_marks_and_negative_floats_are_not() -> None:
    np.testing.assert_array_equal(valid_pixels(PANEL, COUNTS), COUNTS >= 0)
    assert valid_pixels(PANEL, COUNTS.astype(np.float32)).all()


def test_without_a_range_the_largest_unsigned_integer_is_a_mark() -> None:
    counts = np.array([[2**32 - 1, 0, 1], [2, 3, 2**32 - 2]], dtype=np.uint32)
    np.testing.assert_array_equal(valid_pixels(PANEL, counts), [[False, True, True], [True, True, True]])


def test_nan_and_infinity_are_never_valid() -> None:
    counts = np.array([[np.nan, np.inf, 0], [-np.inf, 1, 2]])
    np.testing.assert_array_equal(valid_pixels(PANEL, counts), [[False, False, True], [False, True, True]])


def test_rectangles_are_half_open_and_fast_comes_first() -> None:
    valid = valid_pixels(ranged(-400, 1000, mask=((1, 0, 3, 1),)), COUNTS)
    np.testing.assert_array_equal(valid, [[True, False, False], [True, True, True]])


def test_a_rectangle_that_reaches_over_the_edge_masks_what_it_covers() -> None:
    valid = valid_pixels(ranged(-400, 1000, mask=((-5, 1, 2, 9),)), COUNTS)
    np.testing.assert_array_equal(valid, [[True, True, True], [False, False, True]])


def test_a_user_mask_takes_pixels_away_and_adds_none() -> None:
    mask = np.array([[True, True, True], [False, True, True]])
    np.testing.assert_array_equal(
        valid_pixels(ranged(0, 100), COUNTS, mask), [[False, False, True], [False, True, False]]
    )


def test_counts_or_a_mask_of_another_size_are_refused_with_both_sizes() -> None:
    with pytest.raises(DataError, match=r"3 × 2 pixels.*2 × 3"):
        valid_pixels(PANEL, COUNTS.T)
    with pytest.raises(DataError, match=r"mask of panel 'P'.*3 × 3 pixels.*2 × 3"):
        valid_pixels(PANEL, COUNTS, np.ones((3, 3), dtype=bool))


def test_nothing_is_changed_in_place() -> None:
    counts, mask = COUNTS.copy(), np.ones((2, 3), dtype=bool)
    valid_pixels(ranged(0, 100, mask=((0, 0, 1, 1),)), counts, mask)
    np.testing.assert_array_equal(counts, COUNTS)
    assert mask.all()


def test_a_mask_is_read_from_any_image_or_numpy_file(tmp_path: Path) -> None:
    wanted = COUNTS >= 5
    write_cbf(tmp_path / "m.cbf", wanted.astype(np.int32) * 7)
    np.save(tmp_path / "m.npy", wanted)
    np.savez(tmp_path / "m.npz", mask=wanted)
    for name in ("m.cbf", "m.npy", "m.npz"):
        (mask,) = read_mask(tmp_path / name, DetectorConfig((PANEL,)))
        np.testing.assert_array_equal(mask, wanted, err_msg=name)


def test_an_npz_holds_one_mask_a_panel(tmp_path: Path) -> None:
    other = dataclasses.replace(PANEL, name="Q", size=(2, 2))
    np.savez(tmp_path / "m.npz", np.ones((2, 3)), np.zeros((2, 2)))
    first, second = read_mask(tmp_path / "m.npz", DetectorConfig((PANEL, other)))
    assert first.all()
    assert not second.any()
    assert second.shape == (2, 2)


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.ones((5, 4)))
    with pytest.raises(DataError, match=r"m\.npy.*5 × 4 pixels.*2 × 3"):
        read_mask(tmp_path / "m.npy", DetectorConfig((PANEL,)))


def test_a_pickled_mask_is_refused_unread(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    np.save(tmp_path / "m.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(FileError, match="plain numbers"):
        read_mask(tmp_path / "m.npy", DetectorConfig((PANEL,)))
    assert not (tmp_path / "sprung").exists()


def test_numpy_files_that_are_cut_or_claim_too_much_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "cut.npy", np.ones((2, 3)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-8])
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 1000000000), }".ljust(117) + b"\n"
    (tmp_path / "vast.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    (tmp_path / "no.npz").write_bytes(b"PK nothing")
    with zipfile.ZipFile(tmp_path / "none.npz", "w"):
        pass
    for name in ("cut.npy", "vast.npy", "no.npz", "none.npz"):
        with pytest.raises(FileError, match=name):
            read_mask(tmp_path / name, DetectorConfig((PANEL,)))


def test_the_gaps_of_a_pilatus_are_invalid_and_its_zeros_valid() -> None:
    entry = read_expt(shared("real", "in16c", "indexed.expt"))[0]
    (counts,) = read_frame(entry.images[0]).panel_arrays(entry.detector)
    panel = entry.detector.panels[0]
    valid = valid_pixels(panel, counts)
    assert not valid[counts < 0].any()
    assert not valid[195:212].any()
    assert valid[counts == 0].mean() > 0.99
    assert math.isclose(valid.mean(), 1 - 2 * 17 / 619, abs_tol=1e-3)  # two gaps of 17 rows and a few bad pixels


def test_the_negative_units_of_the_cspad_are_valid() -> None:
    pytest.importorskip("pycbf")
    entry = read_expt(shared("real", "thermolysin_cspad", "401.expt"))[0]
    arrays = read_frame(entry.images[0]).panel_arrays(entry.detector)
    valid = [valid_pixels(panel, counts) for panel, counts in zip(entry.detector.panels, arrays, strict=True)]
    negative = [(counts < 0) & (counts >= -400) for counts in arrays]
    assert sum(int(n.sum()) for n in negative) > 1000
    assert all(v[n].all() for v, n in zip(valid, negative, strict=True))
    assert not any(v[counts < -400].any() for v, counts in zip(valid, arrays, strict=True))
