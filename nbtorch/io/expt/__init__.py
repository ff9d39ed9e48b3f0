"""dxtbx experiment lists (.expt): JSON in mm, Å and degrees, read into nbtorch's own types and patched on writing."""

from nbtorch.io.expt.read import read_expt
from nbtorch.io.expt.subset import Part, subset
from nbtorch.io.expt.types import ExperimentEntry, ExperimentList, ExptUpdates
from nbtorch.io.expt.write import write_expt

__all__ = ["ExperimentEntry", "ExperimentList", "ExptUpdates", "Part", "read_expt", "subset", "write_expt"]
