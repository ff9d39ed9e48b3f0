"""Metrics of two images, resampling, previews."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from nbtorch.errors import DataError
from nbtorch.nanobragg.compare.images import compare_images, correlation, crop, resample
from nbtorch.nanobragg.compare.previews import grey, preview_scale, signed_colours, write_png


@pytest.fixture
def image(rng: np.random.Generator) -> np.ndarray:
    return rng.exponential(100, (20, 30))


def test_equal_images_agree_perfectly_even_flat_or_empty(image: np.ndarray) -> None:
    for each in (image, np.full((4, 5), 7.0), np.zeros((4, 5))):
        metrics = compare_images(each, each)
        assert (metrics.correlation, metrics.sum_ratio, metrics.rmse) == (1, 1, 0)
        assert metrics.outside_parity == 0
        assert metrics.meets(1.0)


def test_the_largest_difference_and_its_pixel_are_found_fast_then_slow(image: np.ndarray) -> None:
    other = image.copy()
    other[3, 17] += 50
    metrics = compare_images(other, image)
    assert metrics.largest_difference == pytest.approx(50)
    assert metrics.largest_difference_pixel == (17, 3)
    assert metrics.mse == pytest.approx(2500 / 600)
    assert metrics.rmse == pytest.approx(50 / np.sqrt(600))
    assert metrics.outside_parity == 1
    assert metrics.worst_of_parity == pytest.approx(50 / (2e-6 * image[3, 17] + 1e-7 * image.max()))
    assert metrics.sum_first - metrics.sum_second == pytest.approx(50)


def test_pixels_are_named_in_the_frame_not_in_the_region(image: np.ndarray) -> None:
    other = image.copy()
    other[3, 17] += 50
    assert compare_images(other, image, (15, 20, 2, 9)).largest_difference_pixel == (17, 3)
    elsewhere = compare_images(other, image, (0, 10, 0, 19))
    assert elsewhere.largest_difference == 0
    assert elsewhere.pixels == 11 * 20


def test_the_relative_difference_counts_above_its_floor_only() -> None:
    reference = np.array([[1000.0, 10.0, 1e-3]])
    other = np.array([[1001.0, 10.5, 1.0]])
    metrics = compare_images(other, reference)
    assert metrics.floor == pytest.approx(0.1)
    assert metrics.largest_relative == pytest.approx(0.05)
    assert metrics.largest_relative_pixel == (1, 0)


def test_a_correlation_does_not_hide_a_wrong_scale(image: np.ndarray) -> None:
    metrics = compare_images(2 * image, image)
    assert metrics.correlation == pytest.approx(1)
    assert metrics.sum_ratio == pytest.approx(2)
    assert not metrics.meets(0.9)
    assert compare_images(1.05 * image, image).meets(0.9)


def test_correlation_is_pearsons_and_undefined_for_a_flat_image(image: np.ndarray) -> None:
    other = image + 30 * np.sin(np.arange(600)).reshape(20, 30)
    assert correlation(other, image) == pytest.approx(np.corrcoef(other.ravel(), image.ravel())[0, 1], rel=1e-12)
    assert np.isnan(correlation(np.zeros_like(image), image))
    assert not compare_images(np.zeros_like(image), image).meets(-1)


def test_equal_infinities_are_no_difference_and_one_sided_ones_are(image: np.ndarray) -> None:
    ours, theirs = image.copy(), image.copy()
    ours[2, 2] = theirs[2, 2] = np.inf
    assert compare_images(ours, theirs).largest_difference == 0
    theirs[2, 2] = 1.0
    with np.errstate(invalid="ignore"):
        metrics = compare_images(ours, theirs)
    assert metrics.outside_parity == 1
    assert not metrics.meets(0.5)


def test_different_shapes_and_regions_outside_are_refused(image: np.ndarray) -> None:
    with pytest.raises(DataError, match="shapes differ"):
        compare_images(image, image.T)
    for roi in ((0, 30, 0, 5), (-1, 3, 0, 5), (5, 4, 0, 5)):
        with pytest.raises(DataError, match="does not lie in the image"):
            crop(image, roi)


@pytest.mark.parametrize("shape", [(10, 15), (40, 60), (7, 31), (20, 30), (1, 1)])
def test_resampling_keeps_the_photons(image: np.ndarray, shape: tuple[int, int]) -> None:
    resampled = resample(image, shape)
    assert resampled.shape == shape
    assert resampled.sum() == pytest.approx(image.sum(), rel=1e-12)


def test_resampling_by_a_whole_factor_is_binning(image: np.ndarray) -> None:
    binned = image.reshape(10, 2, 10, 3).sum(axis=(1, 3))
    np.testing.assert_allclose(resample(image, (10, 10)), binned, rtol=1e-12)
    np.testing.assert_allclose(resample(image, (20, 30)), image, rtol=1e-12)


def test_previews_are_scaled_clipped_and_readable(image: np.ndarray, tmp_path: Path) -> None:
    scale = preview_scale(image)
    assert scale == pytest.approx(50 / image.std())
    path = write_png(tmp_path / "a.png", grey(image, scale))
    with Pillow.open(path) as read:
        pixels = np.asarray(read)
    np.testing.assert_array_equal(pixels, np.clip(image * scale, 0, 255).astype(np.uint8))
    assert preview_scale(np.zeros((3, 3))) == 1.0
    assert grey(np.array([[np.nan, np.inf, -1.0]]), 1.0).tolist() == [[0, 255, 0]]


def test_a_difference_is_red_above_blue_below_and_white_at_zero() -> None:
    assert signed_colours(np.array([[2.0, 0.0, -2.0]])).tolist() == [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]]
    assert signed_colours(np.zeros((1, 1))).tolist() == [[[255, 255, 255]]]
