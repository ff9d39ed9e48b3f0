"""Geometry as the headers of frames state it, in nbtorch's own types; every number says where it came from."""

from nbtorch.io.geometry.beam_hit import BeamHit, beam_hit
from nbtorch.io.geometry.experiments import Imported, geometry_of
from nbtorch.io.geometry.nexus_mask import mask_in_file
from nbtorch.io.geometry.read import header_geometry
from nbtorch.io.geometry.simple import QUANTITIES
from nbtorch.io.geometry.types import HeaderGeometry, Stated

__all__ = [
    "QUANTITIES",
    "BeamHit",
    "HeaderGeometry",
    "Imported",
    "Stated",
    "beam_hit",
    "geometry_of",
    "header_geometry",
    "mask_in_file",
]
