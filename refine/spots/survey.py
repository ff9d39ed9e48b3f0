"""What is seen of an experiment while its frames are read for the first time, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from refine.frames.frame_stack import FrameStack, MeasuredFrame
from refine.frames.noise import Look, detector_noise, look
from refine.scene.scene import FitExperiment
from refine.settings.fit_settings import DataSettings
from refine.spots.find_spots import Spots, SpotSettings, find_spots


@dataclass(frozen=True, eq=False)
class Survey:
    """The spots of an experiment, and what its first frame tells of the detector's noise."""

    stack: FrameStack
    spots: Spots
    look: Look

    def noise(self, settings: DataSettings, counting: bool) -> tuple[np.ndarray, np.ndarray]:
        """Gain (ADU a photon) and read-out noise (ADU) of every panel [N] where all experiments count or not."""
        detector, seen = self.stack.reader.detector, self.look
        if counting != seen.counts:  # the experiments have one detector, whose kind the first of them tells
            seen = look(detector, self.stack.first(), settings, counting)
        return detector_noise(detector, seen, settings)


def survey(expt: FitExperiment, stack: FrameStack, settings: DataSettings) -> Survey:
    """Look at every frame of ``stack`` once. Raises the NbtorchError of the last where none can be read."""
    looks: list[Look] = []

    def looking() -> Iterator[MeasuredFrame | None]:
        for frame in stack.frames():
            if frame is not None and not looks:
                looks.append(look(stack.reader.detector, frame, settings))
            yield frame

    spots = find(expt, looking())
    return Survey(stack, spots, looks[0])


def find(expt: FitExperiment, frames: Iterable[MeasuredFrame | None]) -> Spots:
    """The spots on the frames of ``expt``, brightest first; None is a frame that is lost."""
    return spots_of(frames, still=expt.still)


def spots_of(frames: Iterable[MeasuredFrame | None], *, still: bool) -> Spots:
    """The spots on ``frames``, brightest first; those of a scan are joined over its frames."""
    blank = (None if frame is None else (_blank(frame), frame.valid) for frame in frames)
    return find_spots(blank, SpotSettings(join_frames=not still))


def _blank(frame: MeasuredFrame) -> list[np.ndarray]:
    """The panels with 0 where nothing was measured."""
    return [np.where(valid, image, 0) for image, valid in zip(*frame, strict=True)]
