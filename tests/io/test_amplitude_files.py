"""Files of reflections as programs write them: the right column, intensities as intensities, symmetry applied."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import gemmi
import numpy as np
import pytest

from nbtorch.config import CrystalConfig
from nbtorch.errors import DataError, FileError
from nbtorch.functional.absences import Listing
from nbtorch.io import Amplitudes, Sample, check_against_crystals, read_amplitudes
from nbtorch.io.amplitudes.crystfel_list import _GROUPS
from nbtorch.io.amplitudes.hkl import read_hkl
from tests.helpers.data import shared
from tests.io.test_amplitudes import as_table, mtz

CELL = (23.0, 27.0, 31.0, 90.0, 90.0, 90.0)
ORTHORHOMBIC = Sample(cell=CELL, space_group="P 2 2 2")


def says(read: Amplitudes, words: str) -> bool:
    return any(words in note for note in read.notes)


@pytest.mark.parametrize(
    ("columns", "values", "wanted"),
    [
        ([("F_calc", "F"), ("F_obs", "F"), ("SIG", "Q")], (5, 7, 1), 7),
        ([("FAN", "F"), ("PHAN", "P"), ("FP", "F"), ("SIGFP", "Q")], (5, 90, 7, 1), 7),
        ([("FDM", "F"), ("PHIDM", "P"), ("FP", "F"), ("SIGFP", "Q")], (5, 90, 7, 1), 7),
        ([("IC", "J"), ("I", "J"), ("SIGI", "Q")], (25, 49, 1), 7),
        ([("F1", "F"), ("F2", "F"), ("SIGF2", "Q")], (5, 7, 1), 7),
        ([("MAP", "F"), ("PHMAP", "P"), ("FX", "F")], (5, 90, 7), 7),
        ([("FC", "F"), ("PHIC", "P"), ("IMEAN", "J"), ("SIGIMEAN", "Q")], (5, 90, 49, 1), 7),
    ],
)
def test_what_was_measured_with_a_deviation_is_read_wherever_it_stands(
    tmp_path: Path, columns: Sequence[tuple[str, str]], values: tuple[float, ...], wanted: float
) -> None:
    read = read_amplitudes(mtz(tmp_path / "f.mtz", columns, [(1, 2, 3, *values)]))
    assert as_table(read)[1, 2, 3] == pytest.approx(wanted)
    assert read.column is not None
    assert columns[0][0] in read.column.alternatives
    assert says(read, f"column= would also take {columns[0][0]}")


@pytest.mark.parametrize(("cell", "wanted"), [(CELL, 10.0), ((40.0, 40.0, 60.0, 90.0, 90.0, 90.0), 20.0)])
def test_of_several_crystals_the_one_with_the_experiments_cell_is_read(
    tmp_path: Path, cell: tuple[float, float, float, float, float, float], wanted: float
) -> None:
    table = gemmi.Mtz(with_base=True)
    table.spacegroup = gemmi.SpaceGroup("P 2 2 2")
    table.set_cell_for_all(gemmi.UnitCell(*CELL))
    for name, size in (("one", CELL), ("two", (40.0, 40.0, 60.0, 90.0, 90.0, 90.0))):
        dataset = table.add_dataset(name)
        dataset.crystal_name, dataset.cell = name, gemmi.UnitCell(*size)
        table.add_column(f"F_{name}", "F")
        table.add_column(f"SIGF_{name}", "Q")
    table.set_data(np.array([(1, 2, 3, 10, 1, 20, 1)], dtype=np.float32))
    table.write_to_file(str(tmp_path / "f.mtz"))
    read = read_amplitudes(tmp_path / "f.mtz", sample=Sample(cell=cell))
    assert as_table(read)[1, 2, 3] == wanted
    assert read.cell == cell
    assert says(read, "whose cell is the experiment's")
    assert as_table(read_amplitudes(tmp_path / "f.mtz"))[1, 2, 3] == 10


def test_negative_amplitudes_are_refused_and_counted(tmp_path: Path) -> None:
    path = mtz(tmp_path / "f.mtz", [("F", "F")], [(1, 2, 3, -50), (1, 2, 4, 7), (1, 2, 5, -1e10)])
    with pytest.raises(DataError, match=r"column F of .*2 of 3 amplitudes are negative \(the least is -1e\+10\)"):
        read_amplitudes(path)
    (tmp_path / "f.hkl").write_text("1 2 3 10\n1 2 4 -5\n")
    with pytest.raises(DataError, match="1 of 2 values in its fourth column are negative"):
        read_amplitudes(tmp_path / "f.hkl")
    assert read_hkl(tmp_path / "f.hkl").F.tolist() == [10, -5]  # nanoBragg squares what it is given


def test_a_pair_with_neither_mate_takes_the_mean_of_the_file(tmp_path: Path) -> None:
    rows = [(1, 2, 3, 10, 12, 11), (1, 2, 4, np.nan, np.nan, 7), (1, 2, 5, np.nan, np.nan, np.nan)]
    read = read_amplitudes(mtz(tmp_path / "f.mtz", [("F(+)", "G"), ("F(-)", "G"), ("F", "F")], rows))
    table = as_table(read)
    assert (table[1, 2, 3], table[-1, -2, -3], table[1, 2, 4], table[-1, -2, -4]) == (10, 12, 7, 7)
    assert read.dropped == 1
    assert says(read, "1 reflections have neither Friedel mate; both take the value of F")


def test_an_unmerged_mtz_is_merged_by_symmetry(tmp_path: Path) -> None:
    rows = [(1, 2, 3, 1, 400, 4), (1, 2, 3, 1, 410, 4), (1, 2, 3, 2, 390, 4), (1, 2, 4, 1, 900, 5)]
    path = mtz(tmp_path / "u.mtz", [("M/ISYM", "Y"), ("I", "J"), ("SIGI", "Q")], rows)
    with pytest.raises(DataError, match="not merged, and cannot be"):
        read_amplitudes(path)  # it has no batches
    table = gemmi.read_mtz_file(str(path))
    table.batches.append(gemmi.Mtz.Batch())
    table.write_to_file(str(path))
    read = read_amplitudes(path)
    assert as_table(read)[-1, -2, -3] == pytest.approx(20)
    assert (read.n_unique, as_table(read)[1, 2, 4]) == (2, 30)
    assert says(read, "4 intensities of I merged to 2")


def test_listing_tells_absent_from_unlisted_and_counts_the_range(tmp_path: Path) -> None:
    read = read_amplitudes(mtz(tmp_path / "f.mtz", [("F", "F")], [(1, 1, 2, 5), (2, 0, 1, 7)], "C 2 2 21", CELL))
    wanted = {
        (1, 1, 2): Listing.LISTED,
        (-1, 1, -2): Listing.LISTED,
        (1, 2, 2): Listing.ABSENT,  # C centring: h + k odd
        (0, 0, 3): Listing.ABSENT,  # 2₁ along c: l odd
        (2, 2, 2): Listing.UNLISTED,
        (40, 40, 40): Listing.UNLISTED,
        (41, 40, 40): Listing.ABSENT,
    }
    assert read.listing(np.array(list(wanted))).tolist() == [int(status) for status in wanted.values()]
    d = gemmi.UnitCell(*CELL)
    assert read.resolution() == pytest.approx((d.calculate_d([1, 1, 2]), d.calculate_d([2, 0, 1])))


def test_amplitudes_of_forbidden_reflections_become_zero(tmp_path: Path) -> None:
    read = read_amplitudes(mtz(tmp_path / "f.mtz", [("F", "F")], [(0, 0, 3, 5), (0, 0, 4, 6)], "P 2 2 21", CELL))
    assert (as_table(read)[0, 0, 3], as_table(read)[0, 0, 4]) == (0, 6)
    assert says(read, "1 amplitudes that P 2 2 21 forbids became 0")


XDS = """!FORMAT=XDS_ASCII    MERGE=FALSE    FRIEDEL'S_LAW=TRUE
!Generated by CORRECT   (VERSION Jan 10, 2022)
!SPACE_GROUP_NUMBER=   19
!UNIT_CELL_CONSTANTS=    23.000    27.000    31.000  90.000  90.000  90.000
!NUMBER_OF_ITEMS_IN_EACH_DATA_RECORD=12
!ITEM_H=1
!ITEM_K=2
!ITEM_L=3
!ITEM_IOBS=4
!ITEM_SIGMA(IOBS)=5
!ITEM_XD=6
!ITEM_YD=7
!ITEM_ZD=8
!ITEM_RLP=9
!ITEM_PEAK=10
!ITEM_CORR=11
!ITEM_PSI=12
!END_OF_HEADER
 3 2 1 4.0E+02 4.0E+00 1 1 1 0.1 99 50 9
 -3 -2 1 4.2E+02 4.0E+00 1 1 1 0.1 99 50 9
 3 2 -1 9.9E+09 -4.0E+00 1 1 1 0.1 99 50 9
 0 0 3 1.0E+01 4.0E+00 1 1 1 0.1 99 50 9
 3 2 2 9.0E+02 4.0E+00 1 1 1 0.1 99 50 9
!END_OF_DATA
"""


def test_xds_ascii_is_read_as_intensities_in_its_own_space_group(tmp_path: Path) -> None:
    (tmp_path / "XDS_ASCII.HKL").write_text(XDS)
    read = read_amplitudes(tmp_path / "XDS_ASCII.HKL")
    assert (read.space_group, read.cell, read.n_unique, read.dropped) == ("P 21 21 21", CELL, 2, 1)
    assert as_table(read)[-3, 2, 1] == pytest.approx(np.sqrt(410))
    assert as_table(read)[3, 2, 2] == 30
    assert says(read, "1 that P 21 21 21 forbids were left out")
    with pytest.raises(FileError, match="reflections of XDS, which are intensities"):
        read_hkl(tmp_path / "XDS_ASCII.HKL")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("   19\n", "  999\n", "SPACE_GROUP_NUMBER is 999"),
        ("    23.000", "     0.000", "UNIT_CELL_CONSTANTS are 0"),
        ("4.0E+02", "4.x", "no whole reflection file of XDS"),
    ],
)
def test_a_damaged_xds_file_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    (tmp_path / "x.hkl").write_text(XDS.replace(old, new, 1))
    with pytest.raises((DataError, FileError), match=words):
        read_amplitudes(tmp_path / "x.hkl")


SHELX = """   3   2   1  400.00    4.00   1
  -3  -2   1  420.00    4.00   1
   3   2   2   -1.00    2.00
   0   0   0    0.00    0.00   0
rubbish
"""
INS = "TITL t\nCELL 0.71 23 27 31 90 90 90\nZERR 4 0 0 0 0 0 0\nLATT {latt}\n{symm}SFAC C\nHKLF {hklf}\nEND\n"
TWOFOLDS = "SYMM -X,-Y,Z\nSYMM -X,Y,-Z\nSYMM X,-Y,-Z\n"


def test_hklf_4_is_read_as_intensities_with_its_instructions(tmp_path: Path) -> None:
    (tmp_path / "s.hkl").write_text(SHELX)
    with pytest.raises(DataError, match="neither cell nor symmetry"):
        read_amplitudes(tmp_path / "s.hkl")
    lone = read_amplitudes(tmp_path / "s.hkl", sample=ORTHORHOMBIC)
    (tmp_path / "s.ins").write_text(INS.format(latt=-1, symm=TWOFOLDS, hklf=4))
    read = read_amplitudes(tmp_path / "s.hkl")
    for table in (as_table(lone), as_table(read)):
        assert table[3, -2, 1] == pytest.approx(np.sqrt(410))
        assert 0 < table[3, 2, 2] < np.sqrt(2)  # French–Wilson of I = −1 ± 2
    assert (lone.cell, read.cell, read.space_group, read.n_unique) == (None, CELL, "P 2 2 2", 2)


def test_hklf_3_and_columns_are_read_as_amplitudes(tmp_path: Path) -> None:
    (tmp_path / "s.hkl").write_text(SHELX.replace("-1.00", " 1.00"))
    by_word = read_amplitudes(tmp_path / "s.hkl", sample=ORTHORHOMBIC, column="F")
    (tmp_path / "s.res").write_text(INS.format(latt=-1, symm=TWOFOLDS, hklf=3))
    for read in (by_word, read_amplitudes(tmp_path / "s.hkl")):
        assert as_table(read)[3, 2, 1] == pytest.approx(410)
        assert as_table(read)[3, 2, 2] == 1


@pytest.mark.parametrize(
    ("latt", "symm", "group"),
    [
        (1, "SYMM -X,0.5+Y,0.5-Z\n", "P 1 21/c 1"),
        (7, "SYMM -X,Y,0.5-Z\n", "C 1 2/c 1"),
        (-7, TWOFOLDS, "C 2 2 2"),
        (-2, TWOFOLDS, "I 2 2 2"),
        (-4, TWOFOLDS, "F 2 2 2"),
        (1, "", "P -1"),
    ],
)
def test_latt_and_symm_make_the_space_group(tmp_path: Path, latt: int, symm: str, group: str) -> None:
    (tmp_path / "s.hkl").write_text(SHELX.replace("3   2", "4   2").replace("-3  -2   1", "-4  -2   2"))
    (tmp_path / "s.ins").write_text(INS.format(latt=latt, symm=symm, hklf=4))
    assert read_amplitudes(tmp_path / "s.hkl").space_group == group


def test_a_plain_list_is_not_taken_for_shelx(tmp_path: Path) -> None:
    (tmp_path / "f.hkl").write_text("   3   2   1  400.00    4.00\n   3   2   2   30.00    4.00\n")
    assert as_table(read_amplitudes(tmp_path / "f.hkl"))[3, 2, 1] == 400


FCF = """data_x
_cell_length_a 23
_cell_length_b 27
_cell_length_c 31
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
 _space_group_symop_operation_xyz
 'x, y, z'
 '-x, -y, z'
 '-x, y, -z'
 'x, -y, -z'
loop_
 _refln_index_h
 _refln_index_k
 _refln_index_l
 _refln_{kind}_calc
 _refln_{kind}_meas
 _refln_{kind}_sigma
 _refln_observed_status
 3 2 1 100 400 4 o
 3 2 2 100 900 5 o
 3 2 3 100 1e6 5 x
"""


def test_a_core_cif_is_read_with_the_symmetry_of_its_operators(tmp_path: Path) -> None:
    (tmp_path / "a.hkl").write_text("# comment\n\n" + FCF.format(kind="F_squared"))
    (tmp_path / "b.fcf").write_text(FCF.format(kind="F"))
    squares, plain = read_amplitudes(tmp_path / "a.hkl"), read_amplitudes(tmp_path / "b.fcf")
    assert (squares.space_group, squares.cell, squares.n_unique) == ("P 2 2 2", CELL, 2)
    assert as_table(squares)[-3, 2, 1] == pytest.approx(20)
    assert as_table(plain)[-3, 2, 1] == 400
    assert says(squares, "1 reflections that the file marks as unreliable")
    assert squares.column is not None
    assert (squares.column.label, squares.column.sigma) == ("F_squared_meas", "F_squared_sigma")
    with pytest.raises(DataError, match="It needs one of: F_squared_meas"):
        read_amplitudes(tmp_path / "a.hkl", column="FP")


def test_intensities_per_zone_are_refused(tmp_path: Path) -> None:
    (tmp_path / "z.cif").write_text(FCF.format(kind="intensity").replace("observed_status", "zone_axis_id"))
    with pytest.raises(DataError, match="per zone"):
        read_amplitudes(tmp_path / "z.cif")


CRYSTFEL = """CrystFEL reflection list version 2.0
Symmetry: {group}
   h    k    l          I    phase   sigma(I)   nmeas
   3    2    1     400.00        -       4.00      15
   3    2    2      -1.00        -       2.00      51
   0    0    3      50.00        -       4.00      51
End of reflections
"""


def test_a_list_of_crystfel_is_read_as_intensities_in_its_point_group(tmp_path: Path) -> None:
    (tmp_path / "c.hkl").write_text(CRYSTFEL.format(group="mmm"))
    read = read_amplitudes(tmp_path / "c.hkl", sample=Sample(cell=CELL, space_group="P 21 21 21"))
    assert (read.space_group, read.n_unique) == ("P 21 21 21", 2)
    assert as_table(read)[-3, 2, 1] == 20
    assert 0 < as_table(read)[3, 2, 2] < np.sqrt(2)
    alone = read_amplitudes(tmp_path / "c.hkl")
    assert (alone.space_group, as_table(alone)[3, 2, 2]) == ("P m m m", 0)
    assert says(alone, "the cell is not known, so 1 negative ones became 0")


@pytest.mark.parametrize(
    ("group", "expected"), [("2/m", "P 1 1 2/m"), ("2/m_uab", "P 1 2/m 1"), ("222", "P 2 2 2"), ("-1", "P -1")]
)
def test_point_groups_of_crystfel(tmp_path: Path, group: str, expected: str) -> None:
    (tmp_path / "c.hkl").write_text(CRYSTFEL.format(group=group))
    assert read_amplitudes(tmp_path / "c.hkl").space_group == expected


def test_every_point_group_of_crystfel_is_one_of_gemmis_symmorphic_groups() -> None:
    for name, group in _GROUPS.items():
        found = gemmi.SpaceGroup(group)
        assert found.is_symmorphic(), name
        stem = name.split("_")[0]
        assert found.point_group_hm() == {"-4m2": "-42m", "-6m2": "-62m", "321": "32", "312": "32"}.get(
            stem, {"3m1": "3m", "31m": "3m", "-3m1": "-3m", "-31m": "-3m"}.get(stem, stem)
        )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CRYSTFEL.format(group="mmm_uaa"), "no point group"),
        (CRYSTFEL.format(group="nonsense"), "no point group"),
        (CRYSTFEL.format(group="mmm").replace("End of reflections\n", ""), "cut short"),
        (CRYSTFEL.format(group="mmm").replace("400.00", "4x0.00"), "line 4.*no reflection of CrystFEL"),
        ("CrystFEL stream format 2.3\n", "stream, whose intensities are not merged"),
        ('{"__id__": "ExperimentList"}', "it is JSON"),
        ("photon_energy = 9800\n0/min_fs = 0\n", "CrystFEL geometry"),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "x.hkl").write_text(text)
    with pytest.raises((DataError, FileError), match=words):
        read_amplitudes(tmp_path / "x.hkl")


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_is_refused_and_never_opened(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "p.hkl").write_bytes(pickle.dumps([1, 2], protocol))
    with pytest.raises(FileError, match="Python pickle"):
        read_amplitudes(tmp_path / "p.hkl")


def test_a_list_of_one_asymmetric_unit_takes_the_experiments_space_group(tmp_path: Path) -> None:
    (tmp_path / "f.hkl").write_text("3 2 1 10\n3 2 2 20\n")
    read = read_amplitudes(tmp_path / "f.hkl", sample=ORTHORHOMBIC)
    assert (read.space_group, read.n_unique, as_table(read)[-3, 2, 1]) == ("P 2 2 2", 2, 10)
    assert says(read, "expanded in the experiment's P 2 2 2")
    (tmp_path / "f.hkl").write_text("3 2 1 10\n-3 -2 1 12\n")
    read = read_amplitudes(tmp_path / "f.hkl", sample=ORTHORHOMBIC)
    assert (read.space_group, as_table(read)[-3, -2, 1]) == ("P 1", 12)
    assert says(read, "P 2 2 2 makes equal different amplitudes")


PDB = """CRYST1   23.000   27.000   31.000  90.00  90.00  90.00 P 2 2 2       4          {tail}
ATOM      1  C   ALA A   1       5.000   6.000   7.000  1.00 10.00           C{tail}
ATOM      2  ZN  ZN  A   2      12.300   3.100  19.700  1.00 10.00          ZN{tail}
END
"""


def test_electrons_scatter_by_the_mott_bethe_formula(tmp_path: Path) -> None:
    (tmp_path / "m.pdb").write_text(PDB.format(tail="  "))
    xray = read_amplitudes(tmp_path / "m.pdb", dmin=3.0)
    electron = read_amplitudes(tmp_path / "m.pdb", dmin=3.0, sample=Sample(wavelength=0.025))
    assert says(electron, "electron scattering factors")
    assert says(xray, "X-ray form factors")
    structure = gemmi.read_structure(str(tmp_path / "m.pdb"))
    calculator = gemmi.StructureFactorCalculatorE(structure.cell)
    table = as_table(electron)
    largest = max(table.values())
    for hkl in ((1, 0, 0), (3, 2, 1), (0, 4, 5)):
        exact = abs(calculator.calculate_sf_from_model(structure[0], list(hkl)))
        assert table[hkl] == pytest.approx(exact, abs=5e-4 * largest)  # the grid's error; 2e-4 is the worst here
        assert table[hkl] < 0.5 * as_table(xray)[hkl]
    stated = Sample(wavelength=0.025, radiation="x-ray")
    np.testing.assert_array_equal(read_amplitudes(tmp_path / "m.pdb", dmin=3.0, sample=stated).F, xray.F)


def test_a_file_from_before_1998_is_read_without_its_line_numbers(tmp_path: Path) -> None:
    lines = PDB.format(tail="  ").splitlines()[:2]
    (tmp_path / "new.pdb").write_text("\n".join(lines))
    (tmp_path / "old.pdb").write_text("\n".join(f"{line[:72]:72}1GDR{n:4d}" for n, line in enumerate(lines)))
    old = read_amplitudes(tmp_path / "old.pdb", dmin=4.0)
    assert len(old) > 100
    assert old.F.max() == pytest.approx(read_amplitudes(tmp_path / "new.pdb", dmin=4.0).F.max(), rel=1e-6)


def test_every_crystal_is_checked_and_those_that_differ_are_named() -> None:
    read = Amplitudes(
        hkl=np.array([[1, 2, 3]]),
        F=np.array([1.0]),
        space_group="P 2 2 2",
        cell=CELL,
        asu_index=np.array([0]),
        n_unique=1,
        notes=(),
        path=Path("F.mtz"),
    )
    right = CrystalConfig(CELL, space_group="P 2 2 2")
    assert check_against_crystals(read, {0: right, 1: right}) == ()
    other = CrystalConfig((40.0, 40.0, 52.0, 90.0, 90.0, 90.0), space_group="P 4")
    with pytest.raises(DataError, match=r"2 of 3 crystals are of another kind \(experiment 1, 4\)"):
        check_against_crystals(read, {0: right, 1: other, 4: other})
    screw = CrystalConfig(CELL, space_group="P 21 21 21")
    (note,) = check_against_crystals(read, {0: right, 2: screw})
    assert "P 21 21 21" in note


CASES = {
    "XDS_ASCII.HKL": 13.2590,
    "shelx_hklf4.hkl": 1.32665,
    "f_calc_first.mtz": 23.6345,
    "fan_first.mtz": 23.6345,
    "ic_first.mtz": 23.6345,
    "two_crystals.mtz": 47.2690,
    "pair_half_nan.mtz": 23.6345,
    "free_flags_nan.mtz": 13.2601,
    "list4.fcf": 30.0500,
}


@pytest.mark.parametrize("name", CASES)
def test_files_that_once_gave_wrong_numbers_give_the_right_one(name: str) -> None:
    read = read_amplitudes(shared("cases", "amplitude-files", name), sample=ORTHORHOMBIC)
    assert as_table(read)[3, 2, 1] == pytest.approx(CASES[name], rel=1e-5)


def test_other_programs_reflections_agree_with_gemmi_and_cctbx() -> None:
    for name, unique in (("XDS_ASCII.HKL", 16), ("INTEGRATE.HKL", 162)):
        assert read_amplitudes(shared("formats", "xds", name)).n_unique == unique
    xds = as_table(read_amplitudes(shared("formats", "xds", "XDS_ASCII.HKL")))
    assert (xds[0, 0, 16], xds[1, 0, 3]) == pytest.approx((60.30963789965167, 31.797578731555))
    integrated = as_table(read_amplitudes(shared("formats", "xds", "INTEGRATE.HKL")))
    assert (integrated[42, 4, 6], integrated[43, 10, 3]) == pytest.approx((18.192298370348237, 14.525752999212564))
    lta = read_amplitudes(shared("formats", "cif_core", "LTA_SCXRD.fcf"))
    assert (lta.n_unique, lta.space_group) == (566, "P m -3 m")
    assert as_table(lta)[0, 1, 2] == pytest.approx(63.74307805558185)
    cod = read_amplitudes(shared("formats", "cif_core", "2242624.hkl"))
    assert (cod.n_unique, as_table(cod)[1, 1, 0]) == (71, pytest.approx(np.sqrt(173.17)))
