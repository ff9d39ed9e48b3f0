"""The orientation of a crystal of known cell, from where its spots lie: no start is needed.

Reciprocal vectors q of spots lie on planes u·q = n/L for a real-space axis of length L along u. So |Σ exp(2πi·L·u·q)|/n
is near 1 along an axis and small elsewhere, wherever the origin is: a wrong beam centre shifts all phases alike. Pairs
of such directions at the angle of the cell give orientations, each of which all spots then judge. The idea is that of
real-space indexing (Steller, Bolotovsky and Rossmann, J. Appl. Cryst. 30, 1036, 1997).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST_SPOTS = 250  # that vote, the brightest
MOST_DIRECTIONS = 400_000  # of a hemisphere; beyond it the outer spots wait until the axes are known
AXES = 40  # directions of each length that are paired
ANGLE = 3.0  # degrees by which the angle of two directions may differ from the cell's
NEAR = 0.15  # of an index, from a lattice point, for a spot to be explained
SCALE = 0.03  # by which distance and cell together may be off
FEWEST = 8  # spots to look for a lattice in
_STEP = 0.35  # of an index, by which neighbouring directions differ at the outermost spot


@dataclass(frozen=True, eq=False)
class Found:
    """``rows`` [3, 3] a, b, c (Å) in the frame of q, up to SCALE larger or smaller than the cell.

    ``explained``: share of the spots near a lattice point; ``offset`` [3] (Å⁻¹) by which all q seem to be shifted;
    ``chance``: the share that a random lattice would explain.
    """

    rows: Floats
    explained: float
    offset: Floats
    chance: float


def orientations(q: Floats, standard: Floats, most: int = 5) -> tuple[Found, ...]:
    """Orientations of the cell with rows ``standard`` [3, 3] (Å) that explain the reciprocal vectors ``q`` [n, 3]
    (Å⁻¹, the brightest spots first), best first, those alike once; none of fewer than FEWEST spots."""
    if len(q) < FEWEST:
        return ()
    seen = q[:MOST_SPOTS]
    lengths = np.linalg.norm(standard, axis=1)
    axes = {round(float(length), 3): _axes(seen, float(length)) for length in lengths}
    directions = [axes[round(float(length), 3)] for length in lengths]
    starts = _pairs(standard, directions)
    if not len(starts):
        return ()
    scores = _explained(starts, seen, 2 * NEAR)
    order = np.argsort(-scores, kind="stable")[: 20 * most]
    refined = [_refined(starts[place], standard, seen) for place in order]
    found = sorted((_judged(rows, seen) for rows in refined), key=lambda one: -one.explained)
    return tuple(_different(found)[:most])


def _axes(q: Floats, length: float) -> Floats:
    """The directions [AXES, 3] along which spots lie on planes 1/``length`` apart, best first, refined."""
    size = np.linalg.norm(q, axis=1)
    reach = min(float(np.quantile(size, 0.95)), _STEP / length * np.sqrt(MOST_DIRECTIONS / (2 * np.pi)))
    inner = q[size <= reach] if (size <= reach).sum() >= FEWEST else q[np.argsort(size)[: max(FEWEST, len(q) // 2)]]
    step = _STEP / max(length * reach, 1e-9)
    grid = _hemisphere(int(np.clip(2 * np.pi / step**2, 2000, MOST_DIRECTIONS)))
    strength = _strength(grid, inner, length)
    best = _separated(grid, strength, 2.5 * step)
    for _ in range(4):  # to a sixteenth of a step, with all spots
        step /= 2
        best = _climbed(best, q if step * length * float(size.max()) < 1 else inner, length, step)
    return best[np.argsort(-_strength(best, q, length), kind="stable")]


def _hemisphere(number: int) -> Floats:
    """``number`` directions spread evenly over a hemisphere (Fibonacci's spiral)."""
    index = np.arange(number) + 0.5
    z = 1 - index / number
    turn = np.pi * (1 + 5**0.5) * index
    flat = np.sqrt(1 - z**2)
    return np.column_stack([flat * np.cos(turn), flat * np.sin(turn), z])


def _strength(directions: Floats, q: Floats, length: float) -> Floats:
    """|Σ exp(2πi·L·u·q)|/n [m] along ``directions`` [m, 3]."""
    waves = torch.as_tensor(q * (2 * np.pi * length), dtype=torch.float32).T
    found = []
    for part in torch.as_tensor(directions, dtype=torch.float32).split(20_000):
        phase = part @ waves
        found.append((torch.cos(phase).sum(1) ** 2 + torch.sin(phase).sum(1) ** 2).sqrt() / len(q))
    return np.asarray(torch.cat(found).double().numpy())


def _separated(grid: Floats, strength: Floats, apart: float) -> Floats:
    """The strongest AXES directions, none within ``apart`` (radians) of another or of its opposite."""
    chosen: list[Floats] = []
    for place in np.argsort(-strength, kind="stable")[: 60 * AXES]:
        if all(abs(float(grid[place] @ other)) < np.cos(apart) for other in chosen):
            chosen.append(grid[place])
        if len(chosen) == AXES:
            break
    return np.array(chosen)


def _climbed(directions: Floats, q: Floats, length: float, step: float) -> Floats:
    """Each of ``directions`` or the strongest of its eight neighbours at ``step`` (radians)."""
    moves = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]) * step
    helper = np.where(np.abs(directions[:, :1]) < 0.9, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    first = np.cross(directions, helper)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(directions, first)
    around = directions[:, None] + moves[:, :1] * first[:, None] + moves[:, 1:] * second[:, None]
    around /= np.linalg.norm(around, axis=-1, keepdims=True)
    strength = _strength(around.reshape(-1, 3), q, length).reshape(len(directions), -1)
    return np.asarray(around[np.arange(len(directions)), strength.argmax(1)])


def _pairs(standard: Floats, directions: list[Floats]) -> Floats:
    """Rows [m, 3, 3] of the cell turned so that two of its axes lie along two directions at their angle."""
    found = []
    for one, two in ((0, 1), (0, 2), (1, 2)):
        a, b = standard[one], standard[two]
        wanted = np.degrees(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1)))
        for sign in (1, -1):
            first, second = directions[one], sign * directions[two]
            angle = np.degrees(np.arccos(np.clip(first @ second.T, -1, 1)))
            for i, j in np.argwhere(np.abs(angle - wanted) < ANGLE):
                found.append(_turned(standard, one, two, first[i], second[j]))
                found.append(_turned(standard, one, two, -first[i], -second[j]))
    return np.array(found).reshape(-1, 3, 3)


def _turned(standard: Floats, one: int, two: int, first: Floats, second: Floats) -> Floats:
    """``standard`` turned so that rows ``one`` and ``two`` lie along ``first`` and ``second``, as near as may be."""
    here, there = _frame(standard[one], standard[two]), _frame(first, second)
    return standard @ here.T @ there


def _frame(first: Floats, second: Floats) -> Floats:
    """Orthonormal rows: along the bisector of two vectors, across it in their plane, normal to it."""
    a, b = first / np.linalg.norm(first), second / np.linalg.norm(second)
    x, y = a + b, a - b
    x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
    return np.array([x, y, np.cross(x, y)])


def _fractions(rows: Floats, q: Floats) -> tuple[Floats, Floats]:
    """Distances [..., n, 3] of the indices of ``q`` from whole numbers under ``rows`` [..., 3, 3], and the common part
    [..., 3] that was taken off: the origin of q may be wrong."""
    index = np.einsum("...ij,nj->...ni", rows, q)
    common = np.angle(np.exp(2j * np.pi * index).mean(axis=-2)) / (2 * np.pi)
    rest = index - common[..., None, :]
    return rest - np.round(rest), common


def _explained(rows: Floats, q: Floats, near: float) -> Floats:
    """Share [m] of the spots within ``near`` of a lattice point under each of ``rows`` [m, 3, 3]."""
    found = []
    for part in np.array_split(rows, max(1, len(rows) * len(q) // 500_000)):
        away, _ = _fractions(part, q)
        found.append((np.abs(away).max(-1) < near).mean(-1))
    return np.concatenate(found)


def _refined(rows: Floats, standard: Floats, q: Floats) -> Floats:
    """``rows`` turned and scaled so that the spots near lattice points lie nearest to them.

    A wrong distance, and a cell that is a little wrong, scale all q alike.
    """
    for near in (0.3, 0.25, 0.2, NEAR):
        away, common = _fractions(rows, q)
        close = np.abs(away).max(-1) < near
        if close.sum() < FEWEST // 2:
            return rows
        index = np.round(q[close] @ rows.T - common)
        # q = index·(rows⁻¹)ᵀ + shift: least squares of turn and scale about the means (Umeyama 1991)
        ideal = index @ np.linalg.inv(rows).T
        one, two = ideal - ideal.mean(0), q[close] - q[close].mean(0)
        left, _, right = np.linalg.svd(one.T @ two)
        turn = left @ np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))]) @ right
        scale = float((two * (one @ turn)).sum() / (one**2).sum())
        size = float(np.linalg.norm(rows[0]) / np.linalg.norm(standard[0])) / scale
        rows = rows @ turn / scale if abs(size - 1) < SCALE else rows @ turn
    return rows


def _judged(rows: Floats, q: Floats) -> Found:
    away, common = _fractions(rows, q)
    explained = float((np.abs(away).max(-1) < NEAR).mean())
    return Found(rows, explained, np.linalg.inv(rows) @ common, (2 * NEAR) ** 3)


def _different(found: list[Found]) -> list[Found]:
    """``found`` without those within 1° of a better one, axes of either sign taken as alike."""
    chosen: list[Found] = []
    for one in found:
        unit = one.rows / np.linalg.norm(one.rows, axis=1, keepdims=True)
        alike = False
        for other in chosen:
            there = other.rows / np.linalg.norm(other.rows, axis=1, keepdims=True)
            alike = alike or bool((np.abs((unit * there).sum(1)) > np.cos(np.radians(1.0))).all())
        if not alike:
            chosen.append(one)
    return chosen
