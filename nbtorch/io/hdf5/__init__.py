"""Images in HDF5 files: NXmx and what detectors and beamlines make of it. One image is in memory at a time."""

from nbtorch.io.hdf5.images import ImageList, image_list, read_image
from nbtorch.io.hdf5.open import is_hdf5, open_hdf5

__all__ = ["ImageList", "image_list", "is_hdf5", "open_hdf5", "read_image"]
