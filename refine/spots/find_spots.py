"""Spots on frames: strong pixels joined over pixels and frames, their centroids and widths.

Only strong pixels are kept from a frame, so that a scan of any length can stream through.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from nbtorch.errors import DataError
from refine.spots.strong_pixels import Bool, Floats, Ints, ThresholdSettings, strong_pixels

Number = TypeVar("Number", np.int64, np.float64)
Masked = tuple[Sequence[NDArray[np.generic]], Sequence[Bool]]  # a frame's panels and their masks, [slow, fast] each
_FEWEST_FRAMES_OF_HOT = 3  # a pixel strong in each of fewer frames may be a spot


@dataclass(frozen=True)
class SpotSettings:
    """What makes a spot of strong pixels. ``join_frames``: frames follow each other in a scan, else each is a still."""

    threshold: ThresholdSettings = field(default_factory=ThresholdSettings)
    min_pixels: int = 2
    max_pixels: int = 4000
    min_significance: float = 6.0  # summed signal over the square root of its summed variance
    join_frames: bool = True


@dataclass(frozen=True)
class Spots:
    """n spots, brightest first. fast, slow: [n] centroids in pixels, (0, 0) at the corner of the first pixel;
    frame: [n] centroids in frames, 0.0 at the start of the first. counts: [n] above background; widths: [n] square
    roots of the second moments (pixels, frames); n_pixels: strong ones; first_frame, last_frame: inclusive.
    """

    panel: Ints
    fast: Floats
    slow: Floats
    frame: Floats
    counts: Floats
    peak: Floats
    background: Floats  # per pixel and frame
    significance: Floats
    n_pixels: Ints
    width_fast: Floats
    width_slow: Floats
    width_frame: Floats
    first_frame: Ints
    last_frame: Ints

    def __len__(self) -> int:
        return len(self.panel)

    def __getitem__(self, chosen: NDArray[np.generic] | slice) -> Spots:
        """The spots at ``chosen`` (positions, a slice or a boolean array [n])."""
        return Spots(**{name: value[chosen] for name, value in vars(self).items()})


@dataclass(frozen=True)
class _Pixels:
    """Pixels of all frames, [m] each, sorted by place (panel, frame, slow, fast)."""

    panel: Ints
    frame: Ints
    slow: Ints
    fast: Ints
    signal: Floats
    background: Floats
    variance: Floats
    strong: Bool

    def at(self, chosen: NDArray[np.generic]) -> _Pixels:
        return _Pixels(**{name: value[chosen] for name, value in vars(self).items()})


def find_spots(frames: Iterable[Masked | None], settings: SpotSettings | None = None) -> Spots:
    """Spots on frames that come with masks of their own, one frame being held at a time; None is a frame that is lost.

    No pixel that is masked on any frame is part of a spot, but for frames on which all are. Deterministic. Raises
    DataError where panels have other sizes.
    """
    settings = settings or SpotSettings()
    pixels, count = _collect(frames, settings.threshold)
    pixels = pixels.at(~_hot(pixels, count))
    label = _label(pixels, join_frames=settings.join_frames)
    return _measure(pixels, label, settings)


def _collect(frames: Iterable[Masked | None], settings: ThresholdSettings) -> tuple[_Pixels, int]:
    """Strong pixels of every panel of every frame, and how many frames there were."""
    parts, count = [], 0
    common: tuple[Bool, ...] = ()
    for count, frame in enumerate(frames, start=1):
        if frame is None:
            continue
        panels, masks = frame
        shapes = [mask.shape for mask in common or masks]
        if [image.shape for image in panels] != shapes:
            raise DataError(
                f"frame {count} with panels of {[image.shape for image in panels]}",
                f"the masks have {shapes}",
                "Give masks and frames of one detector",
            )
        common = _both(common, tuple(masks))
        for index, (image, mask) in enumerate(zip(panels, masks, strict=True)):
            found = strong_pixels(image, mask, settings)
            here = np.full(len(found.slow), index), np.full(len(found.slow), count - 1)
            parts.append((*here, *found))
    if not parts:
        raise DataError("no frames", "there is nothing to find spots on", "Give at least one frame")
    joined = _Pixels(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    joined = joined.at(_on(common, joined))
    return joined.at(np.lexsort((joined.fast, joined.slow, joined.frame, joined.panel))), count


def _both(common: tuple[Bool, ...], masks: tuple[Bool, ...]) -> tuple[Bool, ...]:
    """What is valid on the frames so far and on another; a frame without any valid pixel tells nothing."""
    if not common or not any(mask.any() for mask in masks):
        return common or masks
    if not any(mask.any() for mask in common):
        return masks
    return tuple(one & other for one, other in zip(common, masks, strict=True))


def _on(masks: tuple[Bool, ...], pixels: _Pixels) -> Bool:
    """Whether each of ``pixels`` is valid by ``masks``, one a panel."""
    good = np.ones(len(pixels.panel), dtype=bool)
    for index, mask in enumerate(masks):
        here = pixels.panel == index
        good[here] = mask[pixels.slow[here], pixels.fast[here]]
    return good


def _place(panel: Ints, frame: Ints, slow: Ints, fast: Ints) -> Ints:
    """One number for each place, ascending in that order. Panels have fewer than 2^16 rows and columns, with room for
    the neighbours of an edge."""
    return ((panel * 2**20 + frame + 1) * 2**17 + slow + 1) * 2**17 + fast + 1


def _hot(pixels: _Pixels, n_frames: int) -> Bool:
    """Whether each pixel is one that is strong in all frames."""
    if n_frames < _FEWEST_FRAMES_OF_HOT:
        return np.zeros(len(pixels.panel), dtype=bool)
    spot = _place(pixels.panel, np.zeros_like(pixels.frame), pixels.slow, pixels.fast)
    _, position = np.unique(spot, return_inverse=True)
    times = np.bincount(position, weights=pixels.strong)
    return np.asarray((times == n_frames)[position])


def _label(pixels: _Pixels, *, join_frames: bool) -> Ints:
    """The component [m] each pixel belongs to: strong ones that touch, corners included, and the rim of each."""
    place = _place(pixels.panel, pixels.frame, pixels.slow, pixels.fast)
    strong = np.nonzero(pixels.strong)[0]
    edges = []
    for frame, slow, fast in _forward_neighbours(join_frames):
        other = _find(place[strong], _shifted(pixels.at(strong), frame, slow, fast))
        here = np.nonzero(other >= 0)[0]
        edges.append((here, other[here]))
    rows, columns = (np.concatenate(side) for side in zip(*edges, strict=True))
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(strong), len(strong)))
    _, component = connected_components(graph, directed=False)
    label = np.full(len(place), -1)
    label[strong] = component
    # A pixel of the rim goes to the neighbour with the first label; in the same frame.
    rim = np.nonzero(~pixels.strong)[0]
    nearest = np.full(len(rim), len(strong))
    for slow in (-1, 0, 1):
        for fast in (-1, 0, 1):
            other = _find(place[strong], _shifted(pixels.at(rim), 0, slow, fast))
            found = other >= 0
            nearest[found] = np.minimum(nearest[found], component[other[found]])
    label[rim] = np.where(nearest < len(strong), nearest, -1)
    return label


def _shifted(pixels: _Pixels, frame: int, slow: int, fast: int) -> Ints:
    return _place(pixels.panel, pixels.frame + frame, pixels.slow + slow, pixels.fast + fast)


def _find(places: Ints, wanted: Ints) -> Ints:
    """Position of each ``wanted`` in the ascending ``places``, −1 where it is not there."""
    if not len(places):
        return np.full(len(wanted), -1)
    position = np.minimum(np.searchsorted(places, wanted), len(places) - 1)
    return np.where(places[position] == wanted, position, -1)


def _forward_neighbours(join_frames: bool) -> list[tuple[int, int, int]]:
    """Half of the neighbours of a pixel: (frame, slow, fast) after (0, 0, 0)."""
    steps = [(f, s, x) for f in (0, 1) for s in (-1, 0, 1) for x in (-1, 0, 1)]
    return [step for step in steps if step > (0, 0, 0) and (join_frames or step[0] == 0)]


def _measure(pixels: _Pixels, label: Ints, settings: SpotSettings) -> Spots:
    """Centroids and widths of the components that ``settings`` let pass, brightest first."""
    pixels, label = pixels.at(label >= 0), label[label >= 0]
    n = int(label.max()) + 1 if len(label) else 0

    def total(value: NDArray[np.generic]) -> Floats:
        return np.bincount(label, weights=value, minlength=n).astype(np.float64)

    n_pixels = total(pixels.strong).astype(int)
    counts, noise = total(pixels.signal), np.sqrt(total(pixels.variance))
    significance = counts / np.where(noise > 0, noise, 1)
    good = (n_pixels >= settings.min_pixels) & (n_pixels <= settings.max_pixels)
    good &= (counts > 0) & (significance >= settings.min_significance)
    share = pixels.signal / np.where(counts > 0, counts, 1)[label]
    moments = {}
    for name in ("fast", "slow", "frame"):
        position = getattr(pixels, name) + 0.5
        centre = total(share * position)
        # The rim holds noise of either sign: a width of a narrow spot may come out as less than none.
        moments[name] = centre, np.sqrt(np.maximum(total(share * (position - centre[label]) ** 2), 0))
    size = np.maximum(np.bincount(label, minlength=n), 1)
    spots = Spots(
        panel=_extreme(np.minimum, label, pixels.panel, n),
        fast=moments["fast"][0],
        slow=moments["slow"][0],
        frame=moments["frame"][0],
        counts=counts,
        peak=_extreme(np.maximum, label, pixels.signal, n),
        background=total(pixels.background) / size,
        significance=significance,
        n_pixels=n_pixels,
        width_fast=moments["fast"][1],
        width_slow=moments["slow"][1],
        width_frame=moments["frame"][1],
        first_frame=_extreme(np.minimum, label, pixels.frame, n),
        last_frame=_extreme(np.maximum, label, pixels.frame, n),
    )
    kept = np.nonzero(good)[0]
    return spots[kept[np.argsort(-counts[kept], kind="stable")]]


def _extreme(which: np.ufunc, label: Ints, value: NDArray[Number], n: int) -> NDArray[Number]:
    """The smallest or largest ``value`` of each of ``n`` labels; every label occurs."""
    order = np.argsort(label, kind="stable")
    starts = np.searchsorted(label[order], np.arange(n))
    return np.asarray(which.reduceat(value[order], starts)) if n else value[:0]
