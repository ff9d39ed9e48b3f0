"""dxtbx experiment lists (.expt): JSON in mm, Å and degrees, read into nbtorch's own types and patched on writing."""

from nbtorch.io.expt.equal import differences, equal_models
from nbtorch.io.expt.images import PixelFiles
from nbtorch.io.expt.read import read_expt
from nbtorch.io.expt.subset import Part, subset
from nbtorch.io.expt.types import ExperimentEntry, ExperimentList, ExptUpdates
from nbtorch.io.expt.unused import HARMLESS
from nbtorch.io.expt.write import write_expt

__all__ = [
    "HARMLESS",
    "ExperimentEntry",
    "ExperimentList",
    "ExptUpdates",
    "Part",
    "PixelFiles",
    "differences",
    "equal_models",
    "read_expt",
    "subset",
    "write_expt",
]
