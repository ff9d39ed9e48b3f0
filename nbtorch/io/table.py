"""CSV and JSON tables, written atomically."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbtorch.errors import DataError, FileError
from nbtorch.io.atomic import write_text
from nbtorch.io.paths import find_file, read_text


def write_csv(
    path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[object]], *, overwrite: bool = False
) -> Path:
    """Write ``rows`` under a header line of ``columns``. Raises DataError for a row of another length."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    for number, row in enumerate(rows, 1):
        if len(row) != len(columns):
            raise DataError(f"row {number} for {path}", f"it has {len(row)} values for {len(columns)} columns", "Match")
        writer.writerow(row)
    return write_text(path, stream.getvalue(), overwrite=overwrite)


def read_csv(path: str | Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a header line, as text. Raises FileError naming the first line of another width."""
    found = find_file(path)
    reader = csv.reader(io.StringIO(read_text(found)))
    header = [name.strip() for name in next(reader, [])]
    if not header:
        raise FileError(str(found), "it has no header line", "Give the column names on the first line")
    rows = []
    for row in reader:
        if not row:
            continue
        if len(row) != len(header):
            raise FileError(
                str(found), f"line {reader.line_num} has {len(row)} values for {len(header)} columns", "Repair the line"
            )
        rows.append(dict(zip(header, row, strict=True)))
    return rows


def write_json(path: str | Path, document: object, *, overwrite: bool = False, indent: int = 1) -> Path:
    """Write ``document`` as JSON. JSON knows neither NaN nor infinity: both are written as null."""
    text = json.dumps(_plain(document), indent=indent, allow_nan=False)
    return write_text(path, text + "\n", overwrite=overwrite)


def read_json(path: str | Path) -> Any:
    """The content of a JSON file. Raises FileError naming the line and column where it is not JSON."""
    found = find_file(path)
    try:
        return json.loads(read_text(found))
    except json.JSONDecodeError as error:
        raise FileError(
            str(found),
            f"it is not JSON: {error.msg} at line {error.lineno}, column {error.colno}",
            "Check that the file is whole",
        ) from error
    except RecursionError as error:
        raise FileError(str(found), "its JSON is nested too deeply", "Check that it is the right file") from error


def _plain(value: object) -> object:
    if hasattr(value, "tolist"):  # numpy scalars and arrays, torch tensors
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
