"""Conversions at the border. Public: mm, Å, degrees. Inside functional/: mm, Å, radians; SI only where stated."""

from __future__ import annotations

import math

CLASSICAL_ELECTRON_RADIUS_SQUARED = 7.94079248018965e-30  # m², the value nanoBragg uses
AVOGADRO = 6.02214179e23
EV_ANGSTROM = 12398.42  # energy[eV] · wavelength[Å]

DEGREES = math.pi / 180.0  # multiply degrees by this to get radians
MILLIRADIANS = 1e-3
METRES_PER_MM = 1e-3
METRES_PER_ANGSTROM = 1e-10
MM_PER_MICRON = 1e-3


def wavelength_from_energy(energy_ev: float) -> float:
    """Wavelength (Å) of photons of ``energy_ev`` (eV)."""
    return EV_ANGSTROM / energy_ev
