"""Where the C program comes from, and the words that each program is given."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from nbtorch.errors import FileError
from nbtorch.nanobragg.cli.pair import pair_of
from nbtorch.nanobragg.cli.parsing import UsageError
from nbtorch.nanobragg.compare.programs import ENVIRONMENT, Program, RunnerError, c_program, python_program, run
from tests.helpers.data import ROOT, golden

CRYSTAL = ["-cell", "50", "50", "50", "90", "90", "90", "-default_F", "10"]


def executable(path: Path, text: str = "#!/bin/sh\nexit 0\n") -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def _nobody_named_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)


def test_the_flag_comes_before_the_variable_and_both_before_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, variable = executable(tmp_path / "nanoBragg"), executable(tmp_path / "other")
    monkeypatch.setenv(ENVIRONMENT, str(variable))
    assert c_program(str(named)).command == (str(named),)
    assert c_program().command == (str(variable),)
    assert not c_program().shipped


def test_an_installed_package_says_how_to_get_a_c_program(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match=r"make -C c_reference.*--c-bin.*NB_C_BIN"):
        c_program(checkout=tmp_path)


def test_a_program_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("")
    for name in ("nowhere", "text"):
        with pytest.raises(RunnerError, match="no such program"):
            c_program(str(tmp_path / name))


def test_a_checkout_builds_its_own_and_builds_again_only_when_out_of_date(tmp_path: Path) -> None:
    if shutil.which("make") is None or shutil.which("cc") is None:
        pytest.skip("a C compiler and make build the C reference")
    sources = tmp_path / "c_reference"
    shutil.copytree(ROOT / "c_reference", sources, ignore=shutil.ignore_patterns("*.o", "nanoBragg_c*"))
    program = c_program(checkout=tmp_path)
    assert program.shipped
    assert run(program, [*CRYSTAL, "-detpixels", "4"], tmp_path).code == 0
    built = Path(program.command[0])
    assert sorted(path.name for path in sources.iterdir() if path.suffix not in (".c", ".h")) == [
        ".gitignore",
        "Makefile",
        "README.md",
        "nanoBragg_c",
    ]
    before = built.stat().st_mtime_ns
    c_program(checkout=tmp_path)
    assert built.stat().st_mtime_ns == before
    os.utime(sources / "main.c", (built.stat().st_mtime + 10,) * 2)
    (sources / "main.c").write_text("not C\n")
    os.utime(sources / "main.c", (built.stat().st_mtime + 10,) * 2)
    with pytest.raises(RunnerError, match="it failed"):
        c_program(checkout=tmp_path)


def test_without_a_compiler_the_checkout_says_what_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c_reference").mkdir()
    (tmp_path / "c_reference" / "Makefile").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunnerError, match="make and a C compiler"):
        c_program(checkout=tmp_path)


def test_a_program_that_fails_or_does_not_start_is_reported_with_its_last_words(tmp_path: Path) -> None:
    failing = executable(tmp_path / "fails", "#!/bin/sh\necho first >&2; echo last words. >&2; exit 7\n")
    with pytest.raises(RunnerError, match=r"exit code 7: last words\."):
        run(Program("C", (str(failing),)), [], tmp_path)
    with pytest.raises(RunnerError, match="does not start"):
        run(Program("C", (str(tmp_path / "none"),)), [], tmp_path)
    assert python_program(str(failing)).command == (str(failing),)


def test_inputs_become_absolute_and_outputs_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(golden("inputs"))
    words = [
        *CRYSTAL,
        "-hkl",
        "dense.hkl",
        "-floatfile",
        "a.bin",
        "-printout",
        "-noisefile",
        "n",
        "-adc",
        "3",
        "-nopgm",
    ]
    pair = pair_of(words)
    assert pair.py == pair.c == (*CRYSTAL, "-hkl", str(golden("inputs", "dense.hkl")), "-adc", "3")
    assert pair.inputs == (golden("inputs", "dense.hkl"),)
    assert [note.split()[0] for note in pair.notes] == ["-floatfile", "-noisefile"]


def test_where_to_compute_is_for_the_python_alone_and_own_flags_come_last() -> None:
    pair = pair_of([*CRYSTAL, "-dtype", "float32", "-N", "3"], "-N 4", "-N 5 -compat nanobragg")
    assert pair.py == (*CRYSTAL, "-N", "3", "-dtype", "float32", "-N", "4")
    assert pair.c == (*CRYSTAL, "-N", "3", "-N", "5", "-compat", "nanobragg")
    assert pair.only_c == ("-N", "5", "-compat", "nanobragg")


def test_a_random_misset_gets_one_seed_for_both() -> None:
    assert pair_of([*CRYSTAL, "-misset", "random"]).c[-2:] == ("-misset_seed", "1")
    assert "-misset_seed" not in pair_of([*CRYSTAL, "-misset", "random", "-seed", "3"]).c


def test_a_dump_in_the_working_folder_is_given_to_both_and_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "-dump" not in pair_of(CRYSTAL).c
    (tmp_path / "Fdump.bin").write_bytes(b"")
    (tmp_path / "a.hkl").write_text("1 1 1 5\n")
    assert pair_of(CRYSTAL).c[-2:] == ("-dump", str(tmp_path / "Fdump.bin"))
    assert "-dump" not in pair_of([*CRYSTAL, "-hkl", "a.hkl", "-dump", "Fdump.bin"]).c


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (["-bogus"], UsageError, "not a flag"),
        (["-cell", "1"], UsageError, "needs 6 values"),
        (["-h"], UsageError, "nothing would be simulated"),
        ([*CRYSTAL, "-hkl", "absent.hkl"], FileError, "no such file"),
    ],
)
def test_wrong_flags_are_found_before_anything_runs(words: list[str], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        pair_of(words)
    with pytest.raises(UsageError, match="quot"):
        pair_of(CRYSTAL, "-N '3")
