"""What nb-trace and nb-compare share: their exit codes, and one command line made into one for each program."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from nbtorch.errors import DataError, FileError, NbtorchError
from nbtorch.nanobragg.cli.parsing import Occurrence, UsageError, occurrences

GOOD, USAGE, RUNNER, BELOW, SHAPES, FILES = range(6)
EXIT_CODES = "exit codes: 0 they agree, 1 usage, 2 a program failed, 3 they do not agree, 4 shapes differ, 5 files"

INPUTS = frozenset({"hkl", "mat", "img", "mask", "sourcefile"})
#: Each run writes its own images, in a folder of its own.
OUTPUTS = frozenset({"float_file", "int_file", "pgm_file", "noise_file", "no_pgm", "no_noise"})
PRINTED = frozenset({"printout", "printout_pixel", "trace_pixel", "trace_all", "progress"})
PYTHON_ONLY = frozenset({"device", "dtype", "backend"})
SEEDS = frozenset({"misset_seed", "seed"})
DUMP = "Fdump.bin"


class Parser(argparse.ArgumentParser):
    """An argument parser that leaves with our code for usage errors."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and ``message``, and exit."""
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}\n")


def add_programs(parser: argparse.ArgumentParser) -> None:
    """The options that both tools have."""
    parser.add_argument("--c-bin", metavar="PATH", help="the C program: any nanoBragg [$NB_C_BIN, else c_reference]")
    parser.add_argument("--py-flags", metavar="FLAGS", default="", help="more flags, for the Python alone")
    parser.add_argument("--c-flags", metavar="FLAGS", default="", help="more flags, for the C program alone")
    parser.add_argument("--bundle", action="store_true", help="write an evidence bundle into bundles/")


@dataclass(frozen=True)
class Pair:
    """The words for each program; ``notes`` say what was left out or added."""

    py: tuple[str, ...]
    c: tuple[str, ...]
    only_py: tuple[str, ...]
    only_c: tuple[str, ...]
    inputs: tuple[Path, ...]
    notes: tuple[str, ...]


def split_words(text: str, flag: str) -> list[str]:
    """``text`` as a shell splits it. Raises UsageError for an unclosed quote."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{flag} {text!r}", str(error).lower(), "Close the quotes") from None


def pair_of(words: Sequence[str], py_flags: str = "", c_flags: str = "") -> Pair:
    """One command line for both programs, and each one's own flags after it.

    Inputs get absolute paths, since each program runs in a folder of its own; output flags are left out. Raises
    UsageError for a flag or value that is wrong, FileError for an input that does not exist.
    """
    given = list(occurrences(words))
    if any("help" in each.flag.targets for each in given):
        raise UsageError(
            "-h among the flags", "nothing would be simulated", "Leave it out; nanoBragg -h prints the flags"
        )
    inputs: list[Path] = []
    notes: list[str] = []
    both, python = _rewritten(given, inputs, notes)
    both += _seeded(given, notes) + _dumped(given, inputs, notes)
    own: list[list[str]] = []
    for text, flag in ((py_flags, "--py-flags"), (c_flags, "--c-flags")):
        extra = list(occurrences(split_words(text, flag)))
        own.append([word for group in _rewritten(extra, inputs, notes) for word in group])
    return Pair(
        py=(*both, *python, *own[0]),
        c=(*both, *own[1]),
        only_py=tuple(own[0]),
        only_c=tuple(own[1]),
        inputs=tuple(dict.fromkeys(inputs)),
        notes=tuple(notes),
    )


def _rewritten(given: Sequence[Occurrence], inputs: list[Path], notes: list[str]) -> tuple[list[str], list[str]]:
    """(words for both programs, words for the Python alone)."""
    both: list[str] = []
    python: list[str] = []
    writes_dump = any("hkl" in each.flag.targets for each in given)
    for each in given:
        targets = frozenset(each.flag.targets)
        if targets & (OUTPUTS | PRINTED) or ("dump" in targets and writes_dump):
            if each.flag.values:
                notes.append(f"{each.words[0]} is left out: it says what to write or print, not what to simulate")
        elif targets & PYTHON_ONLY:
            python += each.words
        elif targets & INPUTS or "dump" in targets:
            path = _existing(each.words[1], each.words[0])
            inputs.append(path)
            both += [each.words[0], str(path)]
        else:
            both += each.words
    return both, python


def _existing(name: str, flag: str) -> Path:
    path = Path(name).expanduser().resolve()
    if not path.is_file():
        raise FileError(f"{flag} {name}", "there is no such file", "Check the name and the folder")
    return path


def _seeded(given: Sequence[Occurrence], notes: list[str]) -> list[str]:
    """A seed, where without one each program would draw an orientation of its own."""
    targets = {target for each in given for target in each.flag.targets}
    if not any(each.value == "random" for each in given) or targets & SEEDS:
        return []
    notes.append("-misset random without a seed: both were given -misset_seed 1")
    return ["-misset_seed", "1"]


def _dumped(given: Sequence[Occurrence], inputs: list[Path], notes: list[str]) -> list[str]:
    """The dump that lies in the working folder, which a program run there would read."""
    targets = {target for each in given for target in each.flag.targets}
    path = Path(DUMP).resolve()
    if targets & {"hkl", "dump"} or not path.is_file():
        return []
    inputs.append(path)
    notes.append(f"structure factors from {DUMP}, because there is no -hkl")
    return ["-dump", str(path)]


def exit_code(tool: str, work: Callable[[], int]) -> int:
    """What ``work`` returns; an error's paragraph on stderr and its code otherwise."""
    from nbtorch.nanobragg.compare.programs import RunnerError

    try:
        return work()
    except NbtorchError as error:
        print(f"{tool}: {error}", file=sys.stderr)
        if isinstance(error, UsageError):
            return USAGE
        # an error of another kind is about what the flags ask for: no program could simulate it
        return FILES if isinstance(error, FileError | DataError) and not isinstance(error, RunnerError) else RUNNER


def check_folder(path: Path, *, overwrite: bool) -> None:
    """Raises FileError when ``path`` cannot be written to: it is a file, or holds files without ``overwrite``."""
    if path.exists() and not path.is_dir():
        raise FileError(str(path), "it is a file", "Choose another folder")
    if path.is_dir() and not overwrite and any(path.iterdir()):
        raise FileError(str(path), "it holds files already", "Choose another folder, or add --overwrite")


def write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    """Write each text under its name in ``folder``, which is made when absent. Raises FileError."""
    from nbtorch.io.atomic import write_text

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(str(folder), f"it cannot be made ({error.strerror})", "Choose another folder") from error
    for name, text in texts.items():
        write_text(folder / name, text, overwrite=True)


def dumps(content: Mapping[str, Any]) -> str:
    """``content`` as JSON text; numbers that are not finite become their names."""
    from nbtorch.nanobragg.compare.trace_report import plain

    return json.dumps(plain(dict(content)), indent=2, allow_nan=False) + "\n"
