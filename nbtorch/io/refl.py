"""Reflection tables of DIALS (.refl): MessagePack with one binary block a column. Read and written as plain arrays.

The layout is that of ``dials.array_family.flex.reflection_table.as_msgpack``: [name, version, {identifiers, nrows,
data: {column: [type, [rows, bytes]]}}], numbers little-endian.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from nbtorch.errors import FileError
from nbtorch.io.atomic import write_bytes
from nbtorch.io.paths import find_file, read_bytes
from nbtorch.io.pickles import is_pickle

NAME, VERSION = "dials::af::reflection_table", 1
#: Types of columns: how many numbers a row has, and of what kind.
TYPES: dict[str, tuple[int, str]] = {
    "bool": (1, "<u1"),
    "int": (1, "<i4"),
    "std::size_t": (1, "<u8"),
    "double": (1, "<f8"),
    "vec2<double>": (2, "<f8"),
    "vec3<double>": (3, "<f8"),
    "mat3<double>": (9, "<f8"),
    "int6": (6, "<i4"),
    "cctbx::miller::index<>": (3, "<i4"),
}
#: Bits of the column ``flags``.
INDEXED, USED_IN_REFINEMENT, CENTROID_OUTLIER = 1 << 2, 1 << 3, 1 << 17
_REMEDY = "Write it again with DIALS, and give the whole file"


@dataclass(frozen=True, eq=False)
class ReflectionTable:
    """``columns`` by name: [n] or [n, k] arrays; ``identifiers``: number in ``id`` → identifier of the experiment.

    ``skipped``: columns of types that are not numbers, such as shoeboxes, which were not read.
    """

    columns: Mapping[str, NDArray[Any]]
    identifiers: Mapping[int, str] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    path: Path | None = None

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A column. Raises FileError for one that the table does not have."""
        if name not in self.columns:
            held = ", ".join(sorted(self.columns)) or "no column"
            raise FileError(str(self.path), f"it has no column {name}; it has {held}", _REMEDY)
        return self.columns[name]


def read_refl(path: str | Path) -> ReflectionTable:
    """The table of ``path``. Raises FileError for what is no reflection table, is cut short or contradicts itself."""
    found = find_file(path)
    content = read_bytes(found)
    if is_pickle(content[:64]):
        raise FileError(
            str(found),
            "it is a reflection table of DIALS before version 3, a Python pickle, which may run any code",
            "Convert it with today's DIALS: flex.reflection_table.from_pickle(OLD).as_file(NEW)",
        )
    try:
        document = msgpack.unpackb(content, strict_map_key=False, raw=False, max_map_len=10**5, max_array_len=10**6)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:  # TypeError: a list as a key
        raise FileError(str(found), f"it is not a whole MessagePack file ({error})", _REMEDY) from error
    if not isinstance(document, list) or len(document) != 3 or document[0] != NAME:
        raise FileError(str(found), "it is no reflection table of DIALS", "Give a .refl, or a CSV of spots")
    return _table(document[2], found)


def _table(body: Any, path: Path) -> ReflectionTable:
    rows = body.get("nrows") if isinstance(body, dict) else None
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(rows, int) or not isinstance(data, dict):
        raise FileError(str(path), "it has no rows or no columns", _REMEDY)
    identifiers = body.get("identifiers") or {}
    columns, skipped = {}, []
    for name, column in data.items():
        values = _column(str(name), column, rows, path)
        if values is None:
            skipped.append(str(name))
        else:
            columns[str(name)] = values
    if not isinstance(identifiers, dict) or not all(isinstance(key, int) for key in identifiers):
        raise FileError(f"identifiers of {path}", "they are no map of numbers to identifiers", _REMEDY)
    known = {key: str(value) for key, value in identifiers.items()}
    return ReflectionTable(columns, known, tuple(skipped), path)


def _column(name: str, column: Any, rows: int, path: Path) -> NDArray[Any] | None:
    """One column; None for a type that is no table of numbers."""
    try:
        kind, (count, content) = column
        width, number = TYPES.get(kind, (0, ""))
    except (TypeError, ValueError) as error:
        raise FileError(f"column {name} of {path}", "it is not [type, [rows, bytes]]", _REMEDY) from error
    if width == 0:
        return None
    size = rows * width * np.dtype(number).itemsize
    if count != rows or not isinstance(content, bytes) or len(content) != size:
        raise FileError(f"column {name} of {path}", f"it does not hold the {rows} rows that the file says", _REMEDY)
    values = np.frombuffer(content, dtype=number).reshape((rows, width) if width > 1 else (rows,))
    return values.astype(bool) if kind == "bool" else values.copy()


def write_refl(path: str | Path, table: ReflectionTable, *, overwrite: bool = False) -> Path:
    """Write ``table`` as DIALS reads it; its path. Raises FileError for a file that is there, unless ``overwrite``."""
    rows = len(table)
    data = {name: [kind, [rows, content]] for name, (kind, content) in _packed(table.columns).items()}
    body = {"identifiers": {int(k): v for k, v in table.identifiers.items()}, "nrows": rows, "data": data}
    return write_bytes(path, msgpack.packb([NAME, VERSION, body], use_bin_type=True), overwrite=overwrite)


_WIDE = {1: "double", 2: "vec2<double>", 3: "vec3<double>", 9: "mat3<double>"}
_NAMED = {"miller_index": "cctbx::miller::index<>", "bbox": "int6", "panel": "std::size_t", "flags": "std::size_t"}


def _packed(columns: Mapping[str, NDArray[Any]]) -> dict[str, tuple[str, bytes]]:
    found = {}
    for name, values in columns.items():
        width = 1 if values.ndim == 1 else values.shape[1]
        numbers = _WIDE[width] if values.dtype.kind == "f" else "bool" if values.dtype.kind == "b" else "int"
        kind = _NAMED.get(name) or numbers
        found[name] = kind, np.ascontiguousarray(values, dtype=TYPES[kind][1]).tobytes()
    return found
