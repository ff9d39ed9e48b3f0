"""The beam as explicit point sources, its polarization and fluence (docs/physics.md §4)."""

from __future__ import annotations

import math

from nbtorch.config import BeamConfig, SourceConfig, Vec3
from nbtorch.errors import ConfigError
from nbtorch.nanobragg.resolve.axes import Axes
from nbtorch.nanobragg.resolve.notes import Note, conflict
from nbtorch.nanobragg.resolve.stated import ReadSources, Stated
from nbtorch.nanobragg.resolve.steps import Steps, beam_steps
from nbtorch.nanobragg.resolve.vectors import cross, length, rotate, scale, unit
from nbtorch.units import METRES_PER_MM, MILLIRADIANS

DEFAULT_FLUENCE = 125932015286227086360700780544.0  # photons/m²
DEFAULT_BEAM_SIZE = 0.1  # mm
ELLIPSE_EDGE = 1.1  # nanoBragg: a point at 1.1 of the squared half-axis still counts
MAX_SOURCES = 10**6
_PERCENT = 0.01


def _milliradians(value: float | None) -> float | None:
    return None if value is None else value * MILLIRADIANS


def divergence_steps(stated: Stated) -> tuple[Steps, Steps]:
    """Horizontal and vertical points, radians."""
    return (
        beam_steps(stated.hdiv_steps, _milliradians(stated.hdiv_range), _milliradians(stated.hdiv_step)),
        beam_steps(stated.vdiv_steps, _milliradians(stated.vdiv_range), _milliradians(stated.vdiv_step)),
    )


def dispersion_steps(stated: Stated) -> Steps:
    """Wavelengths, as fractions of the central one.

    nanoBragg: the range begins as 0, not as "not given", so that a count without a range is one wavelength.
    """
    return beam_steps(stated.dispersion_steps, (stated.dispersion or 0.0) * _PERCENT, None)


def _ellipse_term(angle: float, steps: Steps) -> float:
    """One axis of the elliptical cut. An even count has no point on the axis: half a step is discounted."""
    if steps.range <= 0:
        return 0.0
    discount = steps.step**2 / 4 if steps.points % 2 == 0 else 0.0
    return (angle**2 - discount) / steps.range**2


def generated_sources(
    stated: Stated, axes: Axes, wavelength: float, spread: tuple[Steps, Steps, Steps]
) -> tuple[SourceConfig, ...]:
    """Sources in nanoBragg's order: horizontal divergence (outermost), vertical, wavelength (innermost)."""
    horizontal, vertical, spectrum = spread
    if horizontal.points * vertical.points * spectrum.points > MAX_SOURCES:
        raise ConfigError(
            "divergence and dispersion", f"they ask for more than {MAX_SOURCES} sources", "Take fewer steps"
        )
    upright = unit(cross(axes.beam, axes.polarization), "a -polar_vector along the beam")
    sources = []
    for i in range(horizontal.points):
        for j in range(vertical.points):
            h, v = i * horizontal.step - horizontal.range / 2, j * vertical.step - vertical.range / 2
            outside = 4 * (_ellipse_term(h, horizontal) + _ellipse_term(v, vertical)) > ELLIPSE_EDGE
            if outside and stated.round_divergence is not False:
                continue
            direction = rotate(scale(axes.beam, -1.0), axes.polarization, math.degrees(v))
            direction = rotate(direction, upright, math.degrees(h))
            for k in range(spectrum.points):
                factor = 1 + k * spectrum.step - spectrum.range / 2
                sources.append(SourceConfig(direction, wavelength * factor))
    if not sources:
        raise ConfigError("the divergence", "the round cut leaves no source", "Use -square_div or other steps")
    return tuple(sources)


def file_sources(listed: tuple[SourceConfig, ...]) -> tuple[tuple[SourceConfig, ...], list[Note]]:
    """The sources of a file, all of weight 1. nanoBragg reads the weights and ignores them."""
    sources = tuple(SourceConfig(source.direction, source.wavelength) for source in listed)
    uneven = len({source.weight for source in listed}) > 1
    return sources, [conflict("the weights in -sourcefile are ignored: all sources count alike")] if uneven else []


def fluence(stated: Stated) -> tuple[float, list[Note]]:
    """Photons per m²: flux · exposure / beam size² when a flux is given."""
    given = DEFAULT_FLUENCE if stated.fluence is None else stated.fluence
    if not stated.flux:
        return given, []
    size = (DEFAULT_BEAM_SIZE if stated.beam_size is None else stated.beam_size) * METRES_PER_MM
    time = 1.0 if stated.exposure is None else stated.exposure
    if size <= 0 or time <= 0:
        raise ConfigError("-flux", "it needs an exposure and a beam size above zero", "Change -exposure or -beamsize")
    notes = [conflict("-flux replaces -fluence")] if stated.fluence is not None else []
    return stated.flux * time / size**2, notes


def _polarization_axis(axis: Vec3, sources: tuple[SourceConfig, ...], matters: bool) -> Vec3:
    """``axis``; an unpolarized beam may also travel along it, and any other vector then says the same."""
    along = any(length(cross(axis, unit(source.direction))) < 1e-6 for source in sources)
    return axis if matters or not along else unit((0.31, 0.52, 0.79))


def beam_config(stated: Stated, axes: Axes, read_sources: ReadSources | None) -> tuple[BeamConfig, list[Note]]:
    """The beam with every source explicit. Raises ConfigError for a wavelength or polarization out of range."""
    wavelength = 1.0 if stated.wavelength is None else stated.wavelength
    if wavelength <= 0:
        raise ConfigError(f"wavelength {wavelength:g}", "it must be more than zero", "Change -lambda or -energy")
    spread = (*divergence_steps(stated), dispersion_steps(stated))
    notes: list[Note] = []
    if read_sources is not None:
        sources, notes = file_sources(read_sources(axes.beam, wavelength))
        if any(steps.points > 1 for steps in spread):
            notes.append(conflict("-sourcefile lists the sources: divergence and dispersion flags are not used"))
    else:
        sources = generated_sources(stated, axes, wavelength, spread)
        if (stated.dispersion_steps or 0) > 1 and not stated.dispersion:
            notes.append(conflict("-dispsteps without -dispersion: one wavelength"))
    if any(source.wavelength <= 0 for source in sources):
        raise ConfigError("the dispersion", "a source would have a wavelength of zero or less", "Narrow it")
    photons, fluence_notes = fluence(stated)
    if stated.nopolar and stated.polar is not None:
        notes.append(conflict("-nopolar: -polar is not used"))
    config = BeamConfig(
        wavelength=wavelength,
        direction=axes.beam,
        polarization_axis=_polarization_axis(axes.polarization, sources, bool(stated.polar) and not stated.nopolar),
        kahn_factor=None if stated.nopolar else (stated.polar or 0.0),
        fluence=photons,
        sources=sources,
    )
    return config, notes + fluence_notes
