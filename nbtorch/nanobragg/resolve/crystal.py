"""The crystal from a cell or a MOSFLM matrix, its size, mosaic domains and spindle (docs/physics.md §3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from nbtorch.config import CrystalConfig, Exposure, GoniometerConfig, Mat3, MosaicConfig, Vec3
from nbtorch.errors import ConfigError, GeometryError
from nbtorch.functional import cell as cells
from nbtorch.functional import random
from nbtorch.nanobragg.resolve.beam import DEFAULT_BEAM_SIZE
from nbtorch.nanobragg.resolve.notes import Note, choice, conflict
from nbtorch.nanobragg.resolve.stated import Stated
from nbtorch.nanobragg.resolve.steps import Steps, spindle_steps
from nbtorch.units import DEGREES

Cell = tuple[float, float, float, float, float, float]
DEFAULT_MOSAIC_SEED = -12345678
DEFAULT_DOMAINS = 10
MAX_DOMAINS = 10**6
_ANGSTROM_PER_MM = 1e7


@dataclass(frozen=True)
class Lattice:
    """A cell (Å, degrees), its orientation U, and whether it came from a matrix file."""

    cell: Cell
    orientation: Mat3
    from_matrix: bool


def matrix_lattice(matrix: Mat3, wavelength: float) -> Lattice:
    """Cell and orientation of a MOSFLM A ``matrix`` (columns a*, b*, c*, times the wavelength).

    Raises GeometryError when its columns are not independent.
    """
    stars = torch.tensor(matrix, dtype=torch.float64).T / wavelength
    lengths = stars.norm(dim=-1)
    if not bool(torch.isfinite(stars).all()) or float(torch.linalg.det(stars).abs()) < 1e-9 * float(lengths.prod()):
        raise GeometryError("the -mat matrix", "its columns a*, b*, c* are not independent", "Check the file")
    cell = cells.cell_of(cells.dual(stars))
    # U·B = A with the stars as columns, so in rows: stars = B·Uᵀ
    turn = torch.linalg.solve(cells.exact_vectors(cell)[1], stars).T
    if float(torch.linalg.det(turn)) < 0:
        raise GeometryError("the -mat matrix", "it is left-handed", "Swap two columns or change a sign")
    degrees = [float(x) for x in cell]
    degrees[3:] = [angle / DEGREES for angle in degrees[3:]]
    a, b, c, alpha, beta, gamma = degrees
    return Lattice((a, b, c, alpha, beta, gamma), _rows(turn.numpy()), True)


def _rows(matrix: np.ndarray) -> Mat3:
    x, y, z = ((float(row[0]), float(row[1]), float(row[2])) for row in matrix)
    return x, y, z


def resolve_lattice(stated: Stated, matrix: Mat3 | None, wavelength: float) -> tuple[Lattice, list[Note]]:
    """The cell as given, or as the matrix implies. Raises ConfigError when there is neither."""
    if matrix is not None:
        notes = [conflict("-mat gives the cell: -cell is not used")] if stated.cell is not None else []
        return matrix_lattice(matrix, wavelength), notes
    if stated.cell is None:
        raise ConfigError("the crystal", "it has no unit cell", "Give -cell or -mat")
    return Lattice(stated.cell, ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), False), []


def simulated_cell(config: CrystalConfig) -> Cell:
    """The cell (Å, degrees) really simulated: nanoBragg's construction changes the angles of a triclinic one."""
    cell = torch.tensor([*config.cell[:3], *(angle * DEGREES for angle in config.cell[3:])], dtype=torch.float64)
    direct, _ = cells.CONSTRUCTIONS[config.construction](cell)
    a, b, c, alpha, beta, gamma = (float(x) for x in cells.cell_of(direct))
    return a, b, c, alpha / DEGREES, beta / DEGREES, gamma / DEGREES


def resolve_misset(stated: Stated, seed: int) -> tuple[Vec3, list[Note]]:
    """Angles about lab x, y, z (degrees); a random orientation is reported as the same three angles."""
    if stated.misset != "random":
        return stated.misset or (0.0, 0.0, 0.0), []
    seed = seed if stated.misset_seed is None else stated.misset_seed
    angles = random.misset_angles(random.random_rotation(seed))
    return angles, [choice(f"random misset {angles[0]:.6f} {angles[1]:.6f} {angles[2]:.6f} deg, seed {seed}")]


def resolve_size(stated: Stated, cell: Cell) -> tuple[Vec3, list[Note]]:
    """Unit cells along a, b, c, each at least 1: from the size in mm, with y and z clipped to the beam, or as given."""
    beam = DEFAULT_BEAM_SIZE if stated.beam_size is None else stated.beam_size
    counts, notes = [], []
    sizes = (stated.sample_x, stated.sample_y, stated.sample_z)
    given = (stated.n_a, stated.n_b, stated.n_c)
    for axis, size, count, edge in zip("xyz", sizes, given, cell[:3], strict=True):
        if not size or size < 0:
            counts.append(1.0 if count is None else max(count, 1.0))
            continue
        if count is not None:
            notes.append(conflict(f"the sample size in mm along {axis} replaces the number of unit cells"))
        if axis != "x" and 0 <= beam < size:
            notes.append(conflict(f"the sample is larger than the beam along {axis}: clipped to {beam:g} mm"))
            size = beam
        counts.append(max(float(math.ceil(size * _ANGSTROM_PER_MM / edge)), 1.0))
    return (counts[0], counts[1], counts[2]), notes


def resolve_mosaic(stated: Stated) -> tuple[MosaicConfig, list[Note]]:
    """Spread and domains: a spread without a count gives ten, a count without a spread gives one."""
    spread, count = stated.mosaic_spread or 0.0, stated.mosaic_domains
    seed = DEFAULT_MOSAIC_SEED if stated.mosaic_seed is None else stated.mosaic_seed
    if spread <= 0:
        notes = [conflict("-mosaic_domains without a -mosaic spread: one domain")] if (count or 0) > 1 else []
        return MosaicConfig(0.0, 1, "nanobragg", seed), notes
    if count == 1:  # the first domain is never turned
        return MosaicConfig(0.0, 1, "nanobragg", seed), [conflict("one mosaic domain: -mosaic has no effect")]
    notes = []
    if count is None or count <= 0:
        count, notes = DEFAULT_DOMAINS, [choice(f"{DEFAULT_DOMAINS} mosaic domains")]
    if count > MAX_DOMAINS:
        raise ConfigError(f"-mosaic_domains {count}", f"at most {MAX_DOMAINS} are possible", "Take fewer")
    return MosaicConfig(spread, count, "nanobragg", seed), notes


def crystal_config(stated: Stated, lattice: Lattice, spindle: Vec3, seed: int) -> tuple[CrystalConfig, list[Note]]:
    """The crystal; ``seed`` is the one that -misset random falls back to."""
    misset, misset_notes = resolve_misset(stated, seed)
    n_cells, size_notes = resolve_size(stated, lattice.cell)
    mosaic, mosaic_notes = resolve_mosaic(stated)
    config = CrystalConfig(
        cell=lattice.cell,
        orientation=lattice.orientation,
        misset=misset,
        n_cells=n_cells,
        shape=stated.shape or "square",
        fudge=1.0 if stated.fudge is None else stated.fudge,
        mosaic=mosaic,
        goniometer=GoniometerConfig(axis=spindle),
        construction="exact" if lattice.from_matrix or stated.exact_cell else "nanobragg",
    )
    return config, [*misset_notes, *size_notes, *mosaic_notes]


def resolve_exposure(stated: Stated) -> tuple[Exposure, Steps, list[Note]]:
    """The spindle steps as simulated, and the count, range and step (degrees) as resolved."""
    steps = spindle_steps(stated.phi_steps, stated.osc, stated.phi_step)
    exposure = Exposure(
        phi_start=stated.phi or 0.0,
        oscillation=steps.points * steps.step,
        steps=steps.points,
        sampling="midpoint" if stated.phi_midpoint else "left",
        reuse_stale_at_zero=stated.compat == "nanobragg",
    )
    chosen = stated.phi_steps is None and steps.points > 1
    return exposure, steps, [choice(f"{steps.points} spindle steps of {steps.step:g} deg")] if chosen else []
