"""Normal equations as whole matrices: what few parameters allow, and what arrows are compared with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from refine.least_squares.normal import Arrow
from refine.parameters.parameter_set import ParameterSet


def dense(arrow: Arrow, places: Sequence[Sequence[int]], shared: Sequence[int], size: int) -> Tensor:
    """The whole matrix [size, size]: ``shared`` and ``places`` say where each block's parameters stand."""
    full = torch.zeros(size, size, dtype=arrow.shared.dtype, device=arrow.shared.device)
    own = torch.tensor(shared, dtype=torch.long, device=full.device)
    full[own[:, None], own] = arrow.shared
    for mixed, local, place in zip(arrow.mixed, arrow.local, places, strict=True):
        here = torch.tensor(place, dtype=torch.long, device=full.device)
        full[here[:, None], here] = local
        full[own[:, None], here] = mixed
        full[here[:, None], own] = mixed.T
    return full


def whole_matrix(arrow: Arrow, parameters: ParameterSet) -> Tensor:
    """The normal matrix over all parameters [T, T]; zero rows for those that are held."""
    places = [parameters.local[block] for block in arrow.blocks]
    return dense(arrow, places, parameters.shared, len(parameters))
