"""Which reflection each found spot is, from a start that may be off; the doubtful ones are left out and said why.

The pattern is first brought over the spots by a search (:mod:`refine.offset_search`), then by a smooth displacement
fitted to the matches, over and over as the tolerance narrows. Neither is a model of the instrument: they serve to find
indices, from which the fit starts.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from nbtorch.config import Exposure, ScanConfig
from nbtorch.models import Experiment
from refine.lattice_view import Candidates, Floats, Ints, View, candidates_of, view_of
from refine.offset_search import NO_OFFSET, Offset, SearchSettings, across_beam, find_offset
from refine.spots import Spots

INDEXED = ""
FAR = "no reflection predicted near it"
AMBIGUOUS = "two reflections predicted near it"
CLAIMED_TWICE = "another spot claims the same reflection"

_NARROWING = (3.0, 2.0, 1.5, 1.0, 1.0)  # tolerances of the rounds, in units of the last
_FEWEST = (6, 12, 30)  # matches for a displacement of order 0, 1, 2 in the position


@dataclass(frozen=True)
class IndexingSettings:
    """``search`` None: the start is good, only match. tolerance: pixels a spot may be from its prediction, once the
    pattern lies over the spots; miss: degrees a reflection may be from the sphere (still) or from the spindle angle at
    which it was seen (scan). contrast: how much worse the second best reflection must be, in squared tolerances.
    """

    search: SearchSettings | None = field(default_factory=SearchSettings)
    tolerance: float = 3.0
    miss: float = 0.45
    contrast: float = 0.35


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

    exposure: of the still, by default the experiment's; its middle is taken.
    """
    settings = settings or IndexingSettings()
    if not len(spots):
        return _nothing(spots)
    view = view_of(experiment, spots, scan)
    whole = _range(experiment, scan, exposure)
    search = settings.search
    reach = (search.degrees, search.pixels) if search is not None else (0.0, 0.0)
    candidates = candidates_of(
        experiment, whole, view.resolution, (settings.miss + reach[0], settings.tolerance * _NARROWING[0] + reach[1])
    )
    if not len(candidates):
        return _nothing(spots)
    offset = find_offset(view, candidates, search) if search is not None else NO_OFFSET
    radius = float(np.linalg.norm(view.position, axis=1).max())
    pattern = _Pattern(view, candidates, offset, offset.rotation, np.zeros((1, 2)), radius)
    for width in _NARROWING if search is not None else ():
        pattern = _improved(pattern, settings, width)
    return _decide(pattern, spots, settings)


def coarse_offset(
    experiment: Experiment,
    spots: Spots,
    scan: ScanConfig | None = None,
    exposure: Exposure | None = None,
    settings: IndexingSettings | None = None,
) -> StartOffset:
    """How far the start is off, from a search and the smooth displacement of the spots it finds."""
    return index_spots(experiment, spots, scan, exposure, settings).offset


def _range(experiment: Experiment, scan: ScanConfig | None, exposure: Exposure | None) -> Exposure:
    """The spindle range of a scan; the middle of a still's."""
    if scan is not None:
        return Exposure(scan.phi_start, scan.n_frames * scan.oscillation)
    still = exposure or experiment.exposure
    return Exposure(still.phi_start + still.oscillation / 2)


@dataclass(frozen=True)
class _Pattern:
    """The candidates where the model, moved by what is known of its error, puts them.

    rotation: [3] degrees the crystal is turned by; field: [terms, 2] pixels, a polynomial of the position on the plane
    that carries what is left, in units of ``radius`` pixels.
    """

    view: View
    candidates: Candidates
    offset: Offset
    rotation: Floats
    field: Floats
    radius: float

    def place(self) -> tuple[Candidates, Floats]:
        """The turned candidates and where [m, 2] they will be seen."""
        turned, position = replace(self.offset, rotation=self.rotation).seen_from(self.candidates, self.view)
        return turned, position + _terms(position / self.radius, len(self.field)) @ self.field


@dataclass(frozen=True)
class _Pairs:
    """Spots and candidates [m] that may belong together, by spot and then by score, best first.

    apart: [m, 2] pixels observed − predicted; miss: [m] degrees; score: [m] squared distance in tolerances.
    """

    spot: Ints
    candidate: Ints
    apart: Floats
    miss: Floats
    score: Floats

    def at(self, chosen: NDArray[np.generic]) -> _Pairs:
        return _Pairs(**{name: value[chosen] for name, value in vars(self).items()})

    def best(self) -> _Pairs:
        """The first pair of every spot."""
        return self.at(np.unique(self.spot, return_index=True)[1])


def _pairs(pattern: _Pattern, settings: IndexingSettings, width: float) -> _Pairs:
    """All pairs within ``width`` tolerances."""
    view = pattern.view
    turned, position = pattern.place()
    radius = settings.tolerance * width
    near = cKDTree(position).query_ball_point(view.position, radius * np.sqrt(1 + settings.contrast))
    spot = np.repeat(np.arange(len(near)), [len(one) for one in near])
    candidate = np.concatenate([np.asarray(one, dtype=int) for one in near])
    apart = view.position[spot] - position[candidate]
    miss = view.miss(view.when_seen(turned.at(candidate), spot))
    score = (apart**2).sum(1) / radius**2 + (miss / settings.miss) ** 2
    kept = np.nonzero(score <= 1 + settings.contrast)[0]
    order = kept[np.lexsort((candidate[kept], score[kept], spot[kept]))]
    return _Pairs(spot[order], candidate[order], apart[order], miss[order], score[order])


def _improved(pattern: _Pattern, settings: IndexingSettings, width: float) -> _Pattern:
    """``pattern`` with rotation and field fitted to the best pairs within ``width`` tolerances, robustly."""
    pairs = _pairs(pattern, settings, width).best()
    order = sum(len(pairs.spot) >= fewest for fewest in _FEWEST) - 1
    if order < 0:
        return pattern
    turned, position = pattern.place()
    count = (order + 1) * (order + 2) // 2
    # The field is fitted afresh: what it was comes back through ``apart``.
    known = _terms(position / pattern.radius, len(pattern.field)) @ pattern.field
    plain = (position - known)[pairs.candidate] / pattern.radius
    wanted = pairs.apart + known[pairs.candidate]
    shifted = _robust(_terms(plain, count), wanted, settings.tolerance * width / 2)
    seen = pattern.view.when_seen(turned.at(pairs.candidate), pairs.spot)
    turn = _rotation_to_sphere(pattern.view, seen, pairs.miss, settings.miss / 2)
    return replace(pattern, field=shifted, rotation=pattern.rotation + turn)


def _terms(position: Floats, count: int) -> Floats:
    """The first ``count`` of 1, x, y, x², xy, y² [m, count] at ``position`` [m, 2]."""
    x, y = position.T
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y][:count], axis=1)


def _rotation_to_sphere(view: View, seen: Candidates, miss: Floats, scale: float) -> Floats:
    """The rotation [3] (degrees) across the beam that brings the reflections nearest to the sphere.

    Turning r by ω changes |k₀ + r| by ω·(r × s) with s = unit(k₀ + r).
    """
    axes = across_beam(view)
    scattered = view.wave + seen.reciprocal
    scattered /= np.linalg.norm(scattered, axis=1, keepdims=True)
    lever = np.cross(seen.reciprocal, scattered) / np.linalg.norm(seen.reciprocal, axis=1, keepdims=True)
    return np.asarray(-_robust(lever @ axes.T, miss[:, None], scale)[:, 0] @ axes)


def _robust(matrix: Floats, target: Floats, scale: float) -> Floats:
    """x [terms, columns] of least squares for matrix·x = target [m, columns] under Cauchy's loss of width ``scale``."""
    weight = np.ones(len(matrix))
    solution: Floats = np.zeros((matrix.shape[1], target.shape[1]))
    for _ in range(10):
        root = np.sqrt(weight)[:, None]
        solution = np.asarray(np.linalg.lstsq(matrix * root, target * root, rcond=1e-6)[0], dtype=np.float64)
        weight = 1 / (1 + ((target - matrix @ solution) ** 2).sum(1) / scale**2)
    return solution


def _decide(pattern: _Pattern, spots: Spots, settings: IndexingSettings) -> Indexed:
    """The pairs that leave no doubt, and why the other spots are left out."""
    pairs = _pairs(pattern, settings, 1.0)
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


def _start_offset(pattern: _Pattern) -> StartOffset:
    """What the pattern's motion means for a detector that moves as a whole and a crystal that turns.

    What stretches the pattern at the detector's centre is distance, what turns it there is the crystal about the beam.
    """
    view, plane, offset = pattern.view, pattern.view.plane, pattern.offset

    def moved(position: Floats) -> Floats:
        there = offset.moved(position)
        return np.asarray(there + _terms(there / pattern.radius, len(pattern.field)) @ pattern.field)

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
