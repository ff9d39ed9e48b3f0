"""Whether the spots are as bright as the amplitudes say: rank correlations, over all, by resolution, and turned.

Ranks, since partial spots and unknown scales leave little else; 1/√(n − 1) is their correlation's scatter by chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import rankdata

from nbtorch.models import Experiment
from refine.indexing.index_spots import expected_light
from refine.indexing.lattice_view import Floats, Ints
from refine.spots.observations import Observations
from refine.verdict.evidence import Shell

_FEWEST = 12  # spots whose brightness says something
_SHELL, _SHELLS = 25, 6  # spots of a shell, and shells at most


def agreement(experiment: Experiment, observed: Observations) -> float:
    """Half the square of the significance with which bright spots are bright reflections; 0 without amplitudes."""
    light = expected_light(experiment, observed.hkl.numpy())
    listed = 0 if light is None else int(np.isfinite(light).sum())
    if light is None or listed < _FEWEST:
        return 0.0
    correlation = rank_correlation(light, observed.counts.numpy())
    return max(correlation, 0.0) ** 2 * (listed - 1) / 2


def rank_correlation(first: Floats, second: Floats) -> float:
    """Spearman's correlation of two lists [n] where the first is known; 0 where one of them is constant."""
    first, second = first[np.isfinite(first)], second[np.isfinite(first)]
    if len(first) < 2 or min(np.ptp(first), np.ptp(second)) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])


def shells(light: Floats, counts: Floats, length: Floats) -> tuple[Shell, ...]:
    """Correlation of ``counts`` [n] with ``light`` [n] in shells of |q| = ``length`` [n] (Å⁻¹), of equal size."""
    listed = np.isfinite(light)
    light, counts, length = light[listed], counts[listed], length[listed]
    number = min(_SHELLS, len(length) // _SHELL)
    if number == 0:
        return ()
    parts = np.array_split(np.argsort(length, kind="stable"), number)
    return tuple(
        Shell(
            float(1 / max(length[part].min(), 1e-9)),
            float(1 / max(length[part].max(), 1e-9)),
            len(part),
            rank_correlation(light[part], counts[part]),
        )
        for part in parts
    )


def best_turn(
    experiments: Sequence[Experiment], observed: Sequence[Observations], turns: Sequence[tuple[str, Ints]]
) -> tuple[str, float] | None:
    """The lattice symmetry (triplet, matrix [3, 3] that acts on columns of indices) whose turned indices fit the
    amplitudes best, and its correlation; None without amplitudes or symmetries."""
    found = []
    for name, matrix in turns:
        light = [expected_light(e, seen.hkl.numpy() @ matrix.T) for e, seen in zip(experiments, observed, strict=True)]
        if any(part is None for part in light):
            return None
        found.append((name, pooled(light, [seen.counts.numpy() for seen in observed])))  # type: ignore[arg-type]
    return max(found, key=lambda pair: pair[1], default=None)


def pooled(light: Sequence[Floats], counts: Sequence[Floats]) -> float:
    """Correlation over several experiments, each ranked by itself: their scales differ."""
    pairs = [(a[np.isfinite(a)], b[np.isfinite(a)]) for a, b in zip(light, counts, strict=True)]
    ranks = [(_centred(a), _centred(b)) for a, b in pairs if len(a) > 1]
    if not ranks:
        return 0.0
    first, second = (np.concatenate(side) for side in zip(*ranks, strict=True))
    size = math.sqrt(float((first**2).sum()) * float((second**2).sum()))
    return float(first @ second) / size if size > 0 else 0.0


def _centred(values: Floats) -> Floats:
    ranks = np.asarray(rankdata(values), dtype=np.float64) / len(values)
    return ranks - ranks.mean()


def lengths(experiment: Experiment, hkl: torch.Tensor) -> Floats:
    """|q| [n] (Å⁻¹) of reflections ``hkl`` [n, 3]."""
    with torch.no_grad():
        stars = experiment.crystal.vectors()[1]
        return np.asarray((hkl.to(stars) @ stars).norm(dim=1).numpy(), dtype=np.float64)
