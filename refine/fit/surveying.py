"""The first pass over all frames: what is on them, and which cannot be read."""

from __future__ import annotations

from dataclasses import replace

from nbtorch.errors import NbtorchError
from nbtorch.io.expt import PixelFiles
from nbtorch.io.frames import Image
from refine.frames.assign_frames import Missing
from refine.frames.frame_stack import FrameReader, FrameStack
from refine.frames.pixel_maps import pixel_maps
from refine.processes import count, dealt, gathered, listed
from refine.records.journal import Journal
from refine.records.outcome import FrameRow
from refine.scene.scene import Scene
from refine.settings.fit_settings import FitSettings
from refine.spots.survey import Survey, survey


def survey_all(
    scene: Scene, missing: Missing, settings: FitSettings, journal: Journal
) -> tuple[dict[int, Survey], Scene, list[FrameRow]]:
    """What is on the frames of this process's share of the experiments, those that are left, and those that are not.

    An experiment that cannot be read, or whose frame is ``missing``, is left out, and told, while others remain.
    """
    surveys: dict[int, Survey] = {}
    failures: dict[int, NbtorchError] = {}
    told = Journal()
    readers = readers_of(scene, settings, told)
    for expt in dealt(scene.experiments):
        try:
            stack = FrameStack(expt.images, readers[expt.entry.pixel_files], told)
            surveys[expt.index] = survey(expt, stack, settings.data)
        except NbtorchError as problem:
            failures[expt.index] = problem
    for number, error in missing.items():
        journal.say("frame_left_out", f"left out: {error}", experiment=number)
    journal.add(*listed(told.entries))
    for seen in surveys.values():
        seen.stack.journal = journal
    left = gathered(dict.fromkeys(surveys, True))
    failures = gathered(failures)
    if not left:
        raise next(iter(failures.values()))
    images: dict[int, tuple[Image, ...]] = {number: scene.document.entries[number].images for number in missing}
    images |= {expt.index: expt.images for expt in scene.experiments}
    failed = [
        FrameRow(number, str(images[number][0]), 0, None, None, ok=False, message=str(error))
        for number, error in sorted((missing | failures).items())
    ]
    _say_how_shared(len(left), journal)
    return surveys, replace(scene, experiments=tuple(s for s in scene.experiments if s.index in left)), failed


def readers_of(scene: Scene, settings: FitSettings, journal: Journal) -> dict[PixelFiles, FrameReader]:
    """A reader of frames for each set of files of pixels that the experiments name.

    Raises NbtorchError for a user's mask that cannot be used; what else is not used is said in ``journal``.
    """
    detector, mask = scene.experiments[0].entry.detector, settings.data.mask
    named = dict.fromkeys(expt.entry.pixel_files for expt in scene.experiments)
    return {files: FrameReader(detector, pixel_maps(detector, files, mask, journal)) for files in named}


def _say_how_shared(expts: int, journal: Journal) -> None:
    if count() > expts:
        said = (
            f"{count()} processes share {expts} still{'s' * (expts > 1)} or scan{'s' * (expts > 1)}, and one is never "
            f"divided: {count() - expts} of them will have nothing to do. trainer.devices={expts} does the same"
        )
        journal.say("idle_processes", said, processes=count(), experiments=expts)
    elif count() > 1:
        said = f"{count()} processes share {expts} stills or scans"
        journal.say("shared_by_processes", said, processes=count(), experiments=expts)
