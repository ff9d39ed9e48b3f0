"""Two traces of one pixel, factor by factor: how far each may part, and where they first do."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Status = Literal["agrees", "differs", "only Python", "only C"]

_LINE = re.compile(r"^TRACE_(?:PY|C): *([A-Za-z_0-9]+)(?:\[([\d,]+)\])?((?: +\S+)+)$")
#: Every sample's lines begin with this one.
FIRST_OF_SAMPLE = "pix0_vector_meters"
#: The first line of what is said once about the pixel.
FIRST_OF_TOTALS = "I_before_scaling"


@dataclass(frozen=True)
class Line:
    """One line of a trace. ``index``: (sample, source, spindle step, domain) of a -trace_all line, else None."""

    name: str
    index: tuple[int, ...] | None
    values: tuple[float, ...]


@dataclass(frozen=True)
class Bounds:
    """How far two programs may part, relative to a value's size: vectors, Miller indices, lattice factors, intensities.

    ``faint``: a lattice factor smaller than this, between its zeros, counts as of this size.
    """

    vector: float
    index: float
    lattice: float
    intensity: float
    faint: float


BOUNDS = {
    "float64": Bounds(1e-10, 1e-10, 1e-8, 1e-8, faint=1e-2),  # as the golden traces are held
    # worst seen, of the golden traces: 2e-7 of a vector over the wavelength, 3e-6 of an index, 4e-4 of a lattice
    # factor (N = 36), 2.8e-2 of an intensity between two peaks
    "float32": Bounds(1e-6, 1e-5, 2e-3, 5e-2, faint=1.0),
}
FLOAT32_ROUNDING = 1.2e-7  # of the last line, which is a float32

LATTICE = frozenset({"F_latt_a", "F_latt_b", "F_latt_c", "F_latt"})
INTENSITIES = frozenset({"I_before_scaling", "I_pixel_final", "I_term"})
#: A smaller value counts as of this size: a difference of unit vectors over a wavelength below 10 Å (m⁻¹), a cosine.
NATURAL_SIZE = {"scattering_vec_A_inv": 1e9, "cos_2theta": 1.0}


@dataclass(frozen=True)
class Factor:
    """One quantity as both programs have it. ``sample``: which sample of the pixel, None for the pixel's totals.

    ``absolute``: norm of the difference; ``relative``: over the norm of the C's value; ``tolerance``: on ``absolute``.
    """

    name: str
    sample: int | None
    py: tuple[float, ...]
    c: tuple[float, ...]
    absolute: float
    relative: float
    tolerance: float
    status: Status


def parse_trace(lines: Iterable[str]) -> list[Line]:
    """The TRACE_PY or TRACE_C lines among ``lines``. A trace line that cannot be read is a ValueError."""
    found = []
    for text in lines:
        if not text.startswith(("TRACE_PY:", "TRACE_C:")):
            continue
        match = _LINE.match(text.rstrip())
        if match is None:
            raise ValueError(f"not a trace line: {text.rstrip()!r}")
        name, index, values = match.groups()
        indices = tuple(int(word) for word in index.split(",")) if index else None
        found.append(Line(name, indices, tuple(float(word) for word in values.split())))
    return found


def tolerance(name: str, size: float, bounds: Bounds) -> float:
    """How far a factor of norm ``size`` may part."""
    if name in LATTICE:
        return bounds.lattice * max(size, bounds.faint)
    if name in INTENSITIES:
        return bounds.intensity * size
    if name == "floatimage_accumulated":
        return (bounds.intensity + FLOAT32_ROUNDING) * size
    if name == "hkl_frac":
        return bounds.index * max(size, 1.0)
    return bounds.vector * max(size, NATURAL_SIZE.get(name, 0.0))


def distance(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """|a − b|; equal infinities and two NaN are no distance apart, unequal lengths an infinite one."""
    if len(a) != len(b):
        return math.inf
    parts = [0.0 if x == y or (math.isnan(x) and math.isnan(y)) else x - y for x, y in zip(a, b, strict=True)]
    return math.hypot(*parts)


def factor(name: str, sample: int | None, py: tuple[float, ...], c: tuple[float, ...], bounds: Bounds) -> Factor:
    """One factor compared; an empty tuple: that program did not print it."""
    apart, size = distance(py, c), math.hypot(*c)
    allowed = tolerance(name, max(size, math.hypot(*py)), bounds)
    status: Status = "agrees" if apart <= allowed or apart == 0 else "differs"
    if not py or not c:
        status = "only C" if c else "only Python"
    return Factor(name, sample, py, c, apart, apart / size if size else (math.inf if apart else 0.0), allowed, status)


def _numbered(lines: Iterable[Line]) -> Iterator[tuple[tuple[str, int | None], tuple[float, ...]]]:
    """((name, sample), values) of the plain lines, the samples counted as they come."""
    sample: int | None = -1
    for line in lines:
        if line.index is not None:
            continue
        if line.name == FIRST_OF_SAMPLE:
            sample = (sample or 0) + 1
        elif line.name == FIRST_OF_TOTALS:
            sample = None
        yield (line.name, sample), line.values


def compare_traces(py: Iterable[Line], c: Iterable[Line], dtype: str = "float64") -> list[Factor]:
    """Every factor of both traces in the order of printing; what only one printed comes where its sample ends.

    ``dtype`` is the Python's.
    """
    ours, theirs = dict(_numbered(py)), dict(_numbered(c))
    merged = dict.fromkeys((*ours, *theirs))
    ordered = sorted(merged, key=lambda key: math.inf if key[1] is None else key[1])
    bounds = BOUNDS[dtype]
    return [factor(*key, ours.get(key, ()), theirs.get(key, ()), bounds) for key in ordered]


def first_divergence(factors: Iterable[Factor]) -> Factor | None:
    """The first factor that does not agree."""
    return next((each for each in factors if each.status != "agrees"), None)
