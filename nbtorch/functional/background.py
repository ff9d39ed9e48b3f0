"""Scattering from water in the beam."""

from __future__ import annotations

from torch import Tensor

from nbtorch.units import AVOGADRO, CLASSICAL_ELECTRON_RADIUS_SQUARED, METRES_PER_MM

WATER_FORWARD_SCATTERING = 2.57  # electrons per molecule, nanoBragg's
WATER_MOLAR_MASS = 18.0  # g/mol
WATER_DENSITY = 1e6  # g/m³


def water_intensity(fluence: Tensor, size: float) -> Tensor:
    """I_bg [] of a cube of water of edge ``size`` (mm) at ``fluence`` [] (photons/m²).

    nanoBragg: it enters I(p), so that r_e²·fluence multiplies it twice; kept as it is (docs/physics.md §4).
    """
    molecules = (size * METRES_PER_MM) ** 3 * WATER_DENSITY * AVOGADRO / WATER_MOLAR_MASS
    return WATER_FORWARD_SCATTERING**2 * CLASSICAL_ELECTRON_RADIUS_SQUARED * fluence * molecules
