"""The single normalization step: the ONE place where r_e²·fluence/steps is written."""

from __future__ import annotations

from torch import Tensor

from nbtorch.units import CLASSICAL_ELECTRON_RADIUS_SQUARED


def photons(intensity: Tensor, fluence: Tensor, steps: int) -> Tensor:
    """Photons [P] = r_e²·fluence·I/steps. docs/physics.md §1.

    intensity: [P] I(p), summed over everything and already weighted by capture·polarization·solid angle.
    fluence: [] photons/m². steps: sources · mosaic domains · spindle steps · oversample² (layers are not in it).
    """
    return (CLASSICAL_ELECTRON_RADIUS_SQUARED * fluence / steps) * intensity  # one pass over the pixels
