"""The noise of a detector: counting or integrating, its gain and its read-out noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from nbtorch.config import DetectorConfig
from refine.frames.frame_stack import MeasuredFrame
from refine.settings.fit_settings import DataSettings

_TILE = 9  # pixels: large enough for a variance, small against the slope of a background
_GROUPS = 12  # of tiles of like mean: each gives one median


@dataclass(frozen=True)
class Look:
    """What one frame tells of its detector's noise: whether it holds ``counts`` of photons, else its gain (ADU a
    photon) and read-out noise (ADU), where these are to be estimated."""

    counts: bool
    gain: float | None = None
    readout: float | None = None


def look(detector: DetectorConfig, frame: MeasuredFrame, settings: DataSettings, counting: bool | None = None) -> Look:
    """Look at ``frame``, which is of a ``counting`` detector or not, or tells by itself.

    The gain of an integrating detector that states nothing is how the variance of quiet tiles grows with their mean:
    variance = readout² + gain·mean.
    """
    counts = counts_photons(detector, frame) if counting is None else counting
    stated = settings.gain is not None or any(panel.gain != 1 for panel in detector.panels)
    return Look(counts) if counts or stated else Look(counts, *_photon_transfer(frame))


def counts_photons(detector: DetectorConfig, frame: MeasuredFrame) -> bool:
    """Whether the pixels hold counts of photons: whole numbers that are never negative where they are trusted.

    A pedestal is an integrating detector's: less it, dark pixels are below 0 as often as above.
    """
    if detector.panels[0].trusted_range[0] < -2 or detector.panels[0].pedestal != 0:
        return False
    values = frame.counts[0][frame.valid[0]]
    return bool(np.all(values == np.floor(values)))


def detector_noise(detector: DetectorConfig, seen: Look, settings: DataSettings) -> tuple[np.ndarray, np.ndarray]:
    """Gain (ADU a photon) and read-out noise (ADU) of every panel [N]: as stated, else as ``seen`` on a frame."""
    gain = np.array([panel.gain for panel in detector.panels])
    readout = np.zeros(len(gain))
    if seen.gain is not None and seen.readout is not None:
        gain, readout = np.full(len(gain), seen.gain), np.full(len(gain), seen.readout)
    if settings.gain is not None:
        gain = np.full(len(gain), settings.gain)
    if settings.readout_noise is not None:
        readout = np.full(len(gain), settings.readout_noise)
    return gain, readout


def _photon_transfer(frame: MeasuredFrame) -> tuple[float, float]:
    """(gain, readout) from the tiles of ``frame``: robust line through (mean, variance)."""
    means, variances = [], []
    for image, valid in zip(*frame, strict=True):
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
