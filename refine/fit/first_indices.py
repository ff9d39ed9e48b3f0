"""The spots of all experiments with the indices that the given geometry tells."""

from __future__ import annotations

from collections.abc import Sequence

from nbtorch.errors import DataError
from nbtorch.functional.absences import Listing
from nbtorch.io import read_expt
from nbtorch.io.refl import read_refl
from refine.indexing.assignment import Evidence, assign
from refine.processes import gathered
from refine.records.journal import Journal
from refine.scene.scene import FitExperiment, Scene
from refine.settings.fit_settings import FitSettings
from refine.spots.reflection_list import REFLECTION_TABLE, reflection_list
from refine.spots.spot_list import SpotList, read_spot_list
from refine.spots.survey import Survey


def index_all(scene: Scene, surveys: dict[int, Survey], settings: FitSettings, journal: Journal) -> list[Evidence]:
    """Spots of every experiment with their indices from the start model. Raises DataError where there are none."""
    given = None
    if settings.data.spots is not None:
        given = given_spots(settings, scene).of_frames(settings.data.frame_range)
    mine = []
    for expt in (expt for expt in scene.experiments if expt.index in surveys):
        spots = surveys[expt.index].spots
        if given is not None:
            spots = given.of_experiment(spots, expt.index, still=expt.still)
        mine.append(assign(expt, spots, settings, expt.model))
    evidence = evidence_of_all(mine, scene.experiments)
    found, indexed = sum(len(item.spots) for item in evidence), sum(len(item.observed) for item in evidence)
    if found == 0:
        raise DataError(
            f"{sum(len(expt.images) for expt in scene.experiments)} frames",
            "no spot stands out of them",
            "Look at the frames",
        )
    if indexed == 0:
        raise DataError(
            f"{found} spots",
            "the start geometry predicts no reflection where any of them is",
            "Check data.experiment against the frames: draw both with nb-refine --check",
        )
    journal.say("spots_indexed", f"found {found} spots, {indexed} with an index", found=found, indexed=indexed)
    say_unlisted(scene, evidence, journal)
    return evidence


def given_spots(settings: FitSettings, scene: Scene) -> SpotList:
    """The spots of ``data.spots``, a CSV or a reflection table. Raises FileError for what does not fit the detector."""
    assert settings.data.spots is not None
    if settings.data.spots.endswith(REFLECTION_TABLE) and settings.data.experiment:
        entries = read_expt(settings.data.experiment).entries  # as the table counts them: all, with all their frames
        return reflection_list(read_refl(settings.data.spots), entries, range(len(entries)))
    framed = len(scene.experiments) > 1 or not scene.experiments[0].still
    return read_spot_list(settings.data.spots, scene.detector.config, framed=framed)


def say_unlisted(scene: Scene, evidence: Sequence[Evidence], journal: Journal) -> None:
    """Say of how many indexed spots the amplitudes are not known; nothing where all are or no file was given."""
    listing = [scene.structure_factors.listing(item.observed.hkl) for item in evidence]
    number = sum(int((part != Listing.LISTED).sum()) for part in listing)
    if number:
        said = f"{number} of the indexed spots are of reflections whose amplitude is not listed: their positions count"
        journal.say("amplitudes_not_listed", f"{said}, their pixels are not fitted", unlisted=number)


def evidence_of_all(mine: Sequence[Evidence], expts: Sequence[FitExperiment]) -> list[Evidence]:
    """The evidence of all processes for ``expts``, where ``mine`` is this one's."""
    told = gathered({item.expt.index: (item.spots, item.observed, item.rejected) for item in mine})
    return [Evidence(expt, *told[expt.index]) for expt in expts]
