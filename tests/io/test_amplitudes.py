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

from nbtorch.errors import DataError, FileError
from nbtorch.io import Amplitudes, read_amplitudes
from nbtorch.io.amplitudes.symmetry import expand
from nbtorch.io.amplitudes.types import Merged

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


def test_nan_amplitudes_are_dropped_and_counted_and_refused_when_asked(tmp_path: Path) -> None:
    rows = [(1, 2, 3, 10), (1, 2, 4, np.nan), (1, 2, 5, np.nan)]
    path = mtz(tmp_path / "f.mtz", [("F", "F")], rows)
    with pytest.raises(DataError, match=r"column F of .*f\.mtz.*2 of 3 amplitudes are NaN"):
        read_amplitudes(path, missing="error")
    read = read_amplitudes(path)
    assert (read.n_unique, read.dropped) == (1, 2)
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
