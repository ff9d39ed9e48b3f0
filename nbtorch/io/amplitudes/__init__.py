"""Structure factor amplitudes: MTZ, mmCIF, coordinates, text and Fdump.bin, expanded to P1 with Friedel mates."""

from nbtorch.io.amplitudes.check import check_against_cell
from nbtorch.io.amplitudes.read import read_amplitudes
from nbtorch.io.amplitudes.types import Amplitudes

__all__ = ["Amplitudes", "check_against_cell", "read_amplitudes"]
