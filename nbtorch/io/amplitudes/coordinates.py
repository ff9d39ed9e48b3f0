"""Amplitudes calculated from coordinates (PDB, mmCIF, small-molecule CIF), without bulk solvent.

The form factors are those of the radiation: X-rays (gemmi's IT92) or electrons (gemmi's C4322, after Peng 1996 and
International Tables C 4.3.2.2).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nbtorch.errors import DataError, FileError
from nbtorch.io.amplitudes.symmetry import check_range
from nbtorch.io.amplitudes.types import Merged, Radiation
from nbtorch.io.paths import one_line, read_bytes

if TYPE_CHECKING:
    import gemmi

#: Resolution of calculated amplitudes when none is asked for, Å.
DEFAULT_DMIN = 1.5
#: Grid points of the density for each half resolution.
OVERSAMPLING = 1.5
MAX_B = 1000.0  # Å²
_OLD_TAIL = re.compile(r"[0-9A-Z]{4} *\d+")


def read_pdb(path: Path, dmin: float, radiation: Radiation) -> Merged:
    """Amplitudes to ``dmin`` (Å) of a PDB file. Raises FileError where it holds no atoms, cell or known space group."""
    import gemmi

    try:
        structure = gemmi.read_pdb_string(_modern(read_bytes(path).decode("latin-1")))
    except (RuntimeError, ValueError) as error:
        raise FileError(str(path), f"it is not PDB ({one_line(error)})", "Check the file") from error
    return _macromolecule(structure, path, dmin, radiation)


def _modern(text: str) -> str:
    """``text`` without the entry code and line number that files before 1998 hold in columns 73–80 of every line."""
    atoms = [line for line in text.splitlines() if line.startswith(("ATOM", "HETATM"))]
    old = bool(atoms) and all(_OLD_TAIL.fullmatch(line[72:80]) for line in atoms)
    return "\n".join(line[:72] for line in text.splitlines()) + "\n" if old else text


def read_coordinate_cif(document: gemmi.cif.Document, path: Path, dmin: float, radiation: Radiation) -> Merged:
    """Amplitudes to ``dmin`` (Å) of the coordinates in a CIF document."""
    import gemmi

    for block in document:
        if block.find_loop("_atom_site.Cartn_x"):
            return _macromolecule(gemmi.make_structure_from_block(block), path, dmin, radiation)
        if block.find_loop("_atom_site_fract_x"):
            return _small_molecule(gemmi.make_small_structure_from_block(block), path, dmin, radiation)
    raise FileError(str(path), "it holds neither reflections nor coordinates", "Give a CIF with one of them")


def _macromolecule(structure: gemmi.Structure, path: Path, dmin: float, radiation: Radiation) -> Merged:
    """FFT of a Gaussian-sum density, blurred so that its grid (dmin / 3) samples the sharpest atom."""
    import gemmi

    structure.setup_entities()
    group = structure.find_spacegroup()
    _refuse_incomplete(len(structure) > 0 and structure[0].count_atom_sites() > 0, structure.cell, group, path)
    _check_resolution(structure.cell, dmin, path)
    _check_displacements(structure[0], path)
    electrons = radiation == "electron"
    calculator = gemmi.DensityCalculatorE() if electrons else gemmi.DensityCalculatorX()
    calculator.d_min = dmin
    calculator.rate = OVERSAMPLING
    calculator.set_refmac_compatible_blur(structure[0])
    calculator.grid.setup_from(structure)
    calculator.put_model_density_on_grid(structure[0])
    grid = gemmi.transform_map_to_f_phi(calculator.grid, half_l=True)
    data = grid.prepare_asu_data(dmin=dmin, mott_bethe=False, unblur=calculator.blur)
    hkl = np.array(data.miller_array, dtype=np.int64)
    return _merged(
        hkl, np.abs(np.array(data.value_array)).astype(np.float64), structure.cell, group, path, _note(dmin, radiation)
    )


def _small_molecule(structure: gemmi.SmallStructure, path: Path, dmin: float, radiation: Radiation) -> Merged:
    """Direct summation over the sites, with the anisotropic displacements the file states."""
    import gemmi

    group = structure.spacegroup
    _refuse_incomplete(len(structure.sites) > 0, structure.cell, group, path)
    _check_resolution(structure.cell, dmin, path)
    structure.change_occupancies_to_crystallographic()  # or an atom on an axis would count once for each of its images
    electrons = radiation == "electron"
    maker = gemmi.StructureFactorCalculatorE if electrons else gemmi.StructureFactorCalculatorX
    calculator = maker(structure.cell)
    hkl = np.array(gemmi.make_miller_array(structure.cell, group, dmin), dtype=np.int64)
    factors = [abs(calculator.calculate_sf_from_small_structure(structure, triple)) for triple in hkl.tolist()]
    return _merged(hkl, np.array(factors, dtype=np.float64), structure.cell, group, path, _note(dmin, radiation))


def _merged(
    hkl: np.ndarray, values: np.ndarray, cell: gemmi.UnitCell, group: gemmi.SpaceGroup, path: Path, note: str
) -> Merged:
    if not np.isfinite(values).all():
        raise DataError(str(path), "an atom gives a structure factor that is not finite", "Check its coordinates")
    a, b, c, alpha, beta, gamma = cell.parameters
    return Merged(hkl, values, None, group.xhm(), (a, b, c, alpha, beta, gamma), (note,))


def _note(dmin: float, radiation: Radiation) -> str:
    factors = "electron scattering factors" if radiation == "electron" else "X-ray form factors"
    return f"amplitudes calculated from coordinates to {dmin:g} Å with {factors}, without bulk solvent"


def _refuse_incomplete(has_atoms: bool, cell: gemmi.UnitCell, group: gemmi.SpaceGroup | None, path: Path) -> None:
    for present, what in (
        (has_atoms, "atom"),
        (_is_cell(cell), "possible unit cell"),
        (group is not None, "known space group"),
    ):
        if not present:
            raise FileError(str(path), f"these coordinates have no {what}", "Complete the file")


def _is_cell(cell: gemmi.UnitCell) -> bool:
    """Whether a cell could hold atoms: gemmi's grids loop forever over a length of zero."""
    if not cell.is_crystal() or not np.isfinite(cell.parameters).all() or min(cell.a, cell.b, cell.c) < 1:
        return False
    return bool(cell.volume > 1e-2 * cell.a * cell.b * cell.c)


def _check_resolution(cell: gemmi.UnitCell, dmin: float, path: Path) -> None:
    if not dmin > 0:
        raise DataError(f"dmin={dmin:g} Å", "a resolution is more than zero", "Change dmin")
    # The density has 2·OVERSAMPLING points a resolution and axis, an index range 2 a resolution.
    reach = [int(OVERSAMPLING * length / dmin) for length in (cell.a, cell.b, cell.c)]
    check_range(np.array([reach], dtype=np.int64), path)


def _check_displacements(model: gemmi.Model, path: Path) -> None:
    """Raises DataError for a B that would spread an atom over the whole cell, and its density over minutes."""
    for site in model.all():
        if not 0 <= site.atom.b_iso <= MAX_B:
            raise DataError(
                f"{path}, atom {site.atom.name} of {site.residue}",
                f"its B factor is {site.atom.b_iso:g} Å², not in 0 … {MAX_B:g}",
                "Correct it",
            )
