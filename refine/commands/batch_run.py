"""A batch as it goes on: what is finished, what is left, and the table of both."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from nbtorch import __version__
from nbtorch.errors import ConfigError, NbtorchError
from nbtorch.io.table import read_json
from refine.commands.batch import INTERRUPTED, Member, fit_all
from refine.commands.batch_table import (
    CSV,
    FAILED,
    JSON,
    OK,
    UNCONVERGED,
    WAITING,
    BatchRow,
    printed,
    reasons,
    row_from,
    row_of,
    stopped,
    tally,
    write_table,
)
from refine.commands.launch import EXIT_FAILED
from refine.report.summary import PIPE_WIDTH

EXIT_INTERRUPTED = 130
_FREE = "solver.max_iterations"  # may differ when a batch goes on


class Batch:
    """The fits of a folder, and their table."""

    def __init__(
        self,
        chosen: Sequence[Member],
        into: Path,
        settings: Mapping[str, Any],
        command: Sequence[str],
        *,
        overwrite: bool,
    ) -> None:
        self.members, self.into, self.command = list(chosen), into, list(command)
        self.settings = {key: value for key, value in settings.items() if not key.startswith("trainer.")}
        self.overwrite = overwrite
        self.before: dict[str, Any] = {} if overwrite else self._read_before()
        # fits of the same batch that this command does not name stay in the table
        self.rows = {row["name"]: row_from(row) for row in self.before.get("fits", ())}
        self.rows |= {member.name: _waiting(member) for member in chosen}

    def _read_before(self) -> dict[str, Any]:
        """batch.json of the batch that this one goes on with. Raises ConfigError where it is another one."""
        if not (self.into / JSON).exists():
            if (self.into / CSV).exists():
                raise ConfigError(f"{self.into / CSV}", "it is no batch's", "Give another --into, or --overwrite")
            return {}
        before = read_json(self.into / JSON)
        if not isinstance(before, dict) or not {"settings", "fits"} <= before.keys():
            raise ConfigError(f"{self.into / JSON}", "it is no table of a batch", "Give another --into, or --overwrite")
        ours, theirs = self.settings, before["settings"]
        changed = sorted(k for k in ours.keys() | theirs.keys() if k != _FREE and ours.get(k) != theirs.get(k))
        if changed:
            raise ConfigError(
                f"--into {self.into}",
                f"the batch there was begun with other settings ({changed[0]} was {theirs.get(changed[0])})",
                "Give the same ones, another --into, or --overwrite",
            )
        places = {row["name"]: row["experiment"] for row in before["fits"]}
        for member in self.members:
            if places.get(member.name, str(member.experiment)) != str(member.experiment):
                raise ConfigError(
                    f"{member.experiment}", f"{member.folder} holds the fit of {places[member.name]}", "Rename it"
                )
        return before

    def run(self, overrides: Sequence[str], jobs: int) -> int:
        """Fit what is not finished, keeping the table; the exit code."""
        waiting = [member for member in self.members if not self._finished(member)]
        self.write()
        console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
        finished = len(self.members) - len(waiting)
        if finished:
            console.print(f"{finished} of {len(self.members)} fits are finished and stay as they are", highlight=False)
        interrupted = False
        try:
            with _terminable(), _progress(console, len(self.members), finished) as tell:

                def done(member: Member, reason: str) -> None:
                    self._ended(member, reason)
                    self.write()
                    tell(self.rows[member.name])

                fit_all(waiting, overrides, jobs, done)
        except KeyboardInterrupt:
            interrupted = True
        rows = list(self.rows.values())
        console.print(printed(rows, console.width))
        for line in reasons(rows):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        console.print(f"{tally(rows)}: {(self.into / CSV).absolute()}", markup=False, highlight=False, soft_wrap=True)
        if interrupted:
            print("nb-refine batch: interrupted; give the same command to go on", file=sys.stderr)
            return EXIT_INTERRUPTED
        return 0 if any(row.status in (OK, UNCONVERGED) for row in rows) else EXIT_FAILED

    def _finished(self, member: Member) -> bool:
        """Whether there is nothing left to do for ``member``; its row then holds what was found."""
        if self.overwrite or stopped(member.folder):
            return False
        try:
            row = row_of(self.rows[member.name], member.folder)
        except NbtorchError:
            return False
        allowed = self.before.get("settings", {}).get(_FREE, self.settings[_FREE])
        if row.status == UNCONVERGED and self.settings[_FREE] > allowed:
            return False
        self.rows[member.name] = row
        return True

    def _ended(self, member: Member, reason: str) -> None:
        """Enter how the fit of ``member`` ended."""
        row = _waiting(member)
        try:
            if reason == INTERRUPTED or (not reason and stopped(member.folder)):
                row = replace(row, status=WAITING, reason=INTERRUPTED)
            else:
                row = replace(row, status=FAILED, reason=reason) if reason else row_of(row, member.folder)
        except NbtorchError as error:
            row = replace(row, status=FAILED, reason=str(error))
        self.rows[member.name] = row

    def write(self) -> None:
        """Write the table as it stands. A disk that is full costs the table of this moment, not the batch."""
        head = {
            "version": __version__,
            "command": f"nb-refine {shlex.join(self.command)}",
            "settings": self.settings,
        }
        try:
            write_table(self.into, head, list(self.rows.values()))
        except OSError as error:
            print(f"nb-refine batch: the table was not written ({error.strerror or error})", file=sys.stderr)


def _waiting(member: Member) -> BatchRow:
    return BatchRow(member.name, str(member.experiment))


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM interrupts as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _progress(console: Console, total: int, finished: int) -> Iterator[Callable[[BatchRow], None]]:
    """A bar on a terminal, and a line for each fit that ends."""
    number = finished

    def line(row: BatchRow) -> str:
        nonlocal number
        number += 1
        rms = "" if row.rms_fast_px is None else f", rms {row.rms_fast_px:.2f} / {row.rms_slow_px:.2f} px"
        took = "" if row.solve_s is None else f", {row.solve_s:.1f} s"
        return f"{number}/{total} {row.name}: {row.status}{rms}{took}"

    def tell(row: BatchRow) -> None:
        console.print(line(row), markup=False, highlight=False, soft_wrap=True)

    if not console.is_terminal:
        yield tell
        return
    columns = [TextColumn("fits"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("fits", total=total, completed=finished)

        def advance(row: BatchRow) -> None:
            tell(row)
            bar.advance(task)

        yield advance
