"""Pixels above their local background, frame by frame, for counting and integrating detectors alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from nbtorch.errors import ConfigError

Floats = NDArray[np.float64]
Bool = NDArray[np.bool_]
Ints = NDArray[np.int64]
Number = TypeVar("Number", np.int8, np.float64)

_LARGEST_TABULATED = 64.0  # counts: above it the normal law with a correction for skewness is good to 0.1 counts
_PASSES = 3  # background without strong pixels, strong pixels above that background, and so on


@dataclass(frozen=True)
class ThresholdSettings:
    """When a pixel is strong. All of it changes the answer.

    ``window`` (pixels, a multiple of 3) is the width of the box that gives background and variance. ``noise``
    "counting" asks for less than ``false_rate`` false pixels by Poisson's law, "integrating" for ``n_sigma`` of the
    local scatter, "auto" tells them apart by whole numbers without negative ones.
    """

    window: int = 15
    false_rate: float = 1e-6
    n_sigma: float = 5.0
    noise: str = "auto"

    def __post_init__(self) -> None:
        if self.noise not in ("auto", "counting", "integrating"):
            raise ConfigError(
                f"noise={self.noise!r}", "it is not a known choice", "Use one of: auto, counting, integrating"
            )
        if self.window < 6 or self.window % 3:
            raise ConfigError(f"window={self.window}", "it must be a multiple of 3, six or more", "Change window")


class LocalStatistics(NamedTuple):
    """Mean and variance of the pixels around each block [S, F] of a third of a window, and how many they are."""

    mean: Floats
    variance: Floats
    number: Floats

    def at(self, slow: Ints, fast: Ints, window: int) -> LocalStatistics:
        """Those of the pixels [m] at ``slow``, ``fast``."""
        place = slow // (window // 3), fast // (window // 3)
        return LocalStatistics(self.mean[place], self.variance[place], self.number[place])


@dataclass(frozen=True)
class _BlockSums:
    """Sums over the counted pixels of each block [S, F]: their number, their values above ``offset``, and squares."""

    block: int
    offset: float
    value: Floats  # [slow, fast] above ``offset``, 0 where not counted
    number: Floats
    total: Floats
    square: Floats

    @classmethod
    def of(cls, image: Floats, counted: Bool, block: int) -> _BlockSums:
        """The sums of ``image`` [slow, fast]."""
        # Sums of squares of large numbers cancel: count from a typical value, which a sample of the pixels gives.
        sample = image[::4, ::4][counted[::4, ::4]]
        offset = float(np.median(sample)) if sample.size else 0.0
        value = np.where(counted, image - offset, 0.0)
        sums = (_blocks(x, block) for x in (counted.astype(np.float64), value, value * value))
        return cls(block, offset, value, *sums)

    def without(self, slow: Ints, fast: Ints) -> _BlockSums:
        """The same without the counted pixels [m] at ``slow``, ``fast``: they are few."""
        value = self.value[slow, fast]
        place = np.ravel_multi_index((slow // self.block, fast // self.block), self.number.shape)

        def less(sums: Floats, weights: Floats) -> Floats:
            taken = np.bincount(place, weights=weights, minlength=sums.size).reshape(sums.shape)
            return np.asarray(sums - taken)

        number, total = less(self.number, np.ones(len(value))), less(self.total, value)
        return replace(self, number=number, total=total, square=less(self.square, value * value))

    def statistics(self) -> LocalStatistics:
        """Mean and variance over the 3×3 blocks around each."""
        count, total, square = (_three_by_three(np.pad(x, 1)) for x in (self.number, self.total, self.square))
        safe = np.maximum(count, 1)
        mean = total / safe
        variance = np.maximum(square / safe - mean * mean, 0) * safe / np.maximum(count - 1, 1)
        return LocalStatistics(np.where(count > 0, mean + self.offset, 0.0), variance, count)


def _blocks(value: Floats, block: int) -> Floats:
    """Sums [S, F] of ``value`` [slow, fast] over blocks; those of the far edges may be cut."""
    rows, columns = (-(-size // block) * block for size in value.shape)
    padded = np.pad(value, ((0, rows - value.shape[0]), (0, columns - value.shape[1])))
    lines = padded.reshape(rows // block, block, columns).sum(1)
    return np.asarray(lines.reshape(rows // block, columns // block, block).sum(2))


def _three_by_three(framed: NDArray[Number]) -> NDArray[Number]:
    """Sums [S, F] of ``framed`` [S + 2, F + 2] over the nine neighbours of each inner element."""
    three = framed[:-2] + framed[1:-1] + framed[2:]
    return np.asarray(three[:, :-2] + three[:, 1:-1] + three[:, 2:])


def is_counting(image: NDArray[np.generic], valid: Bool) -> bool:
    """Whether an image looks like counts: whole numbers, none negative."""
    values = image[valid]
    return not values.size or bool(
        values.min() >= 0 and (image.dtype.kind in "iu" or np.all(values == np.rint(values)))
    )


def poisson_excess(background: Floats, false_rate: float) -> Floats:
    """Counts above ``background`` [...] that Poisson noise reaches with less than ``false_rate``."""
    edges, limits = _poisson_table(false_rate)
    few = limits[np.minimum(np.searchsorted(edges, background), len(edges) - 1)] - background
    z = stats.norm.isf(false_rate)
    many = z * np.sqrt(background) + (z * z - 1) / 6  # Cornish and Fisher's term for the skewness of 1/√b
    return np.where(background < _LARGEST_TABULATED, few, many)


@cache
def _poisson_table(false_rate: float) -> tuple[Floats, Floats]:
    """Backgrounds, ascending, and the smallest count that each reaches with less than ``false_rate``."""
    edges = np.concatenate([[1e-4], np.geomspace(1e-3, _LARGEST_TABULATED * 1.02, 800)])
    return edges, stats.poisson.isf(false_rate, edges) + 0.5


class StrongPixels(NamedTuple):
    """Strong pixels and the rim around them, [m] each. ``signal`` is the value above ``background``."""

    slow: Ints
    fast: Ints
    signal: Floats
    background: Floats
    variance: Floats
    strong: Bool


def strong_pixels(counts: NDArray[np.generic], valid: Bool, settings: ThresholdSettings) -> StrongPixels:
    """The strong pixels of one panel [slow, fast] and their neighbours, which hold the tails of a spot."""
    counting = settings.noise == "counting" or (settings.noise == "auto" and is_counting(counts, valid))
    image = counts.astype(np.float64)
    every = _BlockSums.of(image, valid, settings.window // 3)
    neighbours = _Neighbours.of(every, valid)
    strong = near = np.zeros_like(valid)
    for _ in range(_PASSES):
        # Not the rim either: the tails of strong spots would raise the variance and hide their neighbours.
        local = every.without(*_nonzero(near & valid)).statistics()
        before, strong = strong, _strong(image, valid, local, neighbours, settings, counting=counting)
        if np.array_equal(before, strong):
            break
        near = _grown(strong)
    slow, fast = _nonzero(near & valid)
    around = local.at(slow, fast, settings.window)
    variance = np.maximum(around.variance, around.mean if counting else 0.0)
    return StrongPixels(slow, fast, image[slow, fast] - around.mean, around.mean, variance, strong[slow, fast])


def _grown(strong: Bool) -> Bool:
    """The ``strong`` pixels [slow, fast] and their eight neighbours; they are few, so one by one."""
    slow, fast = _nonzero(strong)
    grown = strong.copy()
    for down in (-1, 0, 1):
        for across in (-1, 0, 1):
            grown[np.clip(slow + down, 0, len(strong) - 1), np.clip(fast + across, 0, strong.shape[1] - 1)] = True
    return grown


class _Neighbours(NamedTuple):
    """Each pixel and its eight neighbours [slow, fast]: how many are valid, and their sum above ``offset``."""

    offset: float
    size: NDArray[np.int8]
    total: Floats

    @classmethod
    def of(cls, every: _BlockSums, valid: Bool) -> _Neighbours:
        return cls(
            every.offset, _three_by_three(np.pad(valid.astype(np.int8), 1)), _three_by_three(np.pad(every.value, 1))
        )


def _strong(
    image: Floats,
    valid: Bool,
    local: LocalStatistics,
    around: _Neighbours,
    settings: ThresholdSettings,
    *,
    counting: bool,
) -> Bool:
    """Pixels [slow, fast] that are strong by themselves, or with their eight neighbours and not faint themselves.

    The second finds weak spots of several pixels, whose single pixels noise could make.
    """
    noise = np.maximum(local.mean, local.variance) if counting else local.variance
    faintest = np.where(local.number > 2, local.mean + np.sqrt(np.maximum(noise, 0)), np.inf)
    slow, fast = _nonzero(valid & _above(image, faintest, settings.window // 3))
    place = slow // (settings.window // 3), fast // (settings.window // 3)
    mean, size = local.mean[place], around.size[slow, fast]
    # Limits are made for the blocks, which are fewer than the pixels; nearly all pixels have all their neighbours.
    alone, nine = (_excess(local, np.full_like(local.mean, n), settings, counting=counting)[place] for n in (1.0, 9.0))
    cut = np.nonzero(size < 9)[0]
    nine[cut] = _excess(
        local.at(slow[cut], fast[cut], settings.window), size[cut].astype(np.float64), settings, counting=counting
    )
    total = around.total[slow, fast] - (mean - around.offset) * size
    found = (image[slow, fast] - mean > alone) | (total > nine)
    strong = np.zeros_like(valid)
    strong[slow[found], fast[found]] = True
    return strong


def _above(image: Floats, limits: Floats, block: int) -> Bool:
    """Whether each pixel [slow, fast] is above the limit [S, F] of its block."""
    rows, columns = image.shape
    of_lines = np.repeat(limits, block, axis=1)[:, :columns]
    above = np.zeros(image.shape, dtype=bool)
    whole = rows // block * block
    lines = image[:whole].reshape(whole // block, block, columns)
    np.greater(lines, of_lines[: len(lines), None], out=above[:whole].reshape(lines.shape))
    above[whole:] = image[whole:] > of_lines[-1]
    return above


def _nonzero(chosen: Bool) -> tuple[Ints, Ints]:
    """Like ``np.nonzero`` of [slow, fast], which takes several times as long where few are chosen."""
    slow, fast = np.divmod(np.flatnonzero(chosen), chosen.shape[1])
    return slow, fast


def _excess(local: LocalStatistics, pixels: Floats, settings: ThresholdSettings, *, counting: bool) -> Floats:
    """How far [m] above its mean the sum of ``pixels`` [m] pixels must be."""
    if not counting:
        return np.asarray(settings.n_sigma * np.sqrt(local.variance * pixels))
    # Rings, edges and bad flat fields scatter more than counts do; sparse counts cannot tell, so never less than them.
    background = np.maximum(local.mean, 1 / np.maximum(local.number, 1))
    spread = np.sqrt(np.maximum(local.variance / background, 1))
    return np.asarray(poisson_excess(background * pixels, settings.false_rate) * spread)
