"""Two images of one scene: how far they are apart, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nbtorch.errors import DataError

Image = NDArray[np.float64]
#: The parity of docs/parity.md: a pixel may part by RELATIVE of itself and OF_MAXIMUM of the brightest one.
RELATIVE, OF_MAXIMUM = 2e-6, 1e-7
#: Relative differences count in pixels brighter than this share of the brightest.
FLOOR = 1e-4


@dataclass(frozen=True)
class ImageMetrics:
    """``first`` against ``second``, the reference, over the pixels of the region. Pixels are (fast, slow).

    correlation: Pearson's, 1 for two equal images, even flat ones. largest_relative: of pixels above ``floor``
    photons in the reference. outside_parity: pixels further apart than 2e-6 of themselves + 1e-7 of the maximum;
    worst_of_parity: the largest difference in units of that bound.
    """

    pixels: int
    correlation: float
    mse: float
    rmse: float
    largest_difference: float
    largest_difference_pixel: tuple[int, int]
    sum_first: float
    sum_second: float
    sum_ratio: float
    floor: float
    largest_relative: float
    largest_relative_pixel: tuple[int, int] | None
    outside_parity: int
    worst_of_parity: float

    def meets(self, threshold: float) -> bool:
        """Whether the correlation is at least ``threshold`` and the sums' ratio as close to 1.

        A correlation alone would not see a wrong scale. NaN meets nothing.
        """
        return self.correlation >= threshold and abs(self.sum_ratio - 1) <= 1 - threshold


def crop(image: Image, roi: tuple[int, int, int, int] | None) -> Image:
    """The region (xmin, xmax, ymin, ymax), bounds included, fast then slow. Raises DataError when it holds no pixel."""
    if roi is None:
        return image
    x0, x1, y0, y1 = roi
    if min(x0, y0) < 0 or x0 > x1 or y0 > y1 or x1 >= image.shape[1] or y1 >= image.shape[0]:
        size = f"{image.shape[1]} × {image.shape[0]}"
        raise DataError(f"--roi {x0} {x1} {y0} {y1}", f"it does not lie in the image of {size} pixels", "Change it")
    return image[y0 : y1 + 1, x0 : x1 + 1]


def _overlaps(target: int, source: int) -> NDArray[np.float64]:
    """[target, source]: the share of each source pixel that each target pixel covers, both spanning the same length."""
    edges = np.linspace(0, source, target + 1)
    pixel = np.arange(source)
    shared = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return np.clip(shared, 0, None)


def resample(image: Image, shape: tuple[int, int]) -> Image:
    """``image`` on ``shape`` [slow, fast] pixels over the same area: photons are shared by area, their sum is kept."""
    rows, columns = _overlaps(shape[0], image.shape[0]), _overlaps(shape[1], image.shape[1])
    return rows @ image @ columns.T


def difference(first: Image, second: Image) -> Image:
    """first − second; 0 where both are the same infinity, or both no number."""
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    return np.subtract(first, second, out=np.zeros_like(first), where=~same)


def correlation(first: Image, second: Image) -> float:
    """Pearson's correlation of the pixels; 1 for equal images, NaN where one of two unequal ones is flat."""
    if np.array_equal(first, second):
        return 1.0
    a, b = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 0 else float("nan")


def _at(index: int, shape: tuple[int, ...], corner: tuple[int, int]) -> tuple[int, int]:
    slow, fast = divmod(index, shape[1])
    return fast + corner[0], slow + corner[1]


def compare_images(first: Image, second: Image, roi: tuple[int, int, int, int] | None = None) -> ImageMetrics:
    """Metrics over ``roi`` (default: the frame) of two images [slow, fast]. Raises DataError for two shapes."""
    if first.shape != second.shape:
        raise DataError(f"images of {first.shape} and {second.shape} pixels", "their shapes differ", "Resample one")
    first, second = crop(first.astype(np.float64), roi), crop(second.astype(np.float64), roi)
    corner = (roi[0], roi[2]) if roi else (0, 0)
    apart = np.abs(difference(first, second))
    size = np.abs(second)
    bound = RELATIVE * size + OF_MAXIMUM * size.max()
    floor = FLOOR * float(size.max())
    bright = (size > floor) & np.isfinite(size)
    relative = np.divide(apart, size, out=np.zeros_like(apart), where=bright)
    sums = float(first.sum()), float(second.sum())
    return ImageMetrics(
        pixels=first.size,
        correlation=correlation(first, second),
        mse=float((apart**2).mean()),
        rmse=float(np.sqrt((apart**2).mean())),
        largest_difference=float(apart.max()),
        largest_difference_pixel=_at(int(apart.argmax()), apart.shape, corner),
        sum_first=sums[0],
        sum_second=sums[1],
        sum_ratio=1.0 if sums[0] == sums[1] else sums[0] / sums[1] if sums[1] else float("inf"),
        floor=floor,
        largest_relative=float(relative.max()),
        largest_relative_pixel=_at(int(relative.argmax()), relative.shape, corner) if bright.any() else None,
        outside_parity=int(np.count_nonzero(~(apart <= bound))),
        worst_of_parity=float(np.divide(apart, bound, out=np.zeros_like(apart), where=apart > 0).max()),
    )
