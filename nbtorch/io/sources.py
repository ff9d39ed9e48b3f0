"""nanoBragg's source files: up to five columns, x y z weight wavelength in metres."""

from __future__ import annotations

import math
from pathlib import Path

from nbtorch.config import SourceConfig, Vec3
from nbtorch.errors import FileError
from nbtorch.io.paths import find_file, one_line, read_text

#: Where a missing position puts a source: this far (m) against the beam. Only its direction matters.
DISTANCE = 10.0
METRES_TO_ANGSTROM = 1e10


def read_sources(path: str | Path, beam: Vec3, wavelength: float) -> tuple[SourceConfig, ...]:
    """The sources of a file: unit directions from the sample to the source, Å, weights as written.

    ``beam`` is the direction of travel and ``wavelength`` the one in Å: a missing x, y or z is that of −10 m · beam, a
    missing weight 1, a missing wavelength ``wavelength``. Weights are returned as they stand; who uses them normalizes.
    Raises FileError naming the line that holds no numbers, or no direction, or a wavelength that is not positive.
    """
    found = find_file(path)
    default = (*(-DISTANCE * component for component in beam), 1.0, wavelength / METRES_TO_ANGSTROM)
    sources = []
    for number, line in enumerate(read_text(found).splitlines(), 1):
        words = line.split("#")[0].split()
        if words:
            sources.append(_source(words, default, f"{found}, line {number}"))
    if not sources:
        raise FileError(str(found), "it holds no source", "Give one source a line: x y z weight wavelength[m]")
    return tuple(sources)


def _source(words: list[str], default: tuple[float, ...], where: str) -> SourceConfig:
    try:
        given = [float(word) for word in words[:5]]
    except ValueError as error:
        raise FileError(where, f"a source is up to five numbers ({one_line(error)})", "Repair the line") from error
    x, y, z, weight, metres = (*given, *default[len(given) :])
    length = math.sqrt(x * x + y * y + z * z)
    if not all(map(math.isfinite, (length, weight, metres))) or length == 0:
        raise FileError(where, "a source needs a finite position away from the sample", "Repair the line")
    if metres <= 0 or weight < 0:
        raise FileError(where, f"weight {weight:g} and wavelength {metres:g} m cannot be", "Repair the line")
    return SourceConfig((x / length, y / length, z / length), metres * METRES_TO_ANGSTROM, weight)
