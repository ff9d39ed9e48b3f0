"""A few of the frames as pictures for the report: read once more, binned by their brightest pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from refine.fit.problem import Problem
from refine.frames.frame_stack import MeasuredFrame
from refine.processes import listed
from refine.records.pictures import FramePicture

MAX_PICTURES = 3  # spread over all frames
MAX_DOTS = 700_000  # of one picture: half a megabyte of a report
_SHARES = (5.0, 99.9)  # per cent of the pixels that are darker than the darkest and the brightest level


def frame_pictures(problem: Problem) -> tuple[FramePicture, ...]:
    """Up to MAX_PICTURES frames that can be read, spread over the fit; of all processes."""
    places = [(item.expt.index, frame) for item in problem.held for frame in range(len(item.expt.images))]
    found = []
    for at in _spread(len(places)):
        number, frame = places[at]
        stack = problem.stacks[number]
        read = stack.frame(frame)
        if read is not None:
            found.append(picture(read, number, frame, stack.images[frame].name))
    every = listed(found)
    return tuple(every[at] for at in _spread(len(every)))


def _spread(number: int) -> Sequence[int]:
    return np.unique(np.linspace(0, number - 1, min(number, MAX_PICTURES)).round().astype(int)).tolist()


def picture(frame: MeasuredFrame, experiment: int, number: int, name: str) -> FramePicture:
    """``frame`` binned so that all its panels together have at most MAX_DOTS dots."""
    pixels = sum(image.size for image in frame.counts)
    size = max(1, int(np.ceil(np.sqrt(pixels / MAX_DOTS))))
    measured = np.concatenate(
        [image[good][:: max(1, pixels // 10**6)] for image, good in zip(frame.counts, frame.valid, strict=True)]
    )
    low, high = (float(x) for x in np.percentile(measured, _SHARES)) if len(measured) else (0.0, 1.0)
    high = max(high, low + 4.0)  # counts: a frame of nothing but background stays dark
    pairs = zip(frame.counts, frame.valid, strict=True)
    return FramePicture(experiment, number, name, size, low, high, tuple(_levels(*p, size, low, high) for p in pairs))


def _levels(
    counts: NDArray[np.generic], valid: NDArray[np.bool_], size: int, low: float, high: float
) -> NDArray[np.uint8]:
    values = np.where(valid, counts.astype(np.float32), -np.inf)
    rows, columns = (-(-length // size) for length in values.shape)
    padded = np.full((rows * size, columns * size), -np.inf, dtype=np.float32)
    padded[: values.shape[0], : values.shape[1]] = values
    brightest = padded.reshape(rows, size, columns, size).max(axis=(1, 3))
    shade = 1 + 254 * np.sqrt(np.clip((brightest - low) / (high - low), 0, 1))
    return np.where(np.isfinite(brightest), shade.round(), 0).astype(np.uint8)
