"""The Kahn polarization factor, without a division, regular at the direct beam."""

from __future__ import annotations

import torch
from torch import Tensor


def polarization_axes(incident: Tensor, axis: Tensor) -> tuple[Tensor, Tensor]:
    """(E [S, 3], B [S, 3]) unit vectors across ``incident`` [S, 3]: B = unit(axis × incident), E = incident × B.

    axis: [3] the E vector as stated, which need not be at right angles to the beam. Source: docs/physics.md §4.
    """
    b = torch.linalg.cross(axis.expand_as(incident), incident)
    b = b / b.norm(dim=-1, keepdim=True)
    return torch.linalg.cross(incident, b), b


def polarization(diffracted: Tensor, incident: Tensor, axis: Tensor, kahn_factor: Tensor) -> Tensor:
    """polar: [P, S] = ½(1 + cos²2θ − K[(d·E)² − (d·B)²]), with E and B of :func:`polarization_axes`.

    diffracted: [P, 3], incident: [S, 3] unit. axis: [3] the E vector as stated. kahn_factor: [] K.
    Kahn et al. 1982, in the form of docs/physics.md §4.
    """
    e, b = polarization_axes(incident, axis)
    cosine = diffracted @ incident.transpose(-1, -2)
    along_e = diffracted @ e.transpose(-1, -2)
    along_b = diffracted @ b.transpose(-1, -2)
    return 0.5 * (1 + cosine**2 - kahn_factor * (along_e**2 - along_b**2))
