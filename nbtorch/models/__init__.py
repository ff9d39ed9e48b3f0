"""nn.Modules that hold the parameters and delegate to functional/."""

from nbtorch.models.beam import Beam
from nbtorch.models.crystal import Crystal
from nbtorch.models.detector import Detector
from nbtorch.models.experiment import Experiment
from nbtorch.models.spreads import Spreads
from nbtorch.models.structure_factors import StructureFactors

__all__ = ["Beam", "Crystal", "Detector", "Experiment", "Spreads", "StructureFactors"]
