"""The predicted pattern brought over the observed spots: offset, rotation of the crystal and a smooth displacement.

None of it is a model of the instrument; it serves to find indices, from which the fit starts.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from nbtorch.render.excited import LOW_ORDER
from refine.indexing.lattice_view import Candidates, Floats, Ints, View
from refine.indexing.offset_search import Offset, SearchSettings, across_beam

_FEWEST = (6, 12, 30)  # matches for a displacement of order 0, 1, 2 in the position
_STILL = 1e-3  # of the width of Cauchy's loss: what a solution need not move by to be the answer
_USUAL = {"pixels": 10.0, "degrees": 0.3, "scale": 0.006}  # errors that a start usually has


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
class Pattern:
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
        return turned, position + smooth_terms(position / self.radius, len(self.field)) @ self.field

    def tilt(self) -> Floats:
        """Degrees [2] by which the detector leans along fast and slow: x grows by x·(αx + βy), y by y·(αx + βy)."""
        if len(self.field) < 6:
            return np.zeros(2)
        lean = np.array([self.field[3, 0] + self.field[4, 1], self.field[4, 0] + self.field[5, 1]]) / 2
        plane = self.view.plane
        return np.asarray(np.rad2deg(lean * plane.distance / plane.pixel / self.radius**2))

    def unlikely(self) -> float:
        """How far from the model as given, in squares of the errors that starts usually have."""
        shift = self.offset.shift + self.field[0]
        squares = (shift / _USUAL["pixels"]) ** 2
        return float(
            squares.sum()
            + ((self.rotation / _USUAL["degrees"]) ** 2).sum()
            + ((self.tilt() / _USUAL["degrees"]) ** 2).sum()
            + (self.offset.turn / _USUAL["degrees"]) ** 2
            + (self.offset.scale / _USUAL["scale"]) ** 2
        )


@dataclass(frozen=True)
class Pairs:
    """Spots and candidates [m] that may belong together, by spot and then by score, best first.

    apart: [m, 2] pixels observed − predicted; miss: [m] degrees; score: [m] squared distance in tolerances.
    """

    spot: Ints
    candidate: Ints
    apart: Floats
    miss: Floats
    score: Floats

    def at(self, chosen: NDArray[np.generic]) -> Pairs:
        return Pairs(**{name: value[chosen] for name, value in vars(self).items()})

    def best(self) -> Pairs:
        """The first pair of every spot."""
        return self.at(np.unique(self.spot, return_index=True)[1])


def matching_pairs(pattern: Pattern, settings: IndexingSettings, width: float) -> Pairs:
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
    return Pairs(spot[order], candidate[order], apart[order], miss[order], score[order])


def improved(pattern: Pattern, settings: IndexingSettings, width: float) -> Pattern:
    """``pattern`` with rotation and field fitted to the best pairs within ``width`` tolerances, robustly."""
    pairs = matching_pairs(pattern, settings, width).best()
    order = sum(len(pairs.spot) >= fewest for fewest in _FEWEST) - 1
    if order < 0:
        return pattern
    turned, position = pattern.place()
    count = (order + 1) * (order + 2) // 2
    # The field is fitted afresh: what it was comes back through ``apart``.
    known = smooth_terms(position / pattern.radius, len(pattern.field)) @ pattern.field
    plain = (position - known)[pairs.candidate] / pattern.radius
    wanted = pairs.apart + known[pairs.candidate]
    shifted = _robust(smooth_terms(plain, count), wanted, settings.tolerance * width / 2)
    if settings.search is not None and settings.search.crystal_known:
        return replace(pattern, field=shifted)
    seen = pattern.view.when_seen(turned.at(pairs.candidate), pairs.spot)
    turn = _rotation_to_sphere(pattern.view, seen, pairs.miss, settings.miss / 2)
    return replace(pattern, field=shifted, rotation=pattern.rotation + turn)


def smooth_terms(position: Floats, count: int) -> Floats:
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
    length = np.maximum(np.linalg.norm(seen.reciprocal, axis=1, keepdims=True), LOW_ORDER)
    lever = np.cross(seen.reciprocal, scattered) / length
    return np.asarray(-_robust(lever @ axes.T, miss[:, None], scale)[:, 0] @ axes)


def _robust(matrix: Floats, target: Floats, scale: float) -> Floats:
    """x [terms, columns] of least squares for matrix·x = target [m, columns] under Cauchy's loss of width ``scale``."""
    weight = np.ones(len(matrix))
    solution: Floats = np.zeros((matrix.shape[1], target.shape[1]))
    for _ in range(10):
        root = np.sqrt(weight)[:, None]
        before = solution
        solution = np.asarray(np.linalg.lstsq(matrix * root, target * root, rcond=1e-6)[0], dtype=np.float64)
        if np.abs(matrix @ (solution - before)).max(initial=0.0) < _STILL * scale:
            break
        weight = 1 / (1 + ((target - matrix @ solution) ** 2).sum(1) / scale**2)
    return solution
