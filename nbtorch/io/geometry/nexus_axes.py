"""Fields and depends_on chains of a NeXus file, in the frame of imgCIF."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nbtorch.config import Vec3
from nbtorch.errors import FileError
from nbtorch.io.geometry.chain import Axis
from nbtorch.io.geometry.units import in_degrees, in_mm
from nbtorch.io.hdf5.open import follow, text

if TYPE_CHECKING:
    import h5py

MAX_CHAIN = 64


def imgcif(vector: NDArray[np.float64]) -> Vec3:
    """A McStas vector (z along the beam, y up) in the frame of imgCIF: x and z turned round."""
    x, y, z = (float(value) for value in vector)
    return -x + 0.0, y, -z + 0.0  # + 0.0: no negative zeros


def numbers(item: Any) -> NDArray[np.float64]:
    """A numeric field as a flat array. Raises FileError where it is not finite numbers."""
    values = np.asarray(item[()])
    if values.dtype.kind not in "iufb" or values.size == 0 or not np.isfinite(values).all():
        raise FileError(f"{item.file.filename}, {item.name}", "it should hold finite numbers", "Repair the field")
    return values.astype(np.float64).ravel()


def units(item: Any, default: str = "") -> str:
    """The units attribute of a field, or ``default``. Raises FileError where there is neither."""
    found = text(item.attrs.get("units", "")) or default
    if not found:
        raise FileError(f"{item.file.filename}, {item.name}", "it has no units", "Add its attribute units")
    return found


def chain(file: h5py.File, start: str) -> tuple[Axis, ...]:
    """The axes from ``start`` (an absolute name) to the laboratory. Raises FileError for a circle or a broken link."""
    axes: list[Axis] = []
    name = start
    while name not in ("", "."):
        if len(axes) == MAX_CHAIN:
            raise FileError(f"{file.filename}, {start}", "its depends_on chain has no end", "Repair depends_on")
        item = follow(file, name)
        axes.append(_axis(item, name))
        name = resolve(text(item.attrs.get("depends_on", ".")), name)
    return tuple(axes)


def resolve(name: str, here: str) -> str:
    """A depends_on as an absolute name: a relative one counts from the group of ``here``."""
    if name in ("", ".") or name.startswith("/"):
        return name
    return str(PurePosixPath(here).parent / name)


def _axis(item: Any, name: str) -> Axis:
    where = f"{item.file.filename}, {name}"
    kind = text(item.attrs.get("transformation_type", ""))
    if kind not in ("rotation", "translation") or "vector" not in item.attrs:
        raise FileError(where, "it is no transformation: it lacks transformation_type or vector", "Repair the file")
    vector = np.asarray(item.attrs["vector"], dtype=np.float64).ravel()
    offset = np.asarray(item.attrs.get("offset", np.zeros(3)), dtype=np.float64).ravel()
    if vector.shape != (3,) or offset.shape != (3,) or not np.linalg.norm(vector) > 0:
        raise FileError(where, "its vector or offset is not three numbers", "Repair the file")
    unit = units(item)
    factor = in_degrees(unit, where) if kind == "rotation" else in_mm(unit, where)
    shift = 0.0
    if offset.any():
        shift = in_mm(text(item.attrs.get("offset_units", "")) or ("mm" if kind == "rotation" else unit), where)
    values = tuple(float(value) for value in numbers(item) * factor)
    if kind == "rotation":
        return Axis(name, "rotation", imgcif(vector), imgcif(offset * shift), values)
    return Axis(name, "translation", imgcif(vector), imgcif(offset * shift), values)
