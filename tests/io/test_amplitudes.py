"""Amplitudes from every format: expansion, Friedel mates, columns, what is noted and what is refused."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable, Sequence
from pathlib import Path

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbtorch.config import CrystalConfig
from nbtorch.errors import DataError, FileError
from nbtorch.io import Amplitudes, check_against_cell, read_amplitudes, read_expt
from nbtorch.io.amplitudes.fdump import Fdump, read_fdump, write_fdump
from nbtorch.io.amplitudes.hkl import read_hkl
from nbtorch.io.amplitudes.symmetry import expand
from nbtorch.io.amplitudes.types import Merged
from tests.helpers.data import golden, shared

CELL = (40.0, 40.0, 60.0, 90.0, 90.0, 90.0)


def as_table(amplitudes: Amplitudes) -> dict[tuple[int, int, int], float]:
    return {(h, k, l): f for (h, k, l), f in zip(amplitudes.hkl.tolist(), amplitudes.F.tolist(), strict=True)}  # noqa: E741


def mtz(
    path: Path,
    columns: Sequence[tuple[str, str]],
    rows: Sequence[Sequence[float]],
    group: str = "P 43 21 2",
    cell: tuple[float, ...] = CELL,
) -> Path:
    """An MTZ file of H K L and ``columns`` (label, type)."""
    table = gemmi.Mtz(with_base=True)
    table.spacegroup = gemmi.SpaceGroup(group)
    table.set_cell_for_all(gemmi.UnitCell(*cell))
    table.add_dataset("d")
    for label, kind in columns:
        table.add_column(label, kind)
    table.set_data(np.array(rows, dtype=np.float32))
    table.write_to_file(str(path))
    return path


def test_mtz_amplitudes_are_expanded_to_the_sphere_with_friedel_mates(tmp_path: Path) -> None:
    read = read_amplitudes(mtz(tmp_path / "f.mtz", [("F", "F")], [(1, 2, 3, 10), (2, 2, 4, 20)]))
    table = as_table(read)
    assert len(read) == 16 + 8  # 4/mmm: sixteen of a general reflection, eight of hhl
    for h, k in ((1, 2), (2, 1)):
        for signs in np.ndindex(2, 2, 2):
            s = 1 - 2 * np.array(signs)
            assert table[s[0] * h, s[1] * k, s[2] * 3] == 10
    assert table[-2, 2, -4] == 20
    assert (read.space_group, read.cell, read.n_unique) == ("P 43 21 2", CELL, 2)
    assert len(set(read.asu_index[read.F == 10])) == 1
    assert set(read.asu_index) == {0, 1}


@pytest.mark.parametrize(
    "name", ["P 1", "P -1", "C 1 2 1", "P 21 21 21", "P 43 21 2", "P 61 2 2", "R 3:H", "F m -3 m", "I 2 3"]
)
def test_expansion_of_any_group_is_gemmis(name: str, rng: np.random.Generator) -> None:
    group = gemmi.SpaceGroup(name)
    cell = gemmi.UnitCell(30, 30, 30, 90, 90, 120 if name[0] in "R" or "6" in name else 90)
    unique = gemmi.make_miller_array(cell, group, 4.0)
    values = rng.uniform(1, 100, len(unique))
    read = expand(Merged(np.array(unique, np.int64), values, None, name, None), Path("x"))
    by_asu = {tuple(hkl): value for hkl, value in zip(unique.tolist(), values, strict=True)}
    asu, operations = gemmi.ReciprocalAsu(group), group.operations()
    for hkl, value in as_table(read).items():
        assert by_asu[tuple(asu.to_asu(list(hkl), operations)[0])] == value
    whole = gemmi.make_miller_array(cell, gemmi.SpaceGroup("P 1"), 4.0)
    present = {tuple(hkl) for hkl in read.hkl.tolist()}
    assert present == {
        tuple(s * np.array(hkl))
        for hkl in whole.tolist()
        for s in (1, -1)
        if not operations.is_systematically_absent(hkl)
    }


@settings(deadline=None, max_examples=50)
@given(
    group=st.sampled_from(["P 1", "P 1 21 1", "P 21 21 21", "P 43 21 2", "P 31 2 1", "P 61", "P 41 3 2"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_rotation_and_inversion_maps_an_expansion_onto_itself(group: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    asu, operations = gemmi.ReciprocalAsu(gemmi.SpaceGroup(group)), gemmi.SpaceGroup(group).operations()
    listed = {tuple(asu.to_asu(hkl, operations)[0]) for hkl in rng.integers(-9, 10, (20, 3)).tolist()}
    hkl = np.array(sorted(listed), dtype=np.int64)
    read = expand(Merged(hkl, rng.uniform(1, 2, len(hkl)), None, group, None), Path("x"))
    table = as_table(read)
    assert len(table) == len(read)  # no reflection twice
    assert read.n_unique == len(hkl)
    for triple, value in table.items():
        for operation in operations.sym_ops:
            turned = operation.apply_to_hkl(list(triple))
            assert table[turned[0], turned[1], turned[2]] == value
            assert table[-turned[0], -turned[1], -turned[2]] == value


def test_friedel_pairs_stay_apart_and_centric_ones_together(tmp_path: Path) -> None:
    columns = [("F(+)", "G"), ("SIGF(+)", "L"), ("F(-)", "G"), ("SIGF(-)", "L")]
    rows = [(1, 2, 3, 10, 1, 12, 1), (2, 0, 4, 30, 1, 31, 1)]  # h0l is centric in 422
    read = read_amplitudes(mtz(tmp_path / "f.mtz", columns, rows))
    table = as_table(read)
    assert (table[1, 2, 3], table[-1, -2, -3]) == (10, 12)
    assert table[-1, -2, 3] == 10  # the fourfold's square keeps the hand
    assert table[1, 2, -3] == 12
    assert table[2, 0, 4] == table[-2, 0, -4] == 30
    assert read.n_unique == 3
    hkl = [tuple(x) for x in read.hkl.tolist()]
    assert read.asu_index[hkl.index((1, 2, 3))] != read.asu_index[hkl.index((-1, -2, -3))]
    assert read.asu_index[hkl.index((2, 0, 4))] == read.asu_index[hkl.index((-2, 0, -4))]


def test_an_unmeasured_friedel_mate_takes_the_other_ones_value_and_is_noted(tmp_path: Path) -> None:
    rows = [(1, 2, 3, 10, np.nan), (1, 2, 4, np.nan, 7), (1, 2, 5, 3, 4)]
    read = read_amplitudes(mtz(tmp_path / "f.mtz", [("F(+)", "G"), ("F(-)", "G")], rows))
    table = as_table(read)
    assert table[-1, -2, -3] == 10
    assert table[1, 2, 4] == 7
    assert any("2 reflections have one Friedel mate" in note for note in read.notes)


def test_amplitudes_come_before_intensities_pairs_before_means_and_measured_before_calculated(tmp_path: Path) -> None:
    labels = [("FC", "F"), ("IMEAN", "J"), ("I(+)", "K"), ("I(-)", "K"), ("FP", "F"), ("F(+)", "G"), ("F(-)", "G")]
    row = (1, 2, 3, 1.0, 4.0, 9.0, 16.0, 5.0, 6.0, 7.0)
    for count, wanted in ((7, 6.0), (5, 5.0), (4, 3.0), (2, 2.0), (1, 1.0)):
        path = mtz(tmp_path / f"{count}.mtz", labels[:count], [row[: 3 + count]])
        assert as_table(read_amplitudes(path))[1, 2, 3] == wanted


def test_a_named_column_is_used_and_an_unknown_one_lists_the_choices(tmp_path: Path) -> None:
    path = mtz(tmp_path / "f.mtz", [("F", "F"), ("SIGF", "Q"), ("F2", "F"), ("I", "J")], [(1, 2, 3, 10, 1, 20, 900)])
    assert as_table(read_amplitudes(path, column="F2"))[1, 2, 3] == 20
    assert as_table(read_amplitudes(path, column="I"))[1, 2, 3] == 30
    for absent in ("SIGF", "nothing"):
        with pytest.raises(DataError, match="F, F2, I"):
            read_amplitudes(path, column=absent)


def test_naming_either_column_of_a_friedel_pair_means_the_pair(tmp_path: Path) -> None:
    path = mtz(tmp_path / "f.mtz", [("F", "F"), ("F(+)", "G"), ("F(-)", "G")], [(1, 2, 3, 1, 10, 12)])
    for column in ("F(+)", "F(-)"):
        table = as_table(read_amplitudes(path, column=column))
        assert (table[1, 2, 3], table[-1, -2, -3]) == (10, 12)


def test_intensities_become_roots_with_french_wilson_where_weak_and_say_so(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    hkl = gemmi.make_miller_array(gemmi.UnitCell(*CELL), gemmi.SpaceGroup("P 43 21 2"), 3.0)
    true = rng.exponential(100, len(hkl))
    measured = true + 30 * rng.standard_normal(len(hkl))
    rows = [(*triple, value, 30.0) for triple, value in zip(hkl.tolist(), measured, strict=True)]
    read = read_amplitudes(mtz(tmp_path / "f.mtz", [("IMEAN", "J"), ("SIGIMEAN", "Q")], rows))
    table = as_table(read)
    estimate = np.array([table[tuple(triple)] for triple in hkl.tolist()])
    weak = measured < 120
    np.testing.assert_allclose(estimate[~weak], np.sqrt(measured[~weak]), rtol=1e-6)  # columns are float32
    assert (estimate > 0).all()
    assert estimate[measured < 0].max() < np.sqrt(30)
    clipped = np.sqrt(np.maximum(measured, 0))
    assert np.std((estimate - np.sqrt(true))[weak]) < 0.9 * np.std((clipped - np.sqrt(true))[weak])
    assert f"IMEAN became √I, French–Wilson for the {int(weak.sum())} below 4σ" in read.notes


def test_intensities_without_deviations_become_roots_and_negative_ones_zero(tmp_path: Path) -> None:
    read = read_amplitudes(mtz(tmp_path / "f.mtz", [("I", "J")], [(1, 2, 3, 9), (1, 2, 4, -4)]))
    assert (as_table(read)[1, 2, 3], as_table(read)[1, 2, 4]) == (3, 0)
    assert any("no standard deviations, so 1 negative" in note for note in read.notes)


def test_systematic_absences_of_intensities_become_zero(tmp_path: Path) -> None:
    rows = [(1, 2, 3, 100, 1), (0, 0, 1, 5, 3), (0, 0, 4, 50, 1)]
    read = read_amplitudes(mtz(tmp_path / "f.mtz", [("I", "J"), ("SIGI", "Q")], rows))
    assert as_table(read)[0, 0, 1] == 0
    assert as_table(read)[0, 0, 4] > 0
    assert any("1 systematic absences became 0" in note for note in read.notes)


def test_nan_amplitudes_are_refused_counted_and_dropped_only_when_asked(tmp_path: Path) -> None:
    rows = [(1, 2, 3, 10), (1, 2, 4, np.nan), (1, 2, 5, np.nan)]
    path = mtz(tmp_path / "f.mtz", [("F", "F")], rows)
    with pytest.raises(DataError, match=r"column F of .*f\.mtz.*2 of 3 amplitudes are NaN"):
        read_amplitudes(path)
    read = read_amplitudes(path, missing="drop")
    assert read.n_unique == 1
    assert any("2 reflections without a value" in note for note in read.notes)
    with pytest.raises(DataError, match="error, drop"):
        read_amplitudes(path, missing="ignore")  # type: ignore[arg-type]


def test_infinite_amplitudes_are_refused_and_counted(tmp_path: Path) -> None:
    path = mtz(tmp_path / "f.mtz", [("F", "F")], [(1, 2, 3, np.inf), (1, 2, 4, 1)])
    with pytest.raises(DataError, match="1 values are infinite"):
        read_amplitudes(path, missing="drop")


def test_an_mtz_without_amplitudes_or_unmerged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="H, K, L, FreeR_flag"):
        read_amplitudes(mtz(tmp_path / "free.mtz", [("FreeR_flag", "I")], [(1, 2, 3, 0)]))
    with pytest.raises(DataError, match="not merged"):
        read_amplitudes(mtz(tmp_path / "u.mtz", [("M/ISYM", "Y"), ("I", "J")], [(1, 2, 3, 1, 5)]))


def test_symmetry_equivalents_with_different_values_are_refused_and_with_one_value_accepted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="more than once"):
        read_amplitudes(mtz(tmp_path / "d.mtz", [("F", "F")], [(1, 2, 3, 10), (2, 1, -3, 11)]))
    read = read_amplitudes(mtz(tmp_path / "s.mtz", [("F", "F")], [(1, 2, 3, 10), (2, 1, -3, 10)]))
    assert (len(read), read.n_unique) == (16, 1)


def test_friedel_mates_in_rows_of_their_own_stay_apart(tmp_path: Path) -> None:
    rows = [(1, 2, 3, 10), (-1, -2, -3, 12), (1, 2, 4, 5)]
    read = read_amplitudes(mtz(tmp_path / "f.mtz", [("F", "F")], rows, group="P 1"))
    table = as_table(read)
    assert (table[1, 2, 3], table[-1, -2, -3], table[-1, -2, -4]) == (10, 12, 5)
    assert (len(read), read.n_unique) == (4, 3)


def test_indices_past_any_grid_are_refused(tmp_path: Path) -> None:
    path = mtz(tmp_path / "f.mtz", [("F", "F")], [(1, 2, 3, 10), (900, 900, 900, 1)])
    with pytest.raises(DataError, match="900 900 900"):
        read_amplitudes(path)


@pytest.mark.parametrize("keep", [4, 60, 200, -400])
def test_a_truncated_mtz_is_refused(tmp_path: Path, keep: int) -> None:
    path = mtz(tmp_path / "f.mtz", [("F", "F")], [(1, 2, k, 10.0) for k in range(50)])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises((FileError, DataError), match=r"f\.mtz"):
        read_amplitudes(path)


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_compressed_amplitudes_are_found_and_read(
    tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    path = mtz(tmp_path / "f.mtz", [("F", "F")], [(1, 2, 3, 10.0)])
    path.with_name(path.name + suffix).write_bytes(compress(path.read_bytes()))
    path.unlink()
    assert as_table(read_amplitudes(path))[1, 2, 3] == 10


def test_a_file_named_mtz_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f.mtz").write_text("1 2 3 4\n")
    with pytest.raises(FileError, match="not MTZ"):
        read_amplitudes(tmp_path / "f.mtz")


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


def test_the_golden_text_list_is_read_as_listed() -> None:
    path = golden("inputs", "dense.hkl")
    listed = read_hkl(path)
    lines = [line.split() for line in path.read_text().splitlines()]
    np.testing.assert_array_equal(listed.hkl, [[int(x) for x in line[:3]] for line in lines])
    np.testing.assert_array_equal(listed.F, [float(line[3]) for line in lines])
    read = read_amplitudes(path)
    assert len(read) == read.n_unique == len(lines)
    assert (read.space_group, read.cell) == ("P 1", None)


def test_missing_friedel_mates_of_a_text_list_are_filled_in_and_noted(tmp_path: Path) -> None:
    (tmp_path / "f.hkl").write_text(
        "# h k l F sigma\n1 2 3 10.0 1.0\n-1 -2 -3 12 1\n\n4 5 6 20 1 extra words\n0 0 0 5\n"
    )
    read = read_amplitudes(tmp_path / "f.hkl")
    assert as_table(read) == {(1, 2, 3): 10, (-1, -2, -3): 12, (4, 5, 6): 20, (-4, -5, -6): 20, (0, 0, 0): 5}
    assert read.n_unique == 4
    assert any("1 Friedel mates were not listed" in note for note in read.notes)


def test_the_last_of_equal_indices_wins_as_in_nanobragg(tmp_path: Path) -> None:
    (tmp_path / "f.hkl").write_text("1 2 3 10\n1 2 3 11\n-1 -2 -3 4\n")
    assert as_table(read_amplitudes(tmp_path / "f.hkl")) == {(1, 2, 3): 11, (-1, -2, -3): 4}


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("1 2 3 4\n1 2 3\n", FileError, r"line 2.*'1 2 3' is not 'h k l F'"),
        ("1 2 3 x\n", FileError, "line 1.*not 'h k l F'"),
        ("1 2 3 nan\n1 2 4 inf\n1 2 5 1\n", DataError, r"2 of 3 amplitudes are NaN or infinite"),
        ("1 2 3 4\n1.5 2 3 4\n", DataError, "reflection 2 .*not integers"),
        ("nan 2 3 4\n", DataError, "not integers"),
        ("1 2 1000000 4\n9000 2 3 4\n", DataError, "grid of"),
        ("1 2 99999999999 4\n", DataError, "not integers"),
        ("", DataError, "no amplitude"),
        ("# nothing\n", DataError, "no amplitude"),
    ],
)
def test_a_text_list_that_cannot_be_used_is_refused(
    tmp_path: Path, text: str, error: type[Exception], words: str
) -> None:
    (tmp_path / "f.hkl").write_text(text)
    with pytest.raises(error, match=words):
        read_amplitudes(tmp_path / "f.hkl")


def test_a_text_list_has_no_columns_to_name(tmp_path: Path) -> None:
    (tmp_path / "f.hkl").write_text("1 2 3 4\n")
    with pytest.raises(DataError, match="no named columns"):
        read_amplitudes(tmp_path / "f.hkl", column="F")


def test_binary_rubbish_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f.dat").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(FileError, match=r"f\.dat.*not text"):
        read_amplitudes(tmp_path / "f.dat")


def test_fdump_comes_back_and_has_the_layout_nanobragg_writes(tmp_path: Path, rng: np.random.Generator) -> None:
    grid = rng.uniform(1, 2, (2, 3, 4))
    path = write_fdump(tmp_path / "Fdump.bin", Fdump(grid, (-1, 0, 5)))
    content = path.read_bytes()
    assert content.startswith(b"-1 0 0 2 5 8\n\f")
    stored = np.frombuffer(content[len(b"-1 0 0 2 5 8\n\f") :]).reshape(3, 4, 5)
    np.testing.assert_array_equal(stored[:-1, :-1, :-1], grid)
    again = read_fdump(path)
    assert again.start == (-1, 0, 5)
    np.testing.assert_array_equal(again.F, grid)
    assert as_table(read_amplitudes(path))[0, 2, 8] == grid[1, 2, 3]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"-1 0 0 2 5\n\f", "six integers"),
        (b"0 1 0 1 0 1\n\f" + bytes(100), "12 of 27"),
        (b"0 999999 0 999999 0 999999\n\f", "claims a grid"),
        (b"5 0 0 1 0 1\n\f", "claims a grid"),
    ],
)
def test_a_damaged_fdump_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "Fdump.bin").write_bytes(content)
    with pytest.raises(FileError, match=words):
        read_fdump(tmp_path / "Fdump.bin")


def amplitudes_of(group: str, cell: tuple[float, float, float, float, float, float] | None) -> Amplitudes:
    return expand(Merged(np.array([[1, 2, 3]]), np.array([1.0]), None, group, cell), Path("F.mtz"))


def test_the_same_group_and_cell_pass_without_a_word() -> None:
    assert check_against_cell(amplitudes_of("P 43 21 2", CELL), CrystalConfig(CELL, space_group="P 43 21 2")) == ()


def test_another_group_of_the_laue_class_is_a_note_and_the_amplitudes_win() -> None:
    cell = (5.4, 8.1, 12.0, 90.0, 90.0, 90.0)
    (note,) = check_against_cell(amplitudes_of("P 21 21 21", cell), CrystalConfig(cell, space_group="P 2 2 2"))
    assert "the amplitudes' P 21 21 21, not the experiment's P 2 2 2" in note


@pytest.mark.parametrize(("ours", "theirs"), [("P 4", "P 2 2 2"), ("P 43 21 2", "P 41"), ("P 3 2 1", "P 3 1 2")])
def test_another_laue_class_is_refused(ours: str, theirs: str) -> None:
    with pytest.raises(DataError, match=rf"F\.mtz in {ours}.*{theirs}"):
        check_against_cell(amplitudes_of(ours, CELL), CrystalConfig(CELL, space_group=theirs))


def test_a_list_in_p1_fits_any_group_and_is_noted() -> None:
    (note,) = check_against_cell(amplitudes_of("P 1", CELL), CrystalConfig(CELL, space_group="P 43 21 2"))
    assert "listed in P 1" in note


@pytest.mark.parametrize(("name", "cell"), [("c", (40, 40, 61.5, 90, 90, 90)), ("beta", (40, 40, 60, 90, 92.1, 90))])
def test_a_cell_off_by_more_than_two_percent_is_refused_naming_the_worst(
    name: str, cell: tuple[float, float, float, float, float, float]
) -> None:
    with pytest.raises(DataError, match=rf"{name} is off by 2\.\d %"):
        check_against_cell(amplitudes_of("P 1", cell), CrystalConfig(CELL, space_group="P 1"))


def test_a_cell_off_by_less_is_a_note() -> None:
    cell = (40.0, 40.0, 60.6, 90.0, 90.0, 90.0)
    (note,) = check_against_cell(amplitudes_of("P 43 21 2", cell), CrystalConfig(CELL, space_group="P 43 21 2"))
    assert "up to 1.00 % (c)" in note


def test_the_l_cysteine_amplitudes_fit_their_experiment_with_one_note_on_the_group() -> None:
    folder = shared("real", "l_cysteine")
    read = read_amplitudes(folder / "lcyst_merged.mtz")
    assert (read.space_group, read.n_unique) == ("P 21 21 21", 1538)
    crystal = read_expt(folder / "sweep4" / "start.expt")[0].crystal
    assert crystal is not None
    notes = check_against_cell(read, crystal)
    assert any("P 21 21 21" in note for note in notes)
    assert np.isfinite(read.F).all()


@pytest.mark.parametrize("case", ["tetra", "mono"])
def test_the_peers_exact_amplitudes_keep_their_friedel_differences(case: str) -> None:
    read = read_amplitudes(shared("peer", f"F_{case}.mtz"))
    source = gemmi.read_mtz_file(str(shared("peer", f"F_{case}.mtz")))
    table = as_table(read)
    for h, k, l, plus, minus in np.array(source.array)[::997]:  # noqa: E741
        assert table[int(h), int(k), int(l)] == pytest.approx(plus)
        assert table[-int(h), -int(k), -int(l)] == pytest.approx(minus)
    crystal = read_expt(shared("peer", f"crystal_{case}_0", "start.expt"))[0].crystal
    assert crystal is not None
    assert any("P 1" in note for note in check_against_cell(read, crystal))


def test_thermolysin_coordinates_give_amplitudes_in_the_experiments_laue_class() -> None:
    folder = shared("real", "thermolysin_cspad")
    read = read_amplitudes(folder / "2tli.pdb", dmin=4.0)
    crystal = read_expt(folder / "401.expt")[0].crystal
    assert crystal is not None
    assert read.space_group == "P 61 2 2"
    assert len(check_against_cell(read, crystal)) <= 1
