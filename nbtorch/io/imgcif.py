"""imgCIF through CBFlib (pycbf): packed compression, several arrays, arrays cut into the sections of a detector."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbtorch.errors import FileError
from nbtorch.io.paths import one_line

Array = NDArray[Any]


def read_imgcif(content: bytes, path: Path) -> tuple[tuple[Array, ...], tuple[str, ...]]:
    """The panels [slow, fast] of an imgCIF file, in the file's order, and their names.

    A panel is a section of an array where the file lists sections, else an image of an array. Raises FileError where
    pycbf is missing or cannot decode the file.
    """
    pycbf = _pycbf(path)
    handle = pycbf.cbf_handle_struct()
    try:
        handle.read_buffer(content, pycbf.MSG_DIGEST | pycbf.CBF_PARSE_WIDE)
        arrays = _arrays(pycbf, handle)
        sections = _sections(handle)
    except Exception as error:  # CBFlib raises plain Exception
        raise FileError(str(path), f"CBFlib cannot decode it ({one_line(error)})", "Copy it again") from error
    if not sections:
        return _whole(arrays)
    return _cut(arrays, sections, path)


def _pycbf(path: Path) -> ModuleType:
    try:
        with warnings.catch_warnings():
            # SWIG's import warns of deprecated types, and segfaults where warnings are errors.
            warnings.simplefilter("ignore", DeprecationWarning)
            import pycbf
    except ImportError as error:
        raise FileError(
            str(path),
            "this CBF is not a single byte-offset image, and pycbf, which decodes the others, is not installed",
            "pip install pycbf (or nbtorch[cbf])",
        ) from error
    return pycbf


def _arrays(pycbf: ModuleType, handle: Any) -> dict[str, Array]:
    """The binary arrays [depth, slow, fast] by array id."""
    handle.find_category(b"array_data")
    handle.find_column(b"data")
    arrays = {}
    for row in range(handle.count_rows()):
        handle.find_column(b"data")
        handle.select_row(row)
        values = _values(handle)
        name = f"array{row}"
        if _has_column(handle, b"array_id"):
            name = handle.get_value().decode()
        arrays[name] = _shaped(handle, name, values)
        handle.find_category(b"array_data")
    return arrays


def _shaped(handle: Any, name: str, values: Array) -> Array:
    """``values`` as [depth, slow, fast] where old binary headers leave that to _array_structure_list."""
    if values.ndim == 3:
        return values
    handle.find_category(b"array_structure_list")
    sizes = {}
    for row in range(handle.count_rows()):
        if _cell(handle, row, b"array_id") == name:
            sizes[int(_cell(handle, row, b"precedence"))] = int(_cell(handle, row, b"dimension"))
    return values.reshape(sizes.get(3, 1), sizes[2], sizes[1])


def _values(handle: Any) -> Array:
    try:
        parameters = handle.get_integerarrayparameters_wdims()
        real = False
    except Exception:  # CBFlib: the array holds reals
        parameters = handle.get_realarrayparameters_wdims()
        real = True
    size = parameters[2]
    fast, slow, depth = (max(int(n), 1) for n in parameters[-4:-1])
    if real:
        flat = np.frombuffer(handle.get_realarray_as_string(), f"=f{size}")
    else:
        kind = "i" if parameters[3] else "u"  # CBFlib hands numbers over in the machine's order
        flat = np.frombuffer(handle.get_integerarray_as_string(), f"={kind}{size}")
    return flat if depth * slow * fast == 1 < flat.size else flat.reshape(depth, slow, fast)


def _has_column(handle: Any, name: bytes) -> bool:
    try:
        handle.find_column(name)
    except Exception:  # CBFlib's way of saying no
        return False
    return True


def _sections(handle: Any) -> dict[str, tuple[str, dict[int, slice]]]:
    """section name → (array id, axis 1 fast … 3 slowest → slice). Empty where the file lists none."""
    try:
        handle.find_category(b"array_structure_list_section")
    except Exception:  # CBFlib's way of saying no
        return {}
    handle.find_column(b"id")
    sections: dict[str, tuple[str, dict[int, slice]]] = {}
    for row in range(handle.count_rows()):
        array, name, index, start, end = (
            _cell(handle, row, key) for key in (b"array_id", b"id", b"index", b"start", b"end")
        )
        sections.setdefault(name, (array, {}))[1][int(index)] = slice(int(start) - 1, int(end))
    return sections


def _cell(handle: Any, row: int, column: bytes) -> str:
    handle.find_column(column)
    handle.select_row(row)
    return str(handle.get_value().decode())


def _whole(arrays: dict[str, Array]) -> tuple[tuple[Array, ...], tuple[str, ...]]:
    panels = {
        name if len(values) == 1 else f"{name}_{layer}": image
        for name, values in arrays.items()
        for layer, image in enumerate(values)
    }
    return tuple(panels.values()), tuple(panels)


def _cut(
    arrays: dict[str, Array], sections: dict[str, tuple[str, dict[int, slice]]], path: Path
) -> tuple[tuple[Array, ...], tuple[str, ...]]:
    panels = []
    for name, (array, axes) in sections.items():
        if array not in arrays:
            raise FileError(
                f"{path}, section {name}", f"it belongs to array {array}, which holds no data", "Copy it again"
            )
        block = arrays[array][axes.get(3, slice(None)), axes.get(2, slice(None)), axes.get(1, slice(None))]
        if block.shape[0] != 1 or 0 in block.shape:
            raise FileError(f"{path}, section {name}", f"its extent {block.shape} is not one image", "Check the file")
        panels.append(np.ascontiguousarray(block[0]))
    return tuple(panels), tuple(sections)
