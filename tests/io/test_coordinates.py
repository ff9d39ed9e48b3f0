"""Amplitudes from CIF reflections and from coordinates."""

from __future__ import annotations

from pathlib import Path

import gemmi
import numpy as np
import pytest

from nbtorch.errors import DataError, FileError
from nbtorch.io import Amplitudes, read_amplitudes

CELL = (40.0, 40.0, 60.0, 90.0, 90.0, 90.0)


def as_table(amplitudes: Amplitudes) -> dict[tuple[int, int, int], float]:
    return {(h, k, l): f for (h, k, l), f in zip(amplitudes.hkl.tolist(), amplitudes.F.tolist(), strict=True)}  # noqa: E741


MMCIF = """data_r1abcsf
_entry.id 1abc
_cell.length_a 40
_cell.length_b 40
_cell.length_c 60
_cell.angle_alpha 90
_cell.angle_beta 90
_cell.angle_gamma 90
_symmetry.space_group_name_H-M 'P 43 21 2'
loop_
_refln.index_h
_refln.index_k
_refln.index_l
{columns}
"""


@pytest.mark.parametrize(
    ("columns", "plus", "minus"),
    [
        ("_refln.F_meas_au\n_refln.F_meas_sigma_au\n1 2 3 10 1\n1 2 4 20 1", 10, 10),
        (
            "_refln.pdbx_F_plus\n_refln.pdbx_F_minus\n1 2 3 10 12",
            10,
            12,
        ),
        ("_refln.intensity_meas\n_refln.intensity_sigma\n1 2 3 144 1\n1 2 4 100 1", 12, 12),
    ],
    ids=["amplitudes", "Friedel pairs", "intensities"],
)
def test_mmcif_reflections_are_read_like_mtz(tmp_path: Path, columns: str, plus: float, minus: float) -> None:
    (tmp_path / "r.cif").write_text(MMCIF.format(columns=columns))
    read = read_amplitudes(tmp_path / "r.cif")
    assert as_table(read)[1, 2, 3] == pytest.approx(plus)
    assert as_table(read)[-1, -2, -3] == pytest.approx(minus)
    assert (read.space_group, read.cell) == ("P 43 21 2", CELL)


def test_cif_that_is_broken_or_holds_nothing_useful_is_refused(tmp_path: Path) -> None:
    for name, text, words in (
        ("a.cif", "data_x\nloop_\n_a\n_b\n1 2 3\n", r"a\.cif.*not CIF"),
        ("b.cif", "data_x\n_cell.length_a 3\n", "neither reflections nor coordinates"),
        ("c.cif", MMCIF.format(columns="_refln.status\n1 2 3 o"), r"c\.cif"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises((FileError, DataError), match=words):
            read_amplitudes(tmp_path / name)


PDB = """CRYST1   20.000   22.000   24.000  90.00  90.00  90.00 P 21 21 21
ATOM      1  CA  GLY A   1       3.000   4.000   5.000  1.00 10.00           C
ATOM      2  O   GLY A   1       7.500   1.250   9.000  1.00 15.00           O
ATOM      3  S   CYS A   2      12.300   9.400   2.100  0.50 12.00           S
END
"""


def test_coordinates_give_the_amplitudes_of_a_direct_sum(tmp_path: Path) -> None:
    (tmp_path / "m.pdb").write_text(PDB)
    read = read_amplitudes(tmp_path / "m.pdb", dmin=2.0)
    structure = gemmi.read_pdb_string(PDB)
    exact = gemmi.StructureFactorCalculatorX(structure.cell)
    table = as_table(read)
    wanted = {hkl: abs(exact.calculate_sf_from_model(structure[0], list(hkl))) for hkl in list(table)[::17]}
    largest = max(wanted.values())
    for hkl, value in wanted.items():
        assert table[hkl] == pytest.approx(value, abs=0.004 * largest)  # worst seen 0.2 %: the density grid of dmin / 3
    assert read.space_group == "P 21 21 21"
    assert any("without bulk solvent" in note and "2 Å" in note for note in read.notes)
    resolution = structure.cell.calculate_d_array(read.hkl.astype(np.int32))
    assert resolution.min() >= 2.0
    assert resolution.min() < 2.05


def test_coordinates_as_mmcif_and_as_pdb_agree(tmp_path: Path) -> None:
    structure = gemmi.read_pdb_string(PDB)
    structure.setup_entities()
    structure.make_mmcif_document().write_file(str(tmp_path / "m.cif"))
    (tmp_path / "m.pdb").write_text(PDB)
    one, two = (as_table(read_amplitudes(tmp_path / name, dmin=3.0)) for name in ("m.cif", "m.pdb"))
    assert one.keys() == two.keys()
    assert max(abs(one[hkl] - two[hkl]) for hkl in one) < 1e-3


SMALL = """data_small
_cell_length_a 5.64
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na1 Na 0 0 0
Cl1 Cl 0.5 0.5 0.5
"""


def test_small_molecule_coordinates_give_rock_salts_sums_and_differences(tmp_path: Path) -> None:
    (tmp_path / "salt.cif").write_text(SMALL)
    read = read_amplitudes(tmp_path / "salt.cif", dmin=1.0)
    table = as_table(read)
    for hkl, sign in (((2, 0, 0), 1), ((1, 1, 1), -1), ((-3, 1, -1), -1), ((0, -2, 2), 1)):
        stol2 = sum(x * x for x in hkl) / (4 * 5.64**2)
        sodium, chlorine = (gemmi.Element(name).it92.calculate_sf(stol2) for name in ("Na", "Cl"))
        # gemmi's form factors are float32
        assert table[hkl] == pytest.approx(4 * (chlorine + sign * sodium), rel=1e-5)
    assert (1, 0, 0) not in table


def test_incomplete_coordinates_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.pdb").write_text("\n".join(PDB.splitlines()[1:]))
    with pytest.raises(FileError, match=r"no (possible unit cell|known space group)"):
        read_amplitudes(tmp_path / "m.pdb")
    (tmp_path / "n.pdb").write_text(PDB.splitlines()[0])
    with pytest.raises(FileError, match="no atom"):
        read_amplitudes(tmp_path / "n.pdb")
    (tmp_path / "o.pdb").write_text(PDB)
    for dmin, words in ((0.0, "more than zero"), (0.01, "grid")):
        with pytest.raises(DataError, match=words):
            read_amplitudes(tmp_path / "o.pdb", dmin=dmin)


@pytest.mark.parametrize("cell", [(20, 22, 0, 90, 90, 90), (20, 22, 24, 90, 90, 180), (0.5, 22, 24, 90, 90, 90)])
def test_coordinates_in_a_cell_that_cannot_be_are_refused(tmp_path: Path, cell: tuple[float, ...]) -> None:
    record = "CRYST1{:9.3f}{:9.3f}{:9.3f}{:7.2f}{:7.2f}{:7.2f} P 1".format(*cell)
    (tmp_path / "m.pdb").write_text("\n".join([record, *PDB.splitlines()[1:]]))
    with pytest.raises(FileError, match="no possible unit cell"):
        read_amplitudes(tmp_path / "m.pdb")


@pytest.mark.parametrize("b", ["-10.00", "5000.0"])
def test_an_atom_with_an_impossible_b_factor_is_refused_by_name(tmp_path: Path, b: str) -> None:
    (tmp_path / "m.pdb").write_text(PDB.replace(" 15.00", f"{b:>6}"))
    with pytest.raises(DataError, match=r"atom O of .*GLY.*B factor"):
        read_amplitudes(tmp_path / "m.pdb")
