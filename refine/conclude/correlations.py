"""Correlations of the free parameters, and the pairs that cannot be told apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from refine.least_squares.uncertainty import Uncertainty
from refine.records.outcome import Correlation

_DEGENERATE = 0.98
_IN_ONE_MATRIX = 200  # parameters: of more, all correlations would grow with their square
_MOST_PAIRS = 50


def correlation(known: Uncertainty) -> Correlation:
    """Correlations, with the pairs that cannot be told apart: all of few parameters; of many the shared ones', and of
    each crystal its own and what they have with the shared ones."""
    if len(known.names) <= _IN_ONE_MATRIX:
        return _degenerate(known.names, known.correlation())
    blocks = [_degenerate(*known.correlation_of(number)) for number in range(len(known.covariance.own))]
    shared = known.covariance.n_shared
    pairs = dict.fromkeys(pair for block in blocks for pair in block.degenerate)
    own = tuple(replace(block, names=block.names[shared:], matrix=block.matrix[shared:, shared:], degenerate=())
                for block in blocks)  # fmt: skip
    whole = blocks[0]
    return Correlation(whole.names[:shared], whole.matrix[:shared, :shared], tuple(pairs)[:_MOST_PAIRS], own)


def _degenerate(names: tuple[str, ...], correlations: Tensor) -> Correlation:
    """``correlations`` [n, n] of ``names`` with the pairs that cannot be told apart."""
    matrix = correlations.numpy()
    rows, columns = np.nonzero(np.triu(np.abs(matrix), 1) > _DEGENERATE)
    found = zip(rows[:_MOST_PAIRS], columns[:_MOST_PAIRS], strict=True)
    return Correlation(names, matrix, tuple((names[i], names[j], float(matrix[i, j])) for i, j in found))
