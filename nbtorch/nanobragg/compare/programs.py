"""The two programs: where a C nanoBragg is found or built, and how either is run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nbtorch.errors import FileError, NbtorchError
from nbtorch.io.float_image import read_float_image
from nbtorch.io.smv import read_smv

ENVIRONMENT = "NB_C_BIN"
SHIPPED = "nanoBragg_c"
ROOT = Path(__file__).resolve().parents[3]
HOW_TO_GET_ONE = (
    "Take nbtorch's sources and run make -C c_reference there, or name any nanoBragg with --c-bin PATH or in the "
    f"environment variable {ENVIRONMENT}"
)


class RunnerError(NbtorchError):
    """A program that cannot be found, built or started, or that failed."""


@dataclass(frozen=True)
class Program:
    """A nanoBragg: the words that start it. ``shipped``: it is nbtorch's own c_reference."""

    name: str
    command: tuple[str, ...]
    shipped: bool = False


@dataclass(frozen=True)
class Run:
    """A finished run: what was typed, what was printed, and how long it took, start included."""

    command: tuple[str, ...]
    code: int
    out: str
    err: str
    seconds: float


def python_program(given: str | None = None) -> Program:
    """nbtorch's command in a process of its own, or the program named ``given``."""
    if given is not None:
        return Program("Python", (str(_executable(given, "--py-bin")),))
    return Program("Python", (sys.executable, "-m", "nbtorch.nanobragg.cli.nanobragg"))


def c_program(given: str | None = None, checkout: Path = ROOT) -> Program:
    """The C program: ``given``, else $NB_C_BIN, else the checkout's c_reference, built when it is out of date.

    Raises RunnerError, which says how to get one.
    """
    named = given or os.environ.get(ENVIRONMENT)
    if named:
        path = _executable(named, "--c-bin" if given else ENVIRONMENT)
        return Program("C", (str(path),), shipped=path.name == SHIPPED)
    sources = checkout / "c_reference"
    if not (sources / "Makefile").is_file():
        raise RunnerError(
            "no C program was named",
            "the installed package carries none: it would not be a second opinion",
            HOW_TO_GET_ONE,
        )
    built = sources / SHIPPED
    if not _is_current(built, sources):
        _build(sources, built)
    return Program("C", (str(built),), shipped=True)


def _executable(name: str, flag: str) -> Path:
    found = shutil.which(name) or (name if Path(name).is_file() else None)
    if found is None or not os.access(found, os.X_OK):
        raise RunnerError(f"{flag} {name}", "there is no such program that can be run", "Check the name")
    return Path(found).resolve()


def _is_current(built: Path, sources: Path) -> bool:
    if not built.is_file():
        return False
    written = [path.stat().st_mtime for path in sources.iterdir() if path.suffix in (".c", ".h")]
    return built.stat().st_mtime >= max(written)


def _build(sources: Path, target: Path) -> None:
    """Build in a temporary folder and move the program into place: two builds at once do not meet."""
    if shutil.which("make") is None or shutil.which(os.environ.get("CC", "cc")) is None:
        raise RunnerError(f"the C program in {sources}", "it takes make and a C compiler to build it", HOW_TO_GET_ONE)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=sources) as folder:
        command = ["make", "-C", str(sources), f"BUILD={folder}", f"{folder}/{SHIPPED}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RunnerError(f"make in {sources}", f"it failed: {_last_line(done.stderr)}", HOW_TO_GET_ONE)
        Path(folder, SHIPPED).replace(target)


def run(program: Program, words: Sequence[str], folder: Path) -> Run:
    """Run ``program`` with the flags ``words`` in ``folder``. Raises RunnerError when it fails."""
    command = (*program.command, *words)
    start = time.perf_counter()
    try:
        done = subprocess.run(
            command, cwd=folder, env=_environment(), capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise RunnerError(program.command[0], f"it does not start ({error.strerror})", HOW_TO_GET_ONE) from error
    seconds = time.perf_counter() - start
    finished = Run(command, done.returncode, done.stdout, done.stderr, seconds)
    if done.returncode != 0:
        raise RunnerError(
            f"the {program.name} program", f"exit code {done.returncode}: {_last_line(done.stderr)}", "Change the flags"
        )
    return finished


def _environment() -> Mapping[str, str]:
    """This process' environment, where a Python started in another folder finds this very package."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip().rstrip(".") if lines else "it says nothing"


#: What makes any nanoBragg write a float image, an SMV header that tells its shape, and nothing else.
IMAGE_FLAGS = ("-floatfile", "float.bin", "-intfile", "int.img", "-nopgm", "-nonoise")


def run_image(program: Program, words: Sequence[str], folder: Path) -> tuple[Run, NDArray[np.float32]]:
    """Run in the empty ``folder`` and read the float image [slow, fast].

    Raises RunnerError when the program fails, FileError when it wrote no image.
    """
    folder.mkdir(parents=True)
    finished = run(program, (*words, *IMAGE_FLAGS), folder)
    for name in ("float.bin", "int.img"):
        if not (folder / name).is_file():
            raise FileError(f"the {program.name} program", f"it ended well but wrote no {name}", "Try it by hand")
    shape = read_smv(folder / "int.img").counts.shape
    return finished, read_float_image(folder / "float.bin", (int(shape[0]), int(shape[1])))
