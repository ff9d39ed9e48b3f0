"""The table of a batch: one row a fit, as batch.csv and batch.json, and on the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from nbtorch.errors import ConfigError, NbtorchError
from nbtorch.io.table import read_json, write_csv, write_json
from refine.records.run_folder import RESULT
from refine.report import numbers

CSV, JSON = "batch.csv", "batch.json"
OK, UNCONVERGED, FAILED, WAITING = "ok", "not converged", "failed", "waiting"
_WIDTH, _NUMBER = 53, 17  # characters of the columns that are always shown, and of a value with its sigma
_MAX_ROWS = 60  # of the terminal's table; the files hold all


class Number(NamedTuple):
    """A refined value; ``sigma`` is None where the data do not determine it."""

    value: float
    sigma: float | None
    unit: str


@dataclass(frozen=True)
class BatchRow:
    """One fit: how it ended and, where it did, what it found. rms in pixels; ``chi_square`` is the reduced one."""

    name: str
    experiment: str
    status: str = WAITING
    reason: str = ""
    spots: int | None = None
    rms_fast_px: float | None = None
    rms_slow_px: float | None = None
    rms_heldout_fast_px: float | None = None
    rms_heldout_slow_px: float | None = None
    chi_square: float | None = None
    solve_s: float | None = None
    parameters: Mapping[str, Number] = field(default_factory=dict)


def row_of(waiting: BatchRow, folder: Path) -> BatchRow:
    """``waiting`` with what the result in ``folder`` says. Raises NbtorchError where that cannot be read."""
    found = read_json(folder / RESULT)
    try:
        return _filled(waiting, found)
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"{folder / RESULT}", f"it is no result of a fit ({error})", "Remove it, or give --overwrite"
        ) from error


def _filled(waiting: BatchRow, found: Mapping[str, Any]) -> BatchRow:
    rms, held = (found["spots"][name] or (None, None) for name in ("rms_end_px", "rms_heldout_px"))
    status, reason = _ended(found)
    return replace(
        waiting,
        status=status,
        reason=reason,
        spots=found["spots"]["used"],
        rms_fast_px=rms[0],
        rms_slow_px=rms[1],
        rms_heldout_fast_px=held[0],
        rms_heldout_slow_px=held[1],
        chi_square=found["goodness"]["reduced_chi_square"],
        solve_s=found["timing"]["solve_wall_s"],
        parameters={
            row["name"]: Number(row["value"], row["sigma"], row["unit"])
            for row in found["parameters"]
            if row["free"] and row["tied_to"] is None
        },
    )


def _ended(found: Mapping[str, Any]) -> tuple[str, str]:
    """How the fit of a result ended, and what there is to say about it."""
    verdict = found["verdict"]
    told = "; ".join(row["sentence"] for row in verdict["findings"] if row["level"] == verdict["level"])
    if verdict["level"] == "failed":
        return FAILED, told
    if not found["converged"]:
        return UNCONVERGED, str(found["message"])
    return OK, told


def row_from(plain: Mapping[str, Any]) -> BatchRow:
    """The row that batch.json holds as ``plain``."""
    known = {item.name for item in fields(BatchRow)}
    numbers_ = {name: Number(**number) for name, number in plain["parameters"].items()}
    return BatchRow(**{key: value for key, value in plain.items() if key in known} | {"parameters": numbers_})


def stopped(folder: Path) -> bool:
    """Whether ``folder`` holds no result, or that of a fit which was stopped: one that is to go on."""
    try:
        return bool(read_json(folder / RESULT)["stopped_by"])
    except (NbtorchError, KeyError, TypeError):
        return True


def write_table(folder: Path, head: Mapping[str, Any], rows: Sequence[BatchRow]) -> None:
    """Write batch.csv and batch.json, each moved into place whole; ``head`` are the first keys of the latter."""
    write_json(folder / JSON, {**head, "fits": [_plain(row) for row in rows]}, overwrite=True)
    names = parameter_names(rows)
    columns = [item.name for item in fields(BatchRow) if item.name != "parameters"]
    header = columns + [column for name in names for column in (name, f"{name} sigma")]
    write_csv(folder / CSV, header, [_cells(row, columns, names) for row in rows], overwrite=True)


def _plain(row: BatchRow) -> dict[str, Any]:
    return {**asdict(row), "parameters": {name: number._asdict() for name, number in row.parameters.items()}}


def _cells(row: BatchRow, columns: Sequence[str], names: Sequence[str]) -> list[object]:
    cells = [getattr(row, name) for name in columns]
    for name in names:
        number = row.parameters.get(name)
        cells += [None, None] if number is None else [number.value, number.sigma]
    return cells


def parameter_names(rows: Sequence[BatchRow]) -> list[str]:
    """The parameters of all ``rows``, in the order in which they first come."""
    return list(dict.fromkeys(name for row in rows for name in row.parameters))


def printed(rows: Sequence[BatchRow], width: int) -> Table:
    """The table on a terminal of ``width`` characters: those that failed, then as many others as have room."""
    chosen = sorted(rows, key=lambda row: row.status == OK)[:_MAX_ROWS]
    kept = {row.name for row in chosen}
    shown = [row for row in rows if row.name in kept]
    room = width - _WIDTH - max((len(row.name) for row in shown), default=0)
    every = parameter_names(shown)
    ends = accumulate(max(len(name), _NUMBER) + 2 for name in every)
    names = [name for name, end in zip(every, ends, strict=True) if end <= room]
    units = {name: number.unit for row in shown for name, number in row.parameters.items()}
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("fit", no_wrap=True)
    table.add_column("how it ended", no_wrap=True)
    for name in ("spots", "rms, px", "χ²", *(f"{name}\n{units[name]}" for name in names), "s"):
        table.add_column(name.replace("[", r"\["), justify="right", no_wrap=True)
    for row in shown:
        table.add_row(*_printed_cells(row, names))
    if len(rows) > len(shown):
        table.caption = f"… and {len(rows) - len(shown)} more in {CSV}"
    return table


def _printed_cells(row: BatchRow, names: Sequence[str]) -> list[str]:
    rms = None if row.rms_fast_px is None or row.rms_slow_px is None else (row.rms_fast_px, row.rms_slow_px)
    found = [row.parameters.get(name) for name in names]
    return [
        row.name.replace("[", r"\["),
        row.status,
        "" if row.spots is None else str(row.spots),
        "" if rms is None else numbers.pair(rms),
        "" if row.chi_square is None else f"{row.chi_square:.2f}",
        *("" if number is None else numbers.with_sigma(number.value, number.sigma) for number in found),
        "" if row.solve_s is None else f"{row.solve_s:.1f}",
    ]


def reasons(rows: Sequence[BatchRow]) -> list[str]:
    """Why fits are not ok, a line each."""
    lines = [f"{row.name}: {row.reason}" for row in rows if row.reason]
    more = len(lines) - _MAX_ROWS
    return [*lines[:_MAX_ROWS], f"… and {more} more in {CSV}"] if more > 0 else lines


def tally(rows: Sequence[BatchRow]) -> str:
    """How many ended how: "2 ok, 1 failed"."""
    counted = Counter(row.status for row in rows)
    return ", ".join(f"{counted[status]} {status}" for status in (OK, UNCONVERGED, FAILED, WAITING) if counted[status])
