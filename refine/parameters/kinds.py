"""What kinds of parameters there are: whose they are, and what a fit takes them from.

The one home of what is said of a kind: everything else asks a parameter for its kind and never reads its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Evidence = Literal["positions", "pixels", "brightness"]
Owner = Literal["detector", "beam", "crystal", "amplitudes"]

_GEOMETRY: frozenset[Evidence] = frozenset(("positions", "pixels"))
_SHAPE: frozenset[Evidence] = frozenset(("pixels",))
_LIGHT: frozenset[Evidence] = frozenset(("brightness",))


@dataclass(frozen=True)
class Kind:
    """A kind of parameter, by the word that result.json has for it.

    ``owner``: whose number it is. ``determined_by``: what it is taken from, of where spots lie ("positions"), how their
    pixels share their light ("pixels"), and how bright they are as a whole ("brightness").
    """

    name: str
    owner: Owner
    determined_by: frozenset[Evidence]

    @property
    def told_by_positions(self) -> bool:
        """Whether it moves where spots lie."""
        return "positions" in self.determined_by

    @property
    def told_by_shapes_alone(self) -> bool:
        """Whether nothing but the shapes of spots tells it: wrong where spots have other shapes than the model's."""
        return self.determined_by == _SHAPE

    @property
    def told_by_brightness_alone(self) -> bool:
        """Whether a scale of its own for every spot leaves nothing to tell it."""
        return self.determined_by == _LIGHT


DETECTOR_SHIFT = Kind("detector shift", "detector", _GEOMETRY)  # in its plane
DETECTOR_DISTANCE = Kind("detector distance", "detector", _GEOMETRY)  # a shift along its normal
DETECTOR_TILT = Kind("detector tilt", "detector", _GEOMETRY)  # about its fast or slow axis
DETECTOR_TURN = Kind("detector turn", "detector", _GEOMETRY)  # about its normal
BEAM_TILT = Kind("beam tilt", "beam", _GEOMETRY)
WAVELENGTH = Kind("wavelength", "beam", _GEOMETRY)
SPECTRUM_OFFSET = Kind("spectrum offset", "beam", _GEOMETRY)
BANDWIDTH = Kind("bandwidth", "beam", _SHAPE)
POLARIZATION = Kind("polarization", "beam", frozenset(("pixels", "brightness")))
ORIENTATION = Kind("orientation", "crystal", _GEOMETRY)
CELL_LENGTH = Kind("cell length", "crystal", _GEOMETRY)
CELL_ANGLE = Kind("cell angle", "crystal", _GEOMETRY)
N_CELLS = Kind("number of cells", "crystal", _SHAPE)
MOSAIC_SPREAD = Kind("mosaic spread", "crystal", _SHAPE)
SCALE = Kind("scale", "crystal", _LIGHT)
AMPLITUDE = Kind("amplitude", "amplitudes", _LIGHT)

KINDS = (
    *(DETECTOR_SHIFT, DETECTOR_DISTANCE, DETECTOR_TILT, DETECTOR_TURN),
    *(BEAM_TILT, WAVELENGTH, SPECTRUM_OFFSET, BANDWIDTH, POLARIZATION),
    *(ORIENTATION, CELL_LENGTH, CELL_ANGLE, N_CELLS, MOSAIC_SPREAD, SCALE, AMPLITUDE),
)
