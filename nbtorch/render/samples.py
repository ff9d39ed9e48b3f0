"""Every intermediate of those samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nbtorch.config import DetectorConfig
from nbtorch.kernels.reference import LatticeTerms, RayTerms


@dataclass(frozen=True)
class Terms:
    """Every intermediate of one pixel: what the image was summed from, in the order it was summed.

    Samples run over layer (outermost), slow sub-pixel, fast sub-pixel. N samples, S sources, K orientations.
    """

    frame: Tensor  # [4, 3] fast, slow, normal (unit), origin (mm) of the pixel's panel
    rays: RayTerms  # of the N samples
    lattice: LatticeTerms  # [N, S, K, ...]
    incident: Tensor  # [S, 3] unit
    wavelength: Tensor  # [S] Å
    basis: Tensor  # [K, 3, 3] Å, after spindle and mosaic
    reciprocal: Tensor  # [3, 3] Å⁻¹, before spindle and mosaic
    n_cells: Tensor  # [3]
    intensity: Tensor  # [] I(p), before scaling; "exact" does not multiply it by the factors below, but term by term
    capture: Tensor  # [] cached factors, as they multiply the sum at the end
    polarization: Tensor  # []
    solid_angle: Tensor  # []
    fluence: Tensor  # [] photons/m²
    steps: int
    photons: Tensor  # [] the pixel of the image


def layer_step(detector: DetectorConfig, thickness: Tensor) -> Tensor:
    """The thickness [N] (mm) of one sensor layer; ``layer_step`` of the config where the user states it."""
    if detector.layer_step is not None:
        return torch.full_like(thickness, detector.layer_step)
    return thickness / detector.layers
