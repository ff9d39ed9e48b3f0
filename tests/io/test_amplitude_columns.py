"""Which column of an MTZ is read, what becomes of rows without a value, and what a list does not hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gemmi
import numpy as np
import pytest

from nbtorch.errors import DataError
from nbtorch.functional.absences import Listing
from nbtorch.io import Amplitudes, Sample, read_amplitudes
from nbtorch.io.amplitudes.hkl import read_hkl
from tests.io.test_amplitudes import as_table, mtz

CELL = (23.0, 27.0, 31.0, 90.0, 90.0, 90.0)


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
