"""The folder that a run leaves its results in: claimed before anything is written, and never shared by two runs."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nbtorch.errors import ConfigError, FileError
from refine.processes import is_first

CONFIG, RUN, RESULT, REFINED, SPOTS, REPORT, CHECK, AMPLITUDES = (
    "config.yaml",
    "run.json",
    "result.json",
    "refined.expt",
    "spots.csv",
    "report.html",
    "check.html",
    "amplitudes.mtz",
)
CHECKPOINT = "checkpoints/last.ckpt"
LOGS = "logs"
LOCK = ".nb-refine.lock"
#: What a fit writes. A folder that holds one of these holds a run.
OUTPUTS = (CONFIG, RUN, RESULT, REFINED, SPOTS, REPORT, AMPLITUDES, CHECKPOINT)


@dataclass(frozen=True)
class RunFolder:
    """A claimed folder. ``checkpoint`` is what a resumed run goes on from, None when it starts."""

    path: Path
    checkpoint: Path | None = None

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def clear(self) -> None:
        """Remove the outputs of the run before (ours alone): called when the new run has something to put there."""
        for name in OUTPUTS:
            (self.path / name).unlink(missing_ok=True)


def holds_a_run(folder: Path) -> bool:
    """Whether ``folder`` holds any file that a fit writes."""
    return any((folder / name).exists() for name in OUTPUTS)


@contextmanager
def claim(folder: Path, *, resume: bool = False, overwrite: bool = False) -> Iterator[RunFolder]:
    """Hold ``folder`` for one run; it is made if need be, and nothing in it is touched yet.

    Raises ConfigError for a folder that holds a run when not exactly one of ``resume`` and ``overwrite`` is asked for;
    FileError for one that cannot be written, or in which another run is going on.
    """
    checkpoint = folder / CHECKPOINT
    claimed = RunFolder(folder, checkpoint if resume and checkpoint.is_file() else None)
    if not is_first():  # the first process has claimed it for all
        yield claimed
        return
    if resume and overwrite:
        raise ConfigError("resume=true overwrite=true", "one keeps the run that the other discards", "Give one of them")
    if holds_a_run(folder) and not (resume or overwrite):
        raise ConfigError(
            f"run folder {folder}",
            "it holds a run",
            "Give resume=true to go on with it, overwrite=true to start again, or another hydra.run.dir",
        )
    with locked(folder):
        yield claimed


@contextmanager
def claim_output(folder: Path, name: str, *, overwrite: bool = False) -> Iterator[Path]:
    """The path of one output in ``folder``, for a command that leaves no run there. Raises as :func:`claim` does."""
    if (folder / name).exists() and not overwrite:
        raise ConfigError(f"run folder {folder}", f"it holds {name}", "Give overwrite=true, or another hydra.run.dir")
    with locked(folder):
        yield folder / name


@contextmanager
def locked(folder: Path, change: str = "Wait for it, or give another hydra.run.dir") -> Iterator[None]:
    """An advisory lock on ``folder``, which is made; the system drops it with the process however that ends.

    Raises FileError where the folder cannot be written, or, with ``change`` as what to do, where another run has it.
    """
    lock = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise FileError(
            f"run folder {folder}",
            f"it cannot be written ({error.strerror})",
            "Give a folder that you can write: hydra.run.dir=OUT",
        ) from error
    try:
        _take(handle, folder, change)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _take(handle: int, folder: Path, change: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise FileError(f"run folder {folder}", "another run is going on in it", change) from error
