"""Pictures for the report: frames binned by their brightest pixels, and boxes from the best to the worst explained."""

from __future__ import annotations

import numpy as np
import pytest

from refine.conclude.frame_pictures import MAX_DOTS, picture
from refine.conclude.spot_boxes import spread
from refine.frames.frame_stack import MeasuredFrame


def test_a_spot_of_one_pixel_is_not_lost_and_masked_pixels_are_marked() -> None:
    counts = np.full((2000, 1500), 5, dtype=np.int32)
    counts[1203, 777] = 900
    valid = np.ones(counts.shape, dtype=bool)
    valid[:40] = False
    found = picture(MeasuredFrame((counts,), (valid,)), 2, 7, "a.cbf")
    (levels,) = found.levels
    assert (found.experiment, found.frame, found.name) == (2, 7, "a.cbf")
    assert levels.size <= 1.01 * MAX_DOTS
    assert levels.shape == (-(-2000 // found.bin), -(-1500 // found.bin))
    assert levels[1203 // found.bin, 777 // found.bin] == 255
    assert (levels[: 40 // found.bin] == 0).all()
    assert (levels[40 // found.bin + 1 :] > 0).all()


def test_a_small_frame_keeps_its_pixels_and_levels_go_as_square_roots() -> None:
    counts = np.arange(0, 10_000, dtype=np.float64).reshape(100, 100)
    found = picture(MeasuredFrame((counts,), (np.ones(counts.shape, bool),)), 0, 0, "a")
    assert found.bin == 1
    share = (counts[50, 50] - found.low) / (found.high - found.low)
    assert found.levels[0][50, 50] == pytest.approx(1 + 254 * share**0.5, abs=0.5)


def test_a_frame_without_a_valid_pixel_is_a_picture_of_nothing() -> None:
    dead = picture(MeasuredFrame((np.ones((5, 5)),), (np.zeros((5, 5), bool),)), 0, 0, "a")
    assert (dead.levels[0] == 0).all()


@pytest.mark.parametrize(("number", "most", "expected"), [(3, 10, 3), (100, 10, 10), (0, 5, 0), (7, 1, 1)])
def test_rows_are_spread_over_all_ranks(number: int, most: int, expected: int) -> None:
    chosen = spread(range(number), most)
    assert len(chosen) == expected
    if expected > 1:
        assert (chosen[0], chosen[-1]) == (0, number - 1)
        assert max(np.diff(chosen)) - min(np.diff(chosen)) <= 1
