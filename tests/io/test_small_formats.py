"""Matrix and source files, float images, previews, tables, and how every output appears."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gemmi
import numpy as np
import pytest

from nbtorch.errors import DataError, FileError, GeometryError
from nbtorch.io import (
    atomic_path,
    read_csv,
    read_float_image,
    read_json,
    read_matrix,
    read_sources,
    write_cbf,
    write_csv,
    write_float_image,
    write_json,
    write_pgm,
)
from nbtorch.io.paths import find_file, read_bytes
from tests.helpers.data import ROOT, golden


def test_the_golden_matrix_is_divided_by_its_wavelength() -> None:
    path = golden("inputs", "A.mat")
    numbers = np.array(path.read_text().split()[:9], dtype=float).reshape(3, 3)
    matrix = read_matrix(path, 1.1)
    np.testing.assert_allclose(matrix, numbers / 1.1, rtol=1e-15)
    assert matrix[0, 0] == pytest.approx(-0.0383642438 / 1.1, rel=1e-15)  # x of a*
    assert matrix[1, 0] == pytest.approx(-0.0015972149 / 1.1, rel=1e-15)  # y of a*


def test_a_matrix_file_may_go_on_after_its_nine_numbers(tmp_path: Path) -> None:
    (tmp_path / "A.mat").write_text("1 0 0\n0 1 0\n0 0 1\n 0.000 0.000 0.000\n 78.0 78.0 38.0 90 90 90\n")
    np.testing.assert_array_equal(read_matrix(tmp_path / "A.mat", 2.0), np.eye(3) / 2)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("1 2 3 4", FileError, "4 of the nine"),
        ("1 2 3 4 5 6 7 8 x", FileError, "no number"),
        ("1 2 3 4 5 6 7 8 nan", FileError, "nine finite"),
        ("1 2 3 2 4 6 0 0 1", GeometryError, "no volume"),
        ("0 0 0 0 0 0 0 0 0", GeometryError, "no volume"),
    ],
)
def test_a_matrix_that_is_none_is_refused(tmp_path: Path, text: str, error: type[Exception], words: str) -> None:
    (tmp_path / "A.mat").write_text(text)
    with pytest.raises(error, match=words):
        read_matrix(tmp_path / "A.mat", 1.0)
    with pytest.raises(GeometryError, match="wavelength"):
        read_matrix(golden("inputs", "A.mat"), 0.0)


def test_the_golden_sources_are_unit_directions_weights_and_angstrom() -> None:
    sources = read_sources(golden("inputs", "sources.txt"), (1, 0, 0), 1.0)
    assert [source.weight for source in sources] == [1.0, 0.25, 2.0]
    assert [source.wavelength for source in sources] == pytest.approx([1.0, 1.02, 0.985])
    np.testing.assert_allclose(
        sources[0].direction, np.array([-1, 0.002, 0.001]) / np.linalg.norm([-1, 0.002, 0.001]), rtol=1e-15
    )


def test_missing_source_columns_are_ten_metres_against_the_beam_weight_one_and_the_beams_wavelength(
    tmp_path: Path,
) -> None:
    (tmp_path / "s.txt").write_text("-10 1\n\n# a comment\n0 0 -3 0.5\n-5\n")
    first, second, third = read_sources(tmp_path / "s.txt", (0.6, 0.0, 0.8), 1.3)
    np.testing.assert_allclose(first.direction, np.array([-10, 1, -8]) / np.linalg.norm([-10, 1, -8]))
    assert first.weight == 1.0
    assert first.wavelength == pytest.approx(1.3)
    assert (second.direction, second.weight) == ((0.0, 0.0, -1.0), 0.5)
    np.testing.assert_allclose(third.direction, np.array([-5, 0, -8]) / np.linalg.norm([-5, 0, -8]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-1 0 0\n-1 zero 0\n", "line 2.*five numbers"),
        ("0 0 0", "line 1.*away from the sample"),
        ("-1 0 0 1 0", "line 1.*wavelength 0 m"),
        ("-1 0 0 -1", "line 1.*weight -1"),
        ("-1 nan 0", "line 1.*finite"),
        ("\n", "no source"),
    ],
)
def test_a_source_that_cannot_be_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "s.txt").write_text(text)
    with pytest.raises(FileError, match=words):
        read_sources(tmp_path / "s.txt", (1, 0, 0), 1.0)


def test_a_float_image_is_raw_float32_fast_axis_first(tmp_path: Path) -> None:
    image = np.array([[1.5, 2.5, 3.5], [4.0, 5.0, 6.0]])
    path = write_float_image(tmp_path / "f.bin", image)
    assert path.read_bytes() == np.array([1.5, 2.5, 3.5, 4, 5, 6], dtype="<f4").tobytes()
    np.testing.assert_array_equal(read_float_image(path, (2, 3)), image)
    with pytest.raises(FileError, match=r"24 bytes are not 4 × 3"):
        read_float_image(path, (4, 3))
    with pytest.raises(FileError, match="square"):
        read_float_image(path)
    with pytest.raises(DataError, match="slow, fast"):
        write_float_image(tmp_path / "g.bin", image.ravel())


def test_a_square_float_image_needs_no_shape(tmp_path: Path) -> None:
    image = np.arange(9.0).reshape(3, 3)
    np.testing.assert_array_equal(read_float_image(write_float_image(tmp_path / "f.bin", image)), image)


def test_pgm_is_scaled_clipped_and_says_its_scale(tmp_path: Path) -> None:
    path = write_pgm(tmp_path / "f.pgm", np.array([[-1.0, 10.0, 1000.0], [0.5, 127.5, np.nan]]), 2.0)
    assert path.read_bytes() == b"P5\n3 2\n# pixels scaled by 2\n255\n" + bytes([0, 20, 255, 1, 255, 0])
    with pytest.raises(DataError, match="finite scale"):
        write_pgm(tmp_path / "g.pgm", np.zeros((2, 2)), float("inf"))


def test_cbf_refuses_what_32_bits_cannot_hold(tmp_path: Path) -> None:
    for counts in (np.array([[2**31]]), np.array([[0.5]]), np.arange(4)):
        with pytest.raises(DataError, match="32-bit"):
            write_cbf(tmp_path / "f.cbf", counts)
    assert list(tmp_path.iterdir()) == []


def test_csv_comes_back_and_a_ragged_one_is_refused_with_its_line(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", ["name", "value"], [("a, b", 1.5), ('quote"', 0.1 + 0.2)])
    assert read_csv(path) == [{"name": "a, b", "value": "1.5"}, {"name": 'quote"', "value": "0.30000000000000004"}]
    with pytest.raises(DataError, match=r"row 2.*1 values for 2"):
        write_csv(tmp_path / "u.csv", ["a", "b"], [(1, 2), (1,)])
    (tmp_path / "v.csv").write_text("a,b\n1,2\n3\n")
    with pytest.raises(FileError, match="line 3 has 1 values for 2"):
        read_csv(tmp_path / "v.csv")
    (tmp_path / "w.csv").write_text("")
    with pytest.raises(FileError, match="no header"):
        read_csv(tmp_path / "w.csv")


def test_json_turns_arrays_and_what_it_cannot_say_into_what_it_can(tmp_path: Path) -> None:
    document = {"x": np.array([1.0, np.nan]), "y": float("inf"), "n": np.int64(3), "p": Path("a"), "t": (1, 2)}
    path = write_json(tmp_path / "t.json", document)
    assert read_json(path) == {"x": [1.0, None], "y": None, "n": 3, "p": "a", "t": [1, 2]}


def test_an_output_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"

    def fail() -> None:
        with atomic_path(target) as temporary:
            assert temporary.parent == tmp_path
            temporary.write_text("half")
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_kept_unless_overwriting_was_asked_for(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    target.write_text("mine")
    with pytest.raises(FileError, match="exists"):
        write_json(target, 1)
    assert target.read_text() == "mine"
    write_json(target, 1, overwrite=True)
    assert target.read_text() == "1\n"


def test_a_file_made_while_another_is_written_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"

    def race() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("ours")
            target.write_text("theirs")

    with pytest.raises(FileError, match="exists"):
        race()
    assert target.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [target]


def test_an_output_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    path = write_json(tmp_path / "t.json", {})
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_an_output_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="folder cannot be written"):
        write_json(tmp_path / "no" / "t.json", {})
    with pytest.raises(FileError, match="is a folder"):
        write_json(tmp_path, {})


def test_input_past_the_size_limit_is_refused_however_small_its_archive(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(10_000_000)))
    assert path.stat().st_size < 20_000
    with pytest.raises(FileError, match="unpacks to more than"):
        read_bytes(path, limit=1_000_000)
    assert len(read_bytes(path)) == 10_000_000


def test_a_file_that_only_claims_to_be_compressed_is_refused(tmp_path: Path) -> None:
    for name in ("x.gz", "x.bz2"):
        (tmp_path / name).write_bytes(b"not compressed at all")
        with pytest.raises(FileError, match=name):
            read_bytes(find_file(tmp_path / name))


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "secret.txt").touch()
    monkeypatch.setattr(Path, "open", refuse)  # file modes do not bind root, who may run the tests
    with pytest.raises(FileError, match=r"secret\.txt.*cannot be read.*Permission denied"):
        read_bytes(tmp_path / "secret.txt")


def test_importing_the_readers_loads_no_heavy_library() -> None:
    script = (
        "import sys, nbtorch.io, nbtorch.io.frames, nbtorch.io.amplitudes, nbtorch.io.expt\n"
        "print([m for m in ('fabio', 'gemmi', 'h5py', 'pycbf', 'torch', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_the_package_lists_exists() -> None:
    import nbtorch.io

    for name in nbtorch.io.__all__:
        assert getattr(nbtorch.io, name) is not None
    assert set(nbtorch.io.__all__) == set(nbtorch.io._MODULE_OF)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = nbtorch.io.nothing


def test_gemmi_is_the_version_whose_conventions_were_checked() -> None:
    # The reciprocal cell's orthogonalization puts a* along x: the standard setting rests on it.
    star = np.array(gemmi.UnitCell(74, 86, 98, 82, 97, 104).reciprocal().orth.mat.tolist())
    assert star[1, 0] == star[2, 0] == star[2, 1] == 0
