"""Prints the Terms of one pixel, in nanoBragg's order, names and units (docs/physics.md §6)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nbtorch.functional import lattice
from nbtorch.kernels import reference
from nbtorch.render.samples import Terms
from nbtorch.units import CLASSICAL_ELECTRON_RADIUS_SQUARED, METRES_PER_ANGSTROM, METRES_PER_MM

PREFIX = "TRACE_PY:"
Entry = tuple[str, list[float]]


@dataclass(frozen=True)
class TraceSettings:
    """What the trace must know besides the Terms. ``shape`` and the three ``running_*`` are the renderer's.

    ``own_weights``: every sample has its own corrections (mode "exact"), so that none is cached.
    ``mosaic_domains`` splits an orientation's index into spindle step and domain.
    """

    shape: str = "square"
    running_thick: bool = False
    running_polar: bool = False
    running_omega: bool = False
    own_weights: bool = False
    mosaic_domains: int = 1


def entries(terms: Terms, settings: TraceSettings) -> list[Entry]:
    """(name, values) of every line: each sample that dmin keeps, at source 0 and orientation 0, then the totals."""
    kept = terms.lattice.kept[:, 0].nonzero()[:, 0].tolist()
    lines: list[Entry] = []
    for sample in kept:
        lines += _geometry(terms, settings, sample)
        lines += _scattering(terms, settings, sample)
    return lines + _totals(terms, settings)


def all_entries(terms: Terms, settings: TraceSettings) -> Iterator[Entry]:
    """(name[sample,source,phi,mosaic], values) for every sample and source that dmin keeps, step and mosaic domain."""
    samples, sources, orientations = terms.lattice.lattice_factor.shape
    per_term = reference.lattice_intensities(terms.lattice)
    kept = terms.lattice.kept.tolist()
    for sample in range(samples):
        for source in range(sources):
            for orientation in range(orientations if kept[sample][source] else 0):
                step, domain = divmod(orientation, settings.mosaic_domains)
                index = f"[{sample},{source},{step},{domain}]"
                for name, values in (
                    *_orientation(terms, settings, sample, source, orientation),
                    ("I_term", per_term[sample, source, orientation]),
                ):
                    yield name + index, _numbers(values)


def formatted(lines: Iterable[Entry], prefix: str = PREFIX) -> Iterator[str]:
    """One text line an entry: the prefix, the name and its values with 15 significant digits."""
    for name, values in lines:
        yield " ".join((prefix, name, *(f"{value:.15g}" for value in values)))


def _numbers(value: Tensor | float) -> list[float]:
    if isinstance(value, Tensor):
        return [float(x) for x in value.detach().reshape(-1).cpu()]
    return [float(value)]


def _named(**values: Tensor | float) -> list[Entry]:
    return [(name, _numbers(value)) for name, value in values.items()]


def _geometry(terms: Terms, settings: TraceSettings, sample: int) -> list[Entry]:
    """Where the sample lies and how the beam gets there; the solid angle is the cached one, as in the original."""
    rays = terms.rays
    own = settings.running_omega or settings.own_weights
    fast, slow, _, origin = terms.frame
    return _named(
        pix0_vector_meters=origin * METRES_PER_MM,
        fdet_vec=fast,
        sdet_vec=slow,
        pixel_pos_meters=rays.position[sample] * METRES_PER_MM,
        R_distance_meters=rays.airpath[sample] * METRES_PER_MM,
        omega_pixel_sr=rays.solid_angle[sample if own else 0],
        close_distance_meters=rays.close_distance[sample] * METRES_PER_MM,
        obliquity_factor=rays.close_distance[sample] / rays.airpath[sample],
        diffracted_vec=rays.diffracted[sample],
    )


def _scattering(terms: Terms, settings: TraceSettings, sample: int) -> list[Entry]:
    """Everything about source 0 and orientation 0."""
    return [(name, _numbers(value)) for name, value in _orientation(terms, settings, sample, 0, 0)]


def _orientation(
    terms: Terms, settings: TraceSettings, sample: int, source: int, orientation: int
) -> list[tuple[str, Tensor]]:
    """From the incident ray to F_cell. nanoBragg calls q in m⁻¹ "A_inv"; direct vectors are rotated, stars are not."""
    a, b, c = terms.basis[orientation]
    a_star, b_star, c_star = terms.reciprocal
    wavelength = terms.wavelength[source]
    nearest = terms.lattice.nearest[sample, source, orientation]
    along_a, along_b, along_c = _axis_factors(terms, settings, sample, source, orientation)
    return [
        ("incident_vec", terms.incident[source]),
        ("lambda_meters", wavelength * METRES_PER_ANGSTROM),
        ("lambda_angstroms", wavelength),
        ("scattering_vec_A_inv", terms.lattice.scattering[sample, source] / METRES_PER_ANGSTROM),
        ("rot_a_angstroms", a),
        ("rot_b_angstroms", b),
        ("rot_c_angstroms", c),
        ("rot_a_star_A_inv", a_star),
        ("rot_b_star_A_inv", b_star),
        ("rot_c_star_A_inv", c_star),
        ("hkl_frac", terms.lattice.hkl[sample, source, orientation]),
        ("hkl_rounded", nearest + 0.0),  # no negative zero
        ("F_latt_a", along_a),
        ("F_latt_b", along_b),
        ("F_latt_c", along_c),
        ("F_latt", _signed_lattice_factor(terms, settings, sample, source, orientation)),
        ("F_cell", terms.lattice.cell_factor[sample, source, orientation]),
    ]


def _axis_factors(terms: Terms, settings: TraceSettings, sample: int, source: int, orientation: int) -> Tensor:
    """sin(πNx)/sin(πx) [3] with the sign that x itself has: the sum uses x − x₀, which may lose it, then squares it.

    1 for a shape that is no product over the axes.
    """
    nearest = terms.lattice.nearest[sample, source, orientation]
    if settings.shape != "square":
        return torch.ones_like(nearest)
    offset = terms.lattice.hkl[sample, source, orientation] - nearest
    whole = terms.n_cells == terms.n_cells.round()
    odd = ((terms.n_cells - 1) * nearest % 2 != 0) & whole & (terms.n_cells > 1)
    return lattice.interference(offset, terms.n_cells) * torch.where(odd, -1, 1)


def _signed_lattice_factor(terms: Terms, settings: TraceSettings, sample: int, source: int, orientation: int) -> Tensor:
    summed = terms.lattice.lattice_factor[sample, source, orientation]
    if settings.shape != "square":
        return summed
    sign = _axis_factors(terms, settings, sample, source, orientation).prod().sign()
    return torch.copysign(summed, sign)


def _totals(terms: Terms, settings: TraceSettings) -> list[Entry]:
    """From the sum to the pixel. A correction that is not cached is shown as the last kept sample has it."""
    rays, kept = terms.rays, terms.lattice.kept.nonzero()
    last, source = kept[-1].tolist() if len(kept) else (len(rays.airpath) - 1, -1)
    own = settings.own_weights
    return _named(
        I_before_scaling=terms.intensity,
        r_e_meters=math.sqrt(CLASSICAL_ELECTRON_RADIUS_SQUARED),
        r_e_sqr=CLASSICAL_ELECTRON_RADIUS_SQUARED,
        fluence_photons_per_m2=terms.fluence,
        steps=terms.steps,
        oversample_thick=settings.running_thick,
        oversample_polar=settings.running_polar,
        oversample_omega=settings.running_omega,
        capture_fraction=rays.capture[last] if own or settings.running_thick else terms.capture,
        polar=rays.polarization[last, source] if own or settings.running_polar else terms.polarization,
        omega_pixel=rays.solid_angle[last] if own or settings.running_omega else terms.solid_angle,
        cos_2theta=(rays.diffracted[last] * terms.incident[source]).sum(),
        I_pixel_final=terms.photons,
        floatimage_accumulated=terms.photons.to(torch.float32),
    )
