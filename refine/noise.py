"""The noise of a detector: counting or integrating, its gain and its read-out noise."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from nbtorch.config import DetectorConfig
from refine.frames import FrameStack
from refine.settings import DataSettings

_TILE = 9  # pixels: large enough for a variance, small against the slope of a background
_GROUPS = 12  # of tiles of like mean: each gives one median


def counts_photons(detector: DetectorConfig, stack: FrameStack) -> bool:
    """Whether the pixels hold counts of photons: whole numbers that are never negative where they are trusted."""
    if detector.panels[0].trusted_range[0] < -2:
        return False
    values = stack.counts[0][0][stack.valid[0][0]]
    return bool(np.all(values == np.floor(values)))


def detector_noise(
    detector: DetectorConfig, stack: FrameStack, settings: DataSettings, counting: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Gain (ADU a photon) and read-out noise (ADU) of every panel [N].

    As stated; for an integrating detector that states nothing, from how the variance of quiet tiles grows with their
    mean: variance = readout² + gain·mean.
    """
    count = len(detector.panels)
    gain = np.array([panel.gain for panel in detector.panels])
    readout = np.zeros(count)
    if not counting and settings.gain is None and np.all(gain == 1):
        slope, noise = _photon_transfer(stack)
        gain, readout = np.full(count, slope), np.full(count, noise)
    if settings.gain is not None:
        gain = np.full(count, settings.gain)
    if settings.readout_noise is not None:
        readout = np.full(count, settings.readout_noise)
    return gain, readout


def _photon_transfer(stack: FrameStack) -> tuple[float, float]:
    """(gain, readout) from the tiles of the first frame: robust line through (mean, variance)."""
    means, variances = [], []
    for image, valid in zip(stack.counts[0], stack.valid[0], strict=True):
        good = ndimage.uniform_filter(valid.astype(float), _TILE)[_TILE // 2 :: _TILE, _TILE // 2 :: _TILE] > 0.999
        values = np.where(valid, image, 0.0)
        mean = ndimage.median_filter(values, _TILE)[_TILE // 2 :: _TILE, _TILE // 2 :: _TILE]
        # differences of neighbours do not see the slope of the background; the median does not see spots
        step = np.abs(np.diff(values, axis=1, append=values[:, -1:]))
        spread = 1.4826 * ndimage.median_filter(step, _TILE)[_TILE // 2 :: _TILE, _TILE // 2 :: _TILE] / np.sqrt(2)
        means.append(mean[good])
        variances.append(spread[good] ** 2)
    return _line(np.concatenate(means), np.concatenate(variances))


def _line(mean: np.ndarray, variance: np.ndarray) -> tuple[float, float]:
    """(gain, readout) of variance = readout² + gain·mean, through the medians of groups of tiles of like mean.

    A group's variance is known to the same fraction whatever it is, so that dark groups, which tell the read-out noise,
    weigh by 1/variance².
    """
    if len(mean) == 0:
        return 1.0, 0.0
    groups = [group for group in np.array_split(np.argsort(mean, kind="stable"), _GROUPS) if len(group)]
    x = np.array([np.median(mean[group]) for group in groups])
    y = np.maximum([np.median(variance[group]) for group in groups], 1e-6)
    slope, offset = np.polyfit(x, y, 1, w=1 / y) if np.ptp(x) > 0 else (1.0, np.median(y) - np.median(x))
    slope = float(np.clip(slope, 0.1, 1e4))
    return slope, float(np.sqrt(max(offset, 1e-6)))
