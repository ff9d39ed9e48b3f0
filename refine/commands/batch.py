"""Many fits, each of its own experiment, in its own folder and its own process: one that fails costs itself alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from nbtorch.errors import ConfigError, FileError, NbtorchError
from nbtorch.io.paths import one_line
from refine.settings.locate import find_frames

LOG = "output.txt"
INTERRUPTED = "it was interrupted; give the same command to go on"
# What every fit imports: once, in the process that the others are forked from.
PRELOADED = [
    "refine.commands.launch",
    "refine.fit.prepare",
    "refine.conclude.conclude",
    "refine.report.report",
    "refine.report.result",
    "refine.report.summary",
    "refine.fit.training",
]


@dataclass(frozen=True)
class Member:
    """One fit of a batch."""

    name: str
    experiment: Path
    folder: Path


def members(patterns: Sequence[str], into: Path) -> list[Member]:
    """A fit for every file that ``patterns`` name, in their order; it is called after its file.

    Files of one name get those of their folders too. Raises FileError for a pattern that names none.
    """
    paths: dict[Path, None] = {}
    for pattern in patterns:
        found = [Path(pattern)] if Path(pattern).is_file() else find_frames(pattern)
        if not found:
            raise FileError(pattern, "no file matches", "Check the folder and the pattern")
        paths |= dict.fromkeys(path.absolute() for path in found)
    stems = [path.stem for path in paths]
    shared = Path(os.path.commonpath([path.parent for path in paths]))
    names = stems if len(set(stems)) == len(stems) else ["_".join(_below(path, shared)) for path in paths]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"two experiments called {twice}", "their results would share a folder", "Rename one")
    return [Member(name, path, into / name) for name, path in zip(names, paths, strict=True)]


def _below(path: Path, folder: Path) -> tuple[str, ...]:
    return path.with_suffix("").relative_to(folder).parts


def fit_all(
    waiting: Sequence[Member], overrides: Sequence[str], jobs: int, done: Callable[[Member, str], None]
) -> None:
    """Fit every member, ``jobs`` at a time; ``done`` is told each that ended and why it failed, "" where it did not.

    On KeyboardInterrupt the fits that run end after their iteration and are told too; then it is raised again.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    queue, running = deque(waiting), dict[int, tuple[Any, Connection, Member]]()

    def take(sentinel: int) -> None:
        process, receiver, member = running.pop(sentinel)
        process.join()
        done(member, _reason(process.exitcode, receiver, member))

    try:
        while queue or running:
            while queue and len(running) < jobs:
                member = queue.popleft()
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_fit, args=(member, list(overrides), sender), name=member.name)
                process.start()
                sender.close()
                running[process.sentinel] = (process, receiver, member)
            for sentinel in wait(list(running)):
                assert isinstance(sentinel, int)
                take(sentinel)
    except BaseException:
        for process, _, _ in running.values():
            process.terminate()  # SIGTERM: it stops after its iteration
        for sentinel in list(running):
            take(sentinel)
        raise


def _reason(exit_code: int | None, receiver: Connection, member: Member) -> str:
    """Why a process that has ended failed: what it said, or else how it ended."""
    with receiver:
        try:
            if receiver.poll():
                return str(receiver.recv_bytes().decode())
        except (EOFError, OSError):
            pass
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        killed = "; the system does that to a process that needs more memory than there is" if name == "SIGKILL" else ""
        return INTERRUPTED if name in ("SIGTERM", "SIGINT") else f"its process was ended by {name}{killed}"
    return f"its process ended with exit code {exit_code}: see {member.folder / LOG}"


def _fit(member: Member, overrides: list[str], tell: Connection) -> None:
    """One fit, in a process of its own."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    reason = ""
    try:
        _write_to(member.folder / LOG)
        from refine.commands.launch import EXIT_VERDICT, launch
        from refine.settings.overrides import prepare

        given = [f"data.experiment={member.experiment}", f"hydra.run.dir={member.folder}", *overrides]
        code = launch(prepare(given), given)
        reason = f"exit code {code}: see {member.folder / LOG}" if code not in (0, EXIT_VERDICT) else ""
    except NbtorchError as error:
        reason = str(error)
        print(f"nb-refine: {reason}", file=sys.stderr)
    except KeyboardInterrupt:
        reason = INTERRUPTED
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {one_line(error)} (see {member.folder / LOG})"
    sys.stdout.flush()
    sys.stderr.flush()
    tell.send_bytes(reason.encode())


def _write_to(log: Path) -> None:
    """What this process prints goes to the end of ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)


def _end_with_parent() -> None:
    """End at once when the batch has: the checkpoint of the last iteration is there to go on from."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)
