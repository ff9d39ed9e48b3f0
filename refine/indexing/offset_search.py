"""A robust search for how far a start is off: shift, scale and turn of the pattern, and turn of the crystal.

Pairs of an observed and a predicted spot vote for the shift between them: the right pairs agree, the others scatter.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from nbtorch.functional.rotation import rotation_matrix
from refine.indexing.lattice_view import Candidates, Floats, View

_MOST_OFFSETS = 12
_BIN = 2.0  # pixels; votes are counted in 2×2 bins, so that none is cut by an edge
_AT_ONCE = 10**6  # pairs times variants that vote together, which bounds the memory


@dataclass(frozen=True)
class SearchSettings:
    """How far a start may be off. pixels: shift of the pattern; degrees: turn of the pattern, and of the crystal unless
    ``crystal_known``; scale: relative error of distance/cell. miss: degrees a lit reflection may be from the sphere.
    brightest: spots that vote."""

    pixels: float = 25.0
    degrees: float = 0.6
    crystal_known: bool = False
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


def find_offsets(view: View, candidates: Candidates, settings: SearchSettings) -> tuple[Offset, ...]:
    """Offsets that many pairs of the brightest observed spots and the ``candidates`` agree on, most votes first.

    There may be several: indices that are all off by one are right for a beam tilted by λ/cell, half a degree for a
    cell of 130 Å. A still tells a turn across the beam by which reflections are lit; a scan by when they are, which the
    pairs' range in spindle angle allows for.
    """
    chosen = slice(0, settings.brightest)
    poll = _Poll(settings)
    rotations = _turns(view, settings)
    matrices = rotation_matrix(torch.as_tensor(np.deg2rad(rotations))).numpy()
    for rotation, matrix in zip(rotations, matrices, strict=True):
        turned = replace(candidates, reciprocal=candidates.reciprocal @ matrix.T)
        if not view.scan:
            turned = turned.at(np.abs(view.miss(turned)) <= settings.miss)
        pairs = _pairs(view, chosen, turned, settings)
        poll.count(view.position[chosen][pairs[0]], view.predicted(turned)[pairs[1]], rotation)
    return poll.winners()


def across_beam(view: View) -> Floats:
    """Two unit vectors [2, 3] across the beam."""
    beam = view.wave / np.linalg.norm(view.wave)
    first = np.cross(beam, np.eye(3)[np.abs(beam).argmin()])
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(beam, first)])


def _turns(view: View, settings: SearchSettings) -> list[Floats]:
    """Rotation vectors (degrees) to try, nearest first, so that a draw goes to the smaller one."""
    if view.scan or settings.crystal_known:
        return [np.zeros(3)]
    axes = across_beam(view)
    steps = _steps(settings.degrees, settings.miss)
    pairs = sorted(itertools.product(steps, steps), key=lambda pair: (np.hypot(*pair), pair))
    return [pair[0] * axes[0] + pair[1] * axes[1] for pair in pairs]


def _steps(limit: float, step: float) -> Floats:
    """Values −limit … limit, ``step`` apart at most, zero among them."""
    count = int(np.ceil(limit / step)) if limit > 0 else 0
    return np.linspace(-limit, limit, 2 * count + 1)


class _Poll:
    """For every shift the most votes it got, and with which scale, turn and rotation."""

    def __init__(self, settings: SearchSettings) -> None:
        self.settings = settings
        self.side = int(np.ceil(2 * settings.pixels / _BIN)) + 1
        self.votes = np.zeros((self.side - 1, self.side - 1), dtype=int)
        self.chance = np.zeros(self.votes.shape)
        self.how: list[tuple[float, float, Floats]] = [(0.0, 0.0, np.zeros(3))]
        self.which = np.zeros(self.votes.shape, dtype=int)

    def count(self, observed: Floats, predicted: Floats, rotation: Floats) -> None:
        """Let pairs [m, 2] vote, with every scale and turn of the pattern."""
        radius = float(np.linalg.norm(observed, axis=1).max(initial=1.0))
        # An edge that moves by two bins makes a step of scale or turn worth trying; smaller ones first.
        scales = _steps(self.settings.scale, 2 * _BIN / radius)
        turns = _steps(self.settings.degrees, float(np.rad2deg(2 * _BIN / radius)))
        variants = [
            (float(scale), float(turn))
            for turn in turns[np.argsort(np.abs(turns), kind="stable")]
            for scale in scales[np.argsort(np.abs(scales), kind="stable")]
        ]
        size = max(1, _AT_ONCE // max(1, len(observed)))
        for start in range(0, len(variants), size):
            self._count(observed, predicted, rotation, variants[start : start + size])

    def _count(
        self, observed: Floats, predicted: Floats, rotation: Floats, variants: list[tuple[float, float]]
    ) -> None:
        """Let pairs [m, 2] vote with ``variants`` of (scale, turn): the first of those with the most votes is kept."""
        rotated = predicted @ np.stack([_turn_matrix(turn).T for _, turn in variants])
        stretch = 1 + np.array([scale for scale, _ in variants])
        four = self._fours(observed - stretch[:, None, None] * rotated)
        first = four.argmax(0)
        most = np.take_along_axis(four, first[None], 0)[0]
        better = most > self.votes
        self.votes[better], self.which[better] = most[better], len(self.how) + first[better]
        self.chance[better] = four.mean((1, 2))[first[better]]
        self.how += [(scale, turn, rotation) for scale, turn in variants]

    def _fours(self, shift: Floats) -> NDArray[np.int64]:
        """How many of the shifts [V, m, 2] of each variant fall in every square of 2×2 bins."""
        place = (shift + self.settings.pixels) / _BIN
        inside = np.nonzero(((place >= 0) & (place < self.side)).all(-1))
        across, down = place[inside].astype(int).T
        shape = (len(shift), self.side, self.side)
        votes = np.bincount(np.ravel_multi_index((inside[0], across, down), shape), minlength=int(np.prod(shape)))
        votes = votes.reshape(shape)
        return np.asarray(votes[:, :-1, :-1] + votes[:, 1:, :-1] + votes[:, :-1, 1:] + votes[:, 1:, 1:])

    def winners(self) -> tuple[Offset, ...]:
        """The shifts with the most votes, none near a better one."""
        left = self.votes.astype(float)
        found: list[Offset] = []
        while len(found) < _MOST_OFFSETS and left.max() > max(0.5 * self.votes.max(), 2.0):
            row, column = np.unravel_index(int(left.argmax()), left.shape)
            scale, turn, rotation = self.how[self.which[row, column]]
            shift = np.array([row, column], dtype=np.float64) * _BIN + _BIN - self.settings.pixels
            chance = float(self.chance[row, column])
            found.append(Offset(shift, scale, turn, rotation, int(self.votes[row, column]), chance))
            left[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3] = 0
        return tuple(found) or (NO_OFFSET,)


def _pairs(
    view: View, chosen: slice, candidates: Candidates, settings: SearchSettings
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(observed, predicted) of all pairs that an offset within the limits may bring together."""
    observed, predicted = view.position[chosen], view.predicted(candidates)
    radius = float(np.linalg.norm(observed, axis=1).max(initial=1.0))
    reach = settings.pixels + radius * (settings.scale + np.deg2rad(settings.degrees))
    late = max(2 * settings.degrees, settings.miss)
    phi = candidates.phi if view.scan else np.zeros(len(candidates))
    here, there = (
        np.column_stack([observed / reach, view.phi[chosen] / late]),
        np.column_stack([predicted / reach, phi / late]),
    )
    near = cKDTree(here).query_ball_tree(cKDTree(there), np.sqrt(2.0)) if len(here) and len(there) else []
    seen = np.repeat(np.arange(len(near)), [len(one) for one in near])
    return seen, np.fromiter(itertools.chain.from_iterable(near), dtype=np.int64, count=len(seen))


def _turn_matrix(degrees: float) -> Floats:
    sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    return np.array([[cosine, -sine], [sine, cosine]])
