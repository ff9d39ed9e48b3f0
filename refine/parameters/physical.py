"""Which physical parameters an experiment has, and what each of them moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nbtorch.config import CrystalConfig
from nbtorch.models import Beam, Crystal, Detector
from refine.parameters import kinds
from refine.parameters.parameter_set import Entry, Follower, Parameter, at_knot
from refine.settings.fit_settings import FitSettings, ParameterSettings

# How far a header is typically wrong; see Parameter.span.
SPAN_SHIFT, SPAN_TILT, SPAN_ROTATION, SPAN_CELL, SPAN_ANGLE = 1.5, 0.5, 0.5, 0.01, 1.0
SPAN_SPREAD = 0.05  # degrees
LEAST_SPREAD = 3e-4  # degrees: as good as 0 (a spot of 200 cells is a hundred times as wide), with a derivative yet
LEAST_BANDWIDTH = 1e-4  # %
AXES = ("fast", "slow", "normal")
SHIFTS = (kinds.DETECTOR_SHIFT, kinds.DETECTOR_SHIFT, kinds.DETECTOR_DISTANCE)
ROTATIONS = (kinds.DETECTOR_TILT, kinds.DETECTOR_TILT, kinds.DETECTOR_TURN)
CELL_NAMES, CELL_UNITS = ("a", "b", "c", "alpha", "beta", "gamma"), ("Å",) * 3 + ("deg",) * 3

# Cell entries that move together, by crystal system (International Tables A, conventional settings).
TIES: dict[str, tuple[tuple[int, ...], ...]] = {
    "triclinic": ((0,), (1,), (2,), (3,), (4,), (5,)),
    "orthorhombic": ((0,), (1,), (2,)),
    "tetragonal": ((0, 1), (2,)),
    "trigonal": ((0, 1), (2,)),
    "hexagonal": ((0, 1), (2,)),
    "cubic": ((0, 1, 2),),
}


def cell_ties(crystal: CrystalConfig) -> tuple[tuple[int, ...], ...]:
    """Which of a b c α β γ move together for the crystal's space group; angles that symmetry fixes are not in it.

    A monoclinic cell frees its angle that is not 90°, a rhombohedral one moves three lengths and three angles.
    """
    import gemmi

    group = gemmi.SpaceGroup(crystal.space_group)
    system, cell = group.crystal_system_str(), crystal.cell
    if system == "monoclinic":
        unique = {"a": 3, "b": 4, "c": 5}[group.monoclinic_unique_axis() if group.monoclinic_unique_axis() else "b"]
        return ((0,), (1,), (2,), (unique,))
    if system == "trigonal" and math.isclose(cell[3], cell[5], abs_tol=1e-3) and abs(cell[5] - 120) > 1:
        return ((0, 1, 2), (3, 4, 5))
    return TIES[system]


def cell_parameters(index: int, crystal: Crystal, settings: FitSettings) -> list[Parameter]:
    """The independent cell parameters of crystal ``index``."""
    config, rows = crystal.config, []
    prefix = f"crystal[{index}]"
    for tie in cell_ties(config):
        first = tie[0]
        start, length = config.cell[first], first < 3
        span = SPAN_CELL * start if length else SPAN_ANGLE
        relative = settings.crystal.cell_restraint
        # a relative error of a length and an angle in radians are of one size
        restraint = None if relative is None else relative * (start if length else math.degrees(1))
        rows.append(
            Parameter(
                f"{prefix}.{CELL_NAMES[first]}",
                kinds.CELL_LENGTH if length else kinds.CELL_ANGLE,
                CELL_UNITS[first],
                start,
                span,
                tuple(Entry("crystal.cell", i, config.cell[i] / start if length else 1.0) for i in tie),
                index,
                lower=start - 10 * span,
                upper=start + 10 * span,
                free=settings.parameters.cell,
                restraint=restraint,
                follows=tuple(
                    Follower(f"{prefix}.{CELL_NAMES[i]}", config.cell[i] / start, config.cell[i]) for i in tie[1:]
                ),
            )
        )
    return rows


def orientation_parameters(index: int, free: bool) -> list[Parameter]:
    """Rotations about lab x, y, z at goniometer zero."""
    return [
        Parameter(
            f"crystal[{index}].rot_{axis}",
            kinds.ORIENTATION,
            "deg",
            0.0,
            SPAN_ROTATION,
            (Entry("crystal.rotation", i),),
            index,
            free=free,
        )
        for i, axis in enumerate("xyz")
    ]


def at_knots(rows: Sequence[Parameter], knots: Sequence[float]) -> list[Parameter]:
    """The ``rows`` of a constant orientation or cell, each once for every spindle angle of ``knots`` (degrees) in its
    place; as they are without knots.

    A restraint of the constant holds the mean of its knots.
    """
    if not knots:
        return list(rows)
    width = {"crystal.rotation": 3, "crystal.cell": 6}
    found = []
    for row in rows:
        restraint = None if row.restraint is None else row.restraint * math.sqrt(len(knots))
        for k, phi in enumerate(knots):
            entries = tuple(
                Entry(f"{e.tensor}_knots", k * width[e.tensor] + e.index, e.coefficient) for e in row.entries
            )
            follows = tuple(f._replace(name=at_knot(f.name, phi), stem=f.name) for f in row.follows)
            here = replace(row, name=at_knot(row.name, phi), knot=phi, follows=follows)
            found.append(replace(here, entries=entries, restraint=restraint))
    return found


def size_parameters(index: int, crystal: Crystal, settings: ParameterSettings) -> list[Parameter]:
    """N cells: one number each, or tied to one another in the proportion of the start ("size")."""
    start = crystal.n_cells.detach().tolist()
    groups = ((0,), (1,), (2,)) if settings.n_cells_tie == "independent" else ((0, 1, 2),)
    rows = []
    for group in groups:
        first = start[group[0]]
        entries = tuple(Entry("crystal.n_cells", i, start[i] / first) for i in group)
        rows.append(
            Parameter(
                f"crystal[{index}].n_{'abc'[group[0]]}",
                kinds.N_CELLS,
                "cells",
                first,
                0.5 * first,
                entries,
                index,
                lower=max(1.0, 0.02 * first),
                upper=50 * first,
                free=settings.n_cells,
                follows=tuple(
                    Follower(f"crystal[{index}].n_{'abc'[i]}", start[i] / first, start[i]) for i in group[1:]
                ),
            )
        )
    return rows


def spread_names(index: int) -> list[str]:
    """What the mosaic spread of crystal ``index`` may be called: one number, or three."""
    return [f"crystal[{index}].mosaic_spread{axis}" for axis in ("", "_a", "_b", "_c")]


def squared(row: Parameter, least: float) -> Parameter:
    """The parameter of the square of a spread, from that of the spread itself, which starts at ``least`` or above.

    An image is even in a spread: its derivative vanishes at 0, where that by the square does not.
    """
    start, kept = max(row.start, least), replace(row, squared=True)
    return replace(
        kept,
        start=start**2,
        span=kept.sigma_kept(start, row.span),
        lower=least**2,
        upper=row.upper**2,
        entries=tuple(replace(e, offset=e.offset + e.coefficient * (start - row.start)) for e in row.entries),
    )


def mosaic_parameters(index: int, crystal: Crystal, free: bool) -> list[Parameter]:
    """The mosaic spread, or its three numbers about a*, c × a* and c, where the crystal has more than one domain."""
    if crystal.config.mosaic.domains < 2:
        return []
    rows = []
    for i, start in enumerate(crystal.mosaic_spread.detach().reshape(-1).tolist()):
        name = spread_names(index)[1 + i if crystal.config.mosaic.anisotropic else 0]
        entry, span = (Entry("crystal.mosaic_spread", i),), max(0.5 * start, SPAN_SPREAD)
        row = Parameter(name, kinds.MOSAIC_SPREAD, "deg", start, span, entry, index, upper=10.0, free=free)
        rows.append(squared(row, LEAST_SPREAD))
    return rows


def scale_parameter(index: int, free: bool) -> Parameter:
    """The scale of all spots of one block, for amplitudes that are trusted."""
    entry = (Entry("scale", 0),)
    return Parameter(f"crystal[{index}].scale", kinds.SCALE, "", 1.0, 1.0, entry, index, lower=0.0, free=free)


def detector_parameters(detector: Detector, settings: ParameterSettings) -> list[Parameter]:
    """Three shifts and three rotations of every rigid body.

    Gauge: where groups of a lower level move too, theirs are restrained to small motions, so that a motion they have
    in common belongs to the group above.
    """
    rows = []
    panels = [frozenset(group.all_panels()) for group in detector.groups]
    for g, group in enumerate(detector.groups):
        deeper = any(panels[g] <= above for above in panels[:g])
        for word, tensor, of_axes, unit, span, free in (
            ("shift", "detector.shift", SHIFTS, "mm", SPAN_SHIFT, settings.detector_shift),
            ("rot", "detector.rotation", ROTATIONS, "deg", SPAN_TILT, settings.detector_rotation),
        ):
            for i, (axis, kind) in enumerate(zip(AXES, of_axes, strict=True)):
                entry = (Entry(tensor, 3 * g + i),)
                restraint = 0.1 * span if deeper else None
                name = f"detector.{group.name}.{word}_{axis}"
                rows.append(Parameter(name, kind, unit, 0.0, span, entry, free=free, restraint=restraint))
    return rows


def beam_parameters(beam: Beam, settings: ParameterSettings) -> list[Parameter]:
    """Tilts of the direction towards and across the polarization axis, wavelength, spectrum, and the Kahn factor."""
    if beam.config.sources:
        return []
    direction = np.array(beam.config.direction) / np.linalg.norm(beam.config.direction)
    across = np.cross(np.array(beam.config.polarization_axis), direction)
    across /= np.linalg.norm(across)
    along = np.cross(direction, across)
    rows = []
    for name, axis in (("along", along), ("across", across)):
        entries = tuple(Entry("beam.direction", i, math.radians(axis[i])) for i in range(3))
        free = settings.beam_direction
        rows.append(Parameter(f"beam.tilt_{name}", kinds.BEAM_TILT, "deg", 0.0, 0.5, entries, free=free))
    wavelength = beam.config.wavelength
    entry = (Entry("beam.wavelength", 0),)
    span, free = 0.01 * wavelength, settings.wavelength
    rows.append(Parameter("beam.wavelength", kinds.WAVELENGTH, "Å", wavelength, span, entry, free=free))
    rows += spectrum_parameters(beam, settings)
    if beam.polarized:
        entry = (Entry("beam.kahn_factor", 0, 2.0),)
        fraction = ((beam.config.kahn_factor or 0.0) + 1) / 2
        rows.append(
            Parameter(
                "beam.polarization_fraction",
                kinds.POLARIZATION,
                "",
                fraction,
                0.2,
                entry,
                lower=0,
                upper=1,
                free=settings.polarization,
            )
        )
    return rows


def spectrum_parameters(beam: Beam, settings: ParameterSettings) -> list[Parameter]:
    """What moves the spectrum about the wavelength: its offset, and its width as the rms of Δλ/λ in percent.

    The width scales every offset about their weighted mean, so that the mean wavelength stays.
    """
    offsets, weights = np.array(beam.config.spectrum).T
    wavelength = beam.config.wavelength
    entries = tuple(Entry("beam.spectrum", i) for i in range(len(offsets)))
    span = 0.01 * wavelength
    free = settings.spectrum_offset
    rows = [Parameter("beam.spectrum_offset", kinds.SPECTRUM_OFFSET, "Å", 0.0, span, entries, free=free)]
    about = offsets - np.average(offsets, weights=weights)
    width = 100 / wavelength * math.sqrt(np.average(about**2, weights=weights))
    if width > 0:
        entries = tuple(Entry("beam.spectrum", i, float(x) / width) for i, x in enumerate(about))
        span, free = 0.5 * width, settings.bandwidth
        row = Parameter("beam.bandwidth", kinds.BANDWIDTH, "%", width, span, entries, free=free)
        rows.append(squared(row, LEAST_BANDWIDTH))
    return rows
