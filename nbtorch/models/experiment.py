"""An experiment: crystal, beam, detector and structure factors together."""

from __future__ import annotations

import torch
from torch import nn

from nbtorch.config import BeamConfig, CrystalConfig, DetectorConfig, Exposure
from nbtorch.models.beam import Beam
from nbtorch.models.crystal import Crystal
from nbtorch.models.detector import Detector
from nbtorch.models.spreads import Spreads
from nbtorch.models.structure_factors import StructureFactors
from nbtorch.spreads import SpreadConfig


class Experiment(nn.Module):
    """The four models that make an image, and the exposure it was taken with. Models may be shared between several.

    ``spreads`` are those that only the closed form averages over (``RenderSettings.averaging``).
    """

    def __init__(
        self,
        crystal: Crystal,
        beam: Beam,
        detector: Detector,
        structure_factors: StructureFactors | None = None,
        exposure: Exposure | None = None,
        spreads: Spreads | None = None,
    ) -> None:
        super().__init__()
        self.crystal = crystal
        self.beam = beam
        self.detector = detector
        self.structure_factors = structure_factors or StructureFactors(
            default_F=1.0, dtype=crystal.cell.dtype, device=crystal.cell.device
        )
        self.exposure = exposure or Exposure()
        self.spreads = spreads

    @classmethod
    def from_config(
        cls,
        crystal: CrystalConfig,
        beam: BeamConfig,
        detector: DetectorConfig,
        structure_factors: StructureFactors | None = None,
        exposure: Exposure | None = None,
        spreads: SpreadConfig | None = None,
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> Experiment:
        """An experiment from what a user stated; without structure factors every F is 1."""
        return cls(
            Crystal(crystal, dtype=dtype, device=device),
            Beam(beam, dtype=dtype, device=device),
            Detector(detector, dtype=dtype, device=device),
            structure_factors,
            exposure,
            None if spreads is None else Spreads(spreads, dtype=dtype, device=device),
        )
