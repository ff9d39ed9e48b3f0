"""One layer of a data set, virtual or not. HDF5 fills what is missing with zeros: here that is an error."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nbtorch.errors import FileError
from nbtorch.io.hdf5.open import COPY, beside, follow, open_hdf5
from nbtorch.io.paths import MAX_BYTES, one_line

if TYPE_CHECKING:
    import h5py

Box = tuple[tuple[int, int], ...]  # first and past-the-last index on each axis
#: A virtual data set of virtual data sets … ends somewhere.
MAX_DEPTH = 8


def read_layer(data: h5py.Dataset, index: int | None, depth: int = 0) -> NDArray[Any]:
    """``data[index]``, or all of ``data`` where ``index`` is None.

    Raises FileError for data that were never written, sources that are missing or too short, unknown filters, damage.
    """
    box = (
        tuple((0, n) for n in data.shape) if index is None else ((index, index + 1), *((0, n) for n in data.shape[1:]))
    )
    values = _read_box(data, box, depth)
    return values if index is None else values[0]


def _read_box(data: h5py.Dataset, box: Box, depth: int) -> NDArray[Any]:
    if depth > MAX_DEPTH:
        raise FileError(_place(data), "its virtual data sets refer to one another in a circle", "Check the file")
    if data.is_virtual:
        return _assemble(data, box, depth)
    _check_filters(data)
    _check_written(data, box)
    try:
        return np.asarray(data[tuple(slice(*edge) for edge in box)])
    except (OSError, RuntimeError) as error:
        raise FileError(
            _place(data), f"its pixels cannot be read ({one_line(error)})", "Copy the file again"
        ) from error


def _assemble(data: h5py.Dataset, box: Box, depth: int) -> NDArray[Any]:
    """The box of a virtual data set, put together from its sources; what none covers has the file's fill value."""
    result: NDArray[Any] | None = None
    for source in data.virtual_sources():
        there, origin = _boxes(data, source)
        common = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(box, there, strict=True))
        if any(first >= last for first, last in common):
            continue
        values = _read_source(data, source, _mapped(common, there, origin), depth)
        if common == box and result is None:
            return values.reshape(_extent(box))
        if result is None:
            result = np.full(_extent(box), data.fillvalue, dtype=values.dtype)
        inside = tuple(slice(a - c, b - c) for (a, b), (c, _) in zip(common, box, strict=True))
        result[inside] = values.reshape(_extent(common))
    if result is None:
        raise FileError(_place(data), f"nothing was written to image {box[0][0]}", "Name images that were measured")
    return result


def _boxes(data: h5py.Dataset, source: Any) -> tuple[Box, Box]:
    """(where a source lies in the virtual data set, which part of it is taken). Only whole boxes are read."""
    import h5py

    there = _box_of(source.vspace)
    all_of_it = source.src_space.get_select_type() == h5py.h5s.SEL_ALL
    taken = tuple((0, last - first) for first, last in there or ()) if all_of_it else _box_of(source.src_space)
    if there is None or taken is None or "%" in source.file_name:
        raise FileError(
            _place(data),
            "its virtual data set takes its sources in a pattern or without an end, which is not read",
            "Copy it with h5repack, or name the data files",
        )
    return there, taken


def _box_of(space: Any) -> Box | None:
    """The selection of a data space where it is a whole box, else None."""
    try:
        first, last = space.get_select_bounds()
    except (ValueError, RuntimeError):  # h5py's way of saying that it has no end
        return None
    box = tuple((int(a), int(b) + 1) for a, b in zip(first, last, strict=True))
    return box if math.prod(_extent(box)) == space.get_select_npoints() else None


def _mapped(common: Box, there: Box, origin: Box) -> Box:
    """The box of the source that lies at ``common`` of the virtual data set. The source may lack axes of length 1."""
    spare = len(there) - len(origin)
    if spare > 0:
        kept = [axis for axis, (a, b) in enumerate(there) if b - a > 1 or axis >= spare][-len(origin) :]
        common, there = tuple(common[axis] for axis in kept), tuple(there[axis] for axis in kept)
    lead = origin[: len(origin) - len(there)]
    rest = origin[len(lead) :]
    return (*lead, *((o + a - t, o + b - t) for (a, b), (t, _), (o, _) in zip(common, there, rest, strict=True)))


def _read_source(data: h5py.Dataset, source: Any, box: Box, depth: int) -> NDArray[Any]:
    here = Path(data.file.filename)
    if source.file_name == ".":
        return _read_checked(follow(data.file, source.dset_name), box, depth)
    path = beside(here, source.file_name)
    if not path.is_file():
        raise FileError(_place(data), f"its image {box[0][0]} is kept in {path}, which is missing", COPY)
    with open_hdf5(path) as file:
        return _read_checked(follow(file, source.dset_name), box, depth)


def _read_checked(data: h5py.Dataset, box: Box, depth: int) -> NDArray[Any]:
    if len(box) != data.ndim or any(last > n for (_, last), n in zip(box, data.shape, strict=True)):
        raise FileError(
            _place(data), f"it has shape {data.shape}, less than the master takes from it", "Copy it again: it is short"
        )
    return _read_box(data, box, depth + 1)


def _check_filters(data: h5py.Dataset) -> None:
    import h5py

    plist = data.id.get_create_plist()
    for number in range(plist.get_nfilters()):
        code, _, _, name = plist.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            label = name.decode("latin-1") or "without a name"
            raise FileError(
                _place(data),
                f"it is compressed by HDF5 filter {code} ({one_line(label)}), which hdf5plugin does not have",
                "Repack it (h5repack), or install a plugin for that filter and set HDF5_PLUGIN_PATH",
            )


def _check_written(data: h5py.Dataset, box: Box) -> None:
    if data.chunks is None:
        if data.id.get_offset() is None and data.external is None and data.id.get_storage_size() == 0:
            raise FileError(_place(data), "its pixels were never written", "Check the measurement")
        return
    if math.prod(data.chunks) * data.dtype.itemsize > MAX_BYTES:
        raise FileError(_place(data), f"its chunks of {data.chunks} do not fit into memory", "Repack it (h5repack)")
    corners = (range(a // c * c, b, c) for (a, b), c in zip(box, data.chunks, strict=True))
    for corner in itertools.product(*corners):
        if data.id.get_chunk_info_by_coord(corner).byte_offset is None:
            raise FileError(
                f"{_place(data)}, image {box[0][0]}", "its pixels were never written", "Name images that were measured"
            )


def _extent(box: Box) -> tuple[int, ...]:
    return tuple(last - first for first, last in box)


def _place(data: h5py.Dataset) -> str:
    return f"{data.file.filename}, {data.name}"
