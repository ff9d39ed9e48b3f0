"""Which reflection each found spot is, from a start that may be off; the doubtful ones are left out and said why.

The pattern is first brought over the spots by a search (:mod:`refine.indexing.offset_search`), then by a smooth
displacement fitted to the matches, over and over as the tolerance narrows. Neither is a model of the
instrument: they serve to find indices, from which the fit starts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from nbtorch.config import Exposure, ScanConfig
from nbtorch.functional.absences import Listing
from nbtorch.functional.structure_factor import nearest
from nbtorch.models import Experiment
from refine.indexing.lattice_view import Candidates, Floats, Ints, View, candidates_of, view_of
from refine.indexing.offset_search import NO_OFFSET, Offset, find_offsets
from refine.indexing.pattern import IndexingSettings, Pattern, improved, matching_pairs, smooth_terms
from refine.spots.find_spots import Spots

INDEXED = ""
FAR = "no reflection predicted near it"
AMBIGUOUS = "two reflections predicted near it"
CLAIMED_TWICE = "another spot claims the same reflection"

_NARROWING = (3.0, 2.0, 1.5, 1.0, 1.0)  # tolerances of the rounds, in units of the last
_CLOSE = (1.0, 0.15)  # pixels and degrees within which a match is a good one
_WITNESS = 0.1
_FEWEST_TO_RANK = 12  # matches whose brightness says something


@dataclass(frozen=True)
class StartOffset:
    """What brings the start near: a shift of the whole detector and a turn of the crystal.

    shift: [3] mm along the detector's START fast, slow and normal axes; an error of the cell comes out as distance.
    rotation: [3] degrees, lab, at the spindle angle the spots were seen at. agreement: spots that the search found a
    prediction for; chance: how many it would find anywhere. All zero without a search.
    """

    shift: Floats
    rotation: Floats
    agreement: int
    chance: float


@dataclass(frozen=True)
class Indexed:
    """m spots with indices: spot [m] is their place among the n found, hkl [m, 3], panel [m]; distance: [m] pixels left
    between spot and pattern; reason: [n], "" for the indexed. offset: how far the start was found to be off."""

    spot: Ints
    hkl: Ints
    panel: Ints
    distance: Floats
    reason: NDArray[np.str_]
    offset: StartOffset

    def __len__(self) -> int:
        return len(self.spot)

    @property
    def rejected(self) -> tuple[tuple[int, str], ...]:
        """(place among the spots, reason) of those without a sure index."""
        return tuple((place, str(why)) for place, why in enumerate(self.reason) if why)


def index_spots(
    experiment: Experiment,
    spots: Spots,
    scan: ScanConfig | None = None,
    exposure: Exposure | None = None,
    settings: IndexingSettings | None = None,
) -> Indexed:
    """Indices of ``spots`` from the model as it is. With ``scan`` their frames count, else they are of one still.

    exposure: of the still, by default the experiment's; its middle is taken. Indices that are all off by one describe a
    still as well with everything turned by λ/cell (0.6° for 130 Å): where a start may be that far off, the amplitudes
    of the experiment decide, else the smaller change of the model.
    """
    settings = settings or IndexingSettings()
    if not len(spots):
        return _nothing(spots)
    view = view_of(experiment, spots, scan)
    whole = _range(experiment, scan, exposure)
    search = settings.search
    reach = (0.0, 0.0)
    if search is not None:
        reach = (0.0 if search.crystal_known else search.degrees, search.pixels)
    candidates = candidates_of(
        experiment, whole, view.resolution, (settings.miss + reach[0], settings.tolerance * _NARROWING[0] + reach[1])
    )
    if not len(candidates):
        return _nothing(spots)
    expected = expected_light(experiment, candidates.hkl)

    def doubt(pattern: Pattern) -> float:
        return (
            _disagreement(pattern, settings)
            + pattern.unlikely()
            - _brightness_bonus(pattern, spots, expected, settings)
        )

    # The votes alone cannot tell: indices all off by one fit as well, with beam, crystal and detector turned.
    best = min(_patterns(view, candidates, settings), key=doubt)
    return _decide(best, spots, settings)


def _range(experiment: Experiment, scan: ScanConfig | None, exposure: Exposure | None) -> Exposure:
    """The spindle range of a scan; the middle of a still's."""
    if scan is not None:
        return Exposure(scan.phi_start, scan.n_frames * scan.oscillation)
    still = exposure or experiment.exposure
    return Exposure(still.phi_start + still.oscillation / 2)


def _patterns(view: View, candidates: Candidates, settings: IndexingSettings) -> list[Pattern]:
    """The patterns that the search proposes, each brought over the spots; the model as it is without a search."""
    radius = float(np.linalg.norm(view.position, axis=1).max())
    if settings.search is None:
        return [Pattern(view, candidates, NO_OFFSET, np.zeros(3), np.zeros((1, 2)), radius)]
    patterns = []
    for offset in find_offsets(view, candidates, settings.search):
        pattern = Pattern(view, candidates, offset, offset.rotation, np.zeros((1, 2)), radius)
        for width in _NARROWING:
            pattern = improved(pattern, settings, width)
        patterns.append(pattern)
    return patterns


def expected_light(experiment: Experiment, hkl: Ints) -> Floats | None:
    """|F|² [m] of reflections ``hkl`` [m, 3], NaN of those that are not listed; None without amplitudes."""
    model = experiment.structure_factors
    with torch.no_grad():
        table = model.table()
        if table is None:
            return None
        index = torch.as_tensor(hkl)
        amplitude = nearest(index.to(model.amplitudes), table, model.default_F)
        amplitude = torch.where(model.listing(index) == Listing.UNLISTED, torch.nan, amplitude)
    return np.asarray(amplitude.cpu().numpy() ** 2, dtype=np.float64)


def _brightness_bonus(pattern: Pattern, spots: Spots, expected: Floats | None, settings: IndexingSettings) -> float:
    """Half the square of the significance with which bright spots are bright reflections; 0 without amplitudes."""
    if expected is None:
        return 0.0
    best = matching_pairs(pattern, settings, 1.0).best()
    best = best.at(np.isfinite(expected[best.candidate]))
    light = rankdata(expected[best.candidate]), rankdata(spots.counts[best.spot])
    if len(best.spot) < _FEWEST_TO_RANK or min(np.ptp(side) for side in light) == 0:
        return 0.0
    # of ranks, since partial spots and unknown scales leave little else; 1/√(n − 1) is its scatter by chance
    correlation = float(np.corrcoef(*light)[0, 1])
    return max(correlation, 0.0) ** 2 * (len(best.spot) - 1) / 2


def _disagreement(pattern: Pattern, settings: IndexingSettings) -> float:
    """What the pattern leaves unexplained: Cauchy's loss of the distances, a full one for each spot without a match."""
    best = matching_pairs(pattern, settings, 1.0).best()
    loss = np.log1p((best.apart**2).sum(1) / _CLOSE[0] ** 2 + (best.miss / _CLOSE[1]) ** 2)
    most = float(np.log1p((settings.tolerance / _CLOSE[0]) ** 2))
    # Errors of a model are alike in all spots: hundreds of them do not speak as independent witnesses.
    return _WITNESS * float(np.minimum(loss, most).sum() + most * (len(pattern.view.position) - len(loss)))


def _decide(pattern: Pattern, spots: Spots, settings: IndexingSettings) -> Indexed:
    """The pairs that leave no doubt, and why the other spots are left out."""
    pairs = matching_pairs(pattern, settings, 1.0)
    best = pairs.best()
    best = best.at(best.score <= 1)
    second = np.full(len(spots), np.inf)
    rivals = np.ones(len(pairs.spot), dtype=bool)
    rivals[np.unique(pairs.spot, return_index=True)[1]] = False
    np.minimum.at(second, pairs.spot[rivals], pairs.score[rivals])
    clear = second[best.spot] >= best.score + settings.contrast
    reason = np.full(len(spots), FAR, dtype="<U48")
    reason[best.spot] = np.where(clear, INDEXED, AMBIGUOUS)
    best = best.at(clear)
    # A reflection is one spot (a scan's candidates hold each crossing once): two claims cannot both be right.
    alone = np.bincount(best.candidate, minlength=len(pattern.candidates))[best.candidate] == 1
    reason[best.spot[~alone]] = CLAIMED_TWICE
    best = best.at(alone)
    return Indexed(
        spot=best.spot,
        hkl=pattern.candidates.hkl[best.candidate],
        panel=spots.panel[best.spot],
        distance=np.linalg.norm(best.apart, axis=1),
        reason=reason,
        offset=_start_offset(pattern),
    )


def _start_offset(pattern: Pattern) -> StartOffset:
    """What the pattern's motion means for a detector that moves as a whole and a crystal that turns.

    What stretches the pattern at the detector's centre is distance, what turns it there is the crystal about the beam.
    """
    view, plane, offset = pattern.view, pattern.view.plane, pattern.offset

    def moved(position: Floats) -> Floats:
        there = offset.moved(position)
        return np.asarray(there + smooth_terms(there / pattern.radius, len(pattern.field)) @ pattern.field)

    step = pattern.radius / 10
    ahead, behind = (moved(plane.centre + sign * step * np.eye(2)) for sign in (1, -1))
    change = (ahead - behind) / (2 * step)  # [d(position), d(fast, slow)]
    scale = (change[0, 0] + change[1, 1]) / 2 - 1
    turn = np.rad2deg((change[0, 1] - change[1, 0]) / 2)
    origin = plane.at(view.wave)  # where the beam meets the plane
    turned = Offset(np.zeros(2), 0.0, turn, np.zeros(3), 0, 0.0).moved((plane.centre - origin)[None])[0] + origin
    # Where the detector moves to, the pattern moves away from.
    shift = ((1 + scale) * turned - moved(plane.centre[None])[0]) * plane.pixel
    beam = view.wave / np.linalg.norm(view.wave)
    towards_slow = np.sign(np.cross(plane.axes[0], plane.axes[1]) @ beam)
    return StartOffset(
        shift=np.append(shift, scale * plane.distance),
        rotation=pattern.rotation + towards_slow * turn * beam,
        agreement=offset.votes,
        chance=offset.chance,
    )


def _nothing(spots: Spots) -> Indexed:
    """No spot, or no reflection, to index."""
    none = np.zeros(0, dtype=np.int64)
    nowhere = StartOffset(np.zeros(3), np.zeros(3), 0, 0.0)
    return Indexed(none, np.zeros((0, 3), dtype=np.int64), none, np.zeros(0), np.full(len(spots), FAR), nowhere)
