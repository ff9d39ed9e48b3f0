"""The lines that the command prints: geometry, sampling, statistics."""

from __future__ import annotations

from collections.abc import Iterable

from nbtorch.nanobragg.cli.outputs import Statistics
from nbtorch.nanobragg.resolve import Resolved
from nbtorch.nanobragg.resolve.crystal import simulated_cell


def _g(values: Iterable[float]) -> str:
    return " ".join(f"{value + 0.0:g}" for value in values)


def crystal_lines(resolved: Resolved, reflections: int) -> list[str]:
    """Cell, orientation, size and structure factors."""
    crystal = resolved.crystal
    cell = simulated_cell(crystal)
    widths = (n * edge * 1e-7 for n, edge in zip(crystal.n_cells, cell[:3], strict=True))
    table = f"{reflections} reflections" if reflections else "none"
    return [
        f"unit cell: {_g(cell)}",
        f"misset: {_g(crystal.misset)} deg about x, y, z",
        f"crystal: {_g(crystal.n_cells)} cells, {_g(widths)} mm, shape {crystal.shape}, fudge {crystal.fudge:g}",
        f"structure factors: {table}, default_F = {resolved.default_F:g}",
        f"mosaic: {crystal.mosaic.domains} domains, spread {crystal.mosaic.spread:g} deg, seed {crystal.mosaic.seed}",
        f"spindle: axis {_g(crystal.goniometer.axis)}, phi {resolved.exposure.phi_start:g}, "
        f"osc {resolved.spindle.range:g} deg, {resolved.spindle.points} steps of {resolved.spindle.step:g}",
    ]


def beam_lines(resolved: Resolved) -> list[str]:
    """Wavelength, sources, polarization and fluence."""
    beam = resolved.beam
    polarization = "off" if beam.kahn_factor is None else f"Kahn factor {beam.kahn_factor:g}"
    return [
        f"lambda: {beam.wavelength:g} A, beam along {_g(beam.direction)}",
        f"sources: {len(beam.sources)}",
        f"polarization: {polarization}, E vector {_g(beam.polarization_axis)}",
        f"fluence: {beam.fluence:g} photons/m^2",
    ]


def detector_lines(resolved: Resolved) -> list[str]:
    """Size, placement and sensor; lengths in mm."""
    place, detector = resolved.placement, resolved.detector
    panel = detector.panels[0]
    return [
        f"detector: {place.pixels[0]} x {place.pixels[1]} pixels (fast x slow) of {place.pixel:g} mm",
        f"convention: {resolved.convention}, pivot {place.pivot}",
        f"distance: {place.distance:g} mm, close_distance: {place.close_distance:g} mm",
        f"Xbeam = {place.x_beam:g} Ybeam = {place.y_beam:g} mm, "
        f"Fbeam = {place.fast_beam:g} Sbeam = {place.slow_beam:g} mm",
        f"Fclose = {place.fast_close:g} Sclose = {place.slow_close:g} mm, "
        f"ORGX = {place.org_x:g} ORGY = {place.org_y:g} pixels",
        f"DIRECTION_OF_DETECTOR_X-AXIS= {_g(place.fast)}",
        f"DIRECTION_OF_DETECTOR_Y-AXIS= {_g(place.slow)}",
        f"detector normal: {_g(place.normal)}",
        f"pix0: {_g(place.pix0)} mm, DIALS origin: {_g(place.dials_origin)} mm",
        f"sensor: {panel.thickness:g} mm in {detector.layers} layers, "
        f"attenuation depth {panel.attenuation_length:g} mm",
    ]


def sampling_lines(resolved: Resolved) -> list[str]:
    """What one pixel costs."""
    render, crystal = resolved.render, resolved.crystal
    steps = (
        len(resolved.beam.sources) * crystal.mosaic.domains * resolved.spindle.points * (render.oversample or 1) ** 2
    )
    return [
        f"sampling: {len(resolved.beam.sources)} sources, {crystal.mosaic.domains} mosaic domains, "
        f"{resolved.spindle.points} phi steps, {render.oversample}x{render.oversample} pixel oversample: {steps} steps",
        f"interpolation: {render.interpolation}, corrections: {render.mode}, dmin {render.dmin:g} A, "
        f"water {render.water:g} mm",
        f"roi: {' '.join(map(str, resolved.roi))}",
    ]


def statistics_lines(stats: Statistics, omega: float) -> list[str]:
    """What the image holds; ``omega`` (sr) is the solid angle of the rendered pixels."""
    return [
        f"solid angle subtended by detector = {omega:g} steradian ( {100 * omega / 12.566370614359172:g}% sphere)",
        f"max_I = {stats.maximum:g}  at {stats.fast} {stats.slow} (fast, slow)",
        f"mean= {stats.mean:g} rms= {stats.rms:g} rmsd= {stats.rmsd:g}",
    ]


def report(resolved: Resolved, reflections: int) -> list[str]:
    """Everything that is known before rendering, notes first."""
    return [
        *map(str, resolved.notes),
        *crystal_lines(resolved, reflections),
        *beam_lines(resolved),
        *detector_lines(resolved),
        *sampling_lines(resolved),
    ]
