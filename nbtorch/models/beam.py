"""The beam: direction, wavelength or spectrum, divergence, polarization and fluence, as parameters."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from nbtorch.config import BeamConfig
from nbtorch.functional import beam as beams
from nbtorch.functional.rotation import unit
from nbtorch.kernels.reference import BeamFrame
from nbtorch.units import MILLIRADIANS


class Beam(nn.Module):
    """The incident beam as point sources.

    Parameters: ``direction`` [3] (of travel; its length does not matter), ``wavelength`` [] (Å), ``spectrum`` [W]
    (offsets from the wavelength, Å), ``divergence`` [D, 2] (horizontal, vertical, mrad), ``polarization_axis`` [3],
    ``kahn_factor`` [], ``fluence`` [] (photons/m²), ``weight`` [S] (of every source, relative: normalized to mean 1).
    With explicit sources ``source_direction`` [S, 3] (of travel) and ``source_wavelength`` [S] take the place of
    direction, wavelength, spectrum and divergence.
    """

    def __init__(
        self, config: BeamConfig, *, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        self.config = config

        def parameter(value: object) -> nn.Parameter:
            return nn.Parameter(torch.as_tensor(np.asarray(value, dtype=float), dtype=dtype, device=device))

        spectrum, divergence = np.array(config.spectrum), np.array(config.divergence)
        self.direction = parameter(config.direction)
        self.polarization_axis = parameter(config.polarization_axis)
        self.kahn_factor = parameter(config.kahn_factor or 0.0)
        self.fluence = parameter(config.fluence)
        if config.sources:
            self.source_direction = parameter([-np.array(s.direction) for s in config.sources])
            self.source_wavelength = parameter([s.wavelength for s in config.sources])
            self.weight = parameter([s.weight for s in config.sources])
        else:
            self.wavelength = parameter(config.wavelength)
            self.spectrum = parameter(spectrum[:, 0])
            self.divergence = parameter(divergence[:, :2])
            self.weight = parameter(np.outer(divergence[:, 2], spectrum[:, 1]).ravel())

    @property
    def polarized(self) -> bool:
        """Whether the polarization factor is computed at all."""
        return self.config.kahn_factor is not None

    def sources(self) -> tuple[Tensor, Tensor, Tensor]:
        """incident [S, 3] unit vectors of travel, wavelength [S] (Å), weight [S] of mean 1."""
        weight = self.weight / self.weight.mean()
        if self.config.sources:
            return unit(self.source_direction), self.source_wavelength, weight
        axes = unit(self.direction), unit(self.polarization_axis)
        # Every source is turned, the central one too: at zero divergence the rotation still has a derivative.
        directions = beams.divergent_directions(*axes, self.divergence * MILLIRADIANS)
        incident, wavelength = beams.sources(directions, self.wavelength + self.spectrum)
        return incident, wavelength, weight

    def frame(self, incident: Tensor) -> BeamFrame:
        """The beam as :func:`nbtorch.kernels.pixel_rays` takes it; ``incident`` is the first of :meth:`sources`."""
        return BeamFrame(incident, unit(self.direction), unit(self.polarization_axis), self.kahn_factor)
