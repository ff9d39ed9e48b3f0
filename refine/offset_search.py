"""A robust search for how far a start is off: shift, scale and turn of the pattern, and turn of the crystal.

Pairs of an observed and a predicted spot vote for the shift between them: the right pairs agree, the others scatter.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from refine.lattice_view import Candidates, Floats, View

_BIN = 2.0  # pixels; votes are counted in 2×2 bins, so that none is cut by an edge


@dataclass(frozen=True)
class SearchSettings:
    """How far a start may be off. pixels: shift of the pattern; degrees: turn of the crystal; scale: relative error of
    distance/cell. miss: degrees a lit reflection may be from the sphere. brightest: spots that vote."""

    pixels: float = 25.0
    degrees: float = 0.6
    scale: float = 0.012
    miss: float = 0.15
    brightest: int = 300


@dataclass(frozen=True)
class Offset:
    """How far a start is off. shift: [2] pixels on the plane at the foot of its normal; scale: relative; turn: degrees
    of the pattern about the plane's normal (fast towards slow); rotation: [3] degrees, lab, that the crystal has to
    turn about axes across the beam. votes: pairs that agree; chance: how many would agree anywhere."""

    shift: Floats
    scale: float
    turn: float
    rotation: Floats
    votes: int
    chance: float

    def moved(self, position: Floats) -> Floats:
        """Predicted positions [m, 2] (pixels) where they will be seen."""
        return np.asarray((1 + self.scale) * position @ _turn_matrix(self.turn).T + self.shift)

    def seen_from(self, candidates: Candidates, view: View) -> tuple[Candidates, Floats]:
        """The candidates turned with the crystal, and where [m, 2] (pixels) they will be seen."""
        turned = candidates.turned(self.rotation)
        return turned, self.moved(view.predicted(turned))


NO_OFFSET = Offset(np.zeros(2), 0.0, 0.0, np.zeros(3), 0, 0.0)


def find_offset(view: View, candidates: Candidates, settings: SearchSettings) -> Offset:
    """The offset that most pairs of the brightest observed spots and the ``candidates`` agree on.

    A still tells a turn across the beam by which reflections are lit; a scan by when they are, which the pairs' range
    in spindle angle allows for.
    """
    chosen = slice(0, settings.brightest)
    best, best_score = NO_OFFSET, -np.inf
    for rotation in _turns(view, settings):
        turned = candidates.turned(rotation)
        if not view.scan:
            turned = turned.at(np.abs(view.miss(turned)) <= settings.miss)
        found = _vote(view.position[chosen], view.phi[chosen], view.predicted(turned), turned.phi, settings)
        # Poisson's law of the votes that agree by chance; + 1: one pair alone is no agreement
        score = (found.votes - found.chance) / np.sqrt(found.chance + 1)
        if score > best_score + 1e-9:
            best_score = score
            best = Offset(found.shift, found.scale, found.turn, rotation, found.votes, found.chance)
    return best


def across_beam(view: View) -> Floats:
    """Two unit vectors [2, 3] across the beam."""
    beam = view.wave / np.linalg.norm(view.wave)
    first = np.cross(beam, np.eye(3)[np.abs(beam).argmin()])
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(beam, first)])


def _turns(view: View, settings: SearchSettings) -> list[Floats]:
    """Rotation vectors (degrees) to try, nearest first, so that a draw goes to the smaller one."""
    if view.scan:
        return [np.zeros(3)]
    axes = across_beam(view)
    steps = _steps(settings.degrees, settings.miss)
    pairs = sorted(itertools.product(steps, steps), key=lambda pair: (np.hypot(*pair), pair))
    return [pair[0] * axes[0] + pair[1] * axes[1] for pair in pairs]


def _steps(limit: float, step: float) -> Floats:
    """Values −limit … limit, ``step`` apart at most, zero among them."""
    count = int(np.ceil(limit / step)) if limit > 0 else 0
    return np.linspace(-limit, limit, 2 * count + 1)


def _vote(observed: Floats, observed_phi: Floats, predicted: Floats, phi: Floats, settings: SearchSettings) -> Offset:
    """The shift, scale and turn of the pattern with the most votes."""
    radius = float(np.linalg.norm(observed, axis=1).max(initial=1.0))
    reach = settings.pixels + radius * (settings.scale + np.deg2rad(settings.degrees))
    seen, meant = _pairs(observed, observed_phi, predicted, phi, (reach, 2 * settings.degrees))
    if not len(seen):
        return NO_OFFSET
    # An edge that moves by two bins makes a step of scale or turn worth trying.
    scales = _steps(settings.scale, 2 * _BIN / radius)
    turns = _steps(settings.degrees, float(np.rad2deg(2 * _BIN / radius)))
    side = int(np.ceil(2 * settings.pixels / _BIN)) + 1
    best = NO_OFFSET
    for turn in turns[np.argsort(np.abs(turns), kind="stable")]:
        rotated = predicted[meant] @ _turn_matrix(turn).T
        for scale in scales[np.argsort(np.abs(scales), kind="stable")]:
            place = (observed[seen] - (1 + scale) * rotated + settings.pixels) / _BIN
            inside = np.all((place >= 0) & (place < side), axis=1)
            cell = place[inside].astype(int)
            votes = np.bincount(cell[:, 0] * side + cell[:, 1], minlength=side * side).reshape(side, side)
            four = votes[:-1, :-1] + votes[1:, :-1] + votes[:-1, 1:] + votes[1:, 1:]
            most = np.unravel_index(int(four.argmax()), four.shape)
            if four[most] > best.votes:
                shift = np.array(most, dtype=np.float64) * _BIN + _BIN - settings.pixels
                best = Offset(shift, float(scale), float(turn), np.zeros(3), int(four[most]), float(four.mean()))
    return best


def _pairs(
    observed: Floats, observed_phi: Floats, predicted: Floats, phi: Floats, reach: tuple[float, float]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(observed, predicted) of all pairs within ``reach`` (pixels, degrees of spindle)."""
    here, there = (
        np.column_stack([x / reach[0], p / reach[1]]) for x, p in ((observed, observed_phi), (predicted, phi))
    )
    near = cKDTree(here).query_ball_tree(cKDTree(there), np.sqrt(2.0)) if len(here) and len(there) else []
    seen = np.repeat(np.arange(len(near)), [len(one) for one in near])
    return seen, np.fromiter(itertools.chain.from_iterable(near), dtype=np.int64, count=len(seen))


def _turn_matrix(degrees: float) -> Floats:
    sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    return np.array([[cosine, -sine], [sine, cosine]])
