"""Amplitudes from text and binary lists, and whether a list fits a crystal."""

from __future__ import annotations

from pathlib import Path

import gemmi
import numpy as np
import pytest

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
        read_amplitudes(tmp_path / "f.hkl", column="FP")


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
