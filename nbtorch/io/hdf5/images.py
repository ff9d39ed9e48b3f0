"""Which images an HDF5 file holds, and reading one of them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nbtorch.errors import DataError, FileError
from nbtorch.io.fabio_images import MAX_PIXELS
from nbtorch.io.hdf5.open import follow, missing_target, open_hdf5, target, text
from nbtorch.io.hdf5.read import read_layer

if TYPE_CHECKING:
    import h5py

#: The parts of a series, as detectors number them.
PART = re.compile(r"data_\d+")
#: Groups that are looked through for images where no NXdata says where they are.
MAX_OBJECTS = 100_000


@dataclass(frozen=True)
class Part:
    """``count`` images from number ``start`` on: data set ``name`` of ``file``."""

    file: Path
    name: str
    start: int
    count: int


@dataclass(frozen=True)
class ImageList:
    """The images of a file. ``shape`` is (slow, fast), or (panels, slow, fast) where each panel has its own array.

    ``where`` is the data set, or the group of data sets, in ``path``. ``missing`` says which file of the series is not
    there; images before it can be read.
    """

    path: Path
    where: str
    parts: tuple[Part, ...]
    shape: tuple[int, ...]
    missing: str = ""

    def __len__(self) -> int:
        if self.missing:
            raise FileError(f"{self.path}, {self.where}", self.missing, "Copy it beside this file, or name images")
        return sum(part.count for part in self.parts)

    def part(self, index: int) -> Part:
        """The part that holds image ``index`` (from 0). Raises DataError where there is no such image."""
        for part in self.parts:
            if part.start <= index < part.start + part.count:
                return part
        raise DataError(f"image {index} of {self.path}", f"it holds {len(self)} images, counted from 0", "Name another")


def image_list(path: Path, dataset: str = "") -> ImageList:
    """The images of ``path``, or of its data set ``dataset``. No pixel is read.

    They are the signal of NXdata, else the data_000001, data_000002 … beside it, else the only image data of the file:
    a virtual data set and the links to its parts are the same images. Raises FileError where there is none, or where
    it is not clear which are meant.
    """
    stamp = path.stat()
    return _image_list(path, dataset, stamp.st_mtime_ns, stamp.st_size)


def read_image(path: Path, index: int, dataset: str = "") -> NDArray[Any]:
    """Image ``index`` (from 0) of ``path``: [slow, fast], or [panels, slow, fast]. Only this image is read.

    Raises FileError for missing files, data that were never written, damage and unknown compression; DataError for an
    image that is not there.
    """
    part = image_list(path, dataset).part(index)
    with open_hdf5(part.file) as file:
        data = follow(file, part.name)
        if data.ndim == 2:
            return read_layer(data, None)
        return read_layer(data, index - part.start)


@lru_cache(maxsize=16)
def _image_list(path: Path, dataset: str, modified: int, size: int) -> ImageList:
    with open_hdf5(path) as file:
        if dataset:
            return _listed(file, dataset, [dataset])
        groups = [name for name in _data_groups(file) if _names_in(file, name)]
        if len(groups) > 1:
            raise FileError(
                str(path), f"it holds several sets of images: {', '.join(groups)}", "Name the data set of one"
            )
        if groups:
            return _listed(file, groups[0], _names_in(file, groups[0]))
        return _only_images(file)


def _data_groups(file: h5py.File) -> list[str]:
    """Groups that hold images: NXdata below the entries, else what is called data."""
    import h5py

    entries = [name for name in file if isinstance(file.get(name, getclass=True), type) and _is_group(file, name)]
    below = [
        f"/{entry}/{name}"
        for entry in entries
        for name in file[entry]
        if not isinstance(file[entry].get(name, getlink=True), h5py.ExternalLink) and _is_group(file, f"{entry}/{name}")
    ]
    marked = [name for name in below if text(file[name].attrs.get("NX_class", "")) == "NXdata"]
    return marked or [name for name in ["/", *below] if name == "/" or name.endswith("/data")]


def _is_group(file: h5py.File, name: str) -> bool:
    import h5py

    try:
        return file.get(name, getclass=True) is h5py.Group
    except (KeyError, OSError):  # a link that leads nowhere is no group
        return False


def _names_in(file: h5py.File, group: str) -> list[str]:
    """The data sets of images in a group: its signal or ``data``, else its numbered parts in order."""
    here = file[group]
    base = "" if group == "/" else group
    for name in (text(here.attrs.get("signal", "")), "data"):
        if name and name in here and _is_images(file, f"{base}/{name}"):
            return [f"{base}/{name}"]
    return [f"{base}/{name}" for name in sorted(here) if PART.fullmatch(name)]


def _is_images(file: h5py.File, name: str) -> bool:
    import h5py

    if missing_target(file, name) is not None:
        return True  # it is meant to be: the reader names the missing file
    found = file.get(name)
    return isinstance(found, h5py.Dataset) and found.ndim in (2, 3, 4) and found.dtype.kind in "iuf"


def _only_images(file: h5py.File) -> ImageList:
    """The one data set of images that stands anywhere in the file."""
    import h5py

    found: list[str] = []
    seen = 0

    def look(name: str, item: Any) -> bool | None:
        nonlocal seen
        seen += 1
        if isinstance(item, h5py.Dataset) and item.ndim in (3, 4) and item.dtype.kind in "iuf":
            found.append(f"/{name}")
        return True if seen > MAX_OBJECTS else None

    file.visititems(look)
    if len(found) != 1:
        why = f"several data sets may be its images: {', '.join(found[:8])}" if found else "it holds no images"
        raise FileError(file.filename, why, "Name the data set" if found else "Name the master or the data file")
    return _listed(file, found[0], found)


def _listed(file: h5py.File, where: str, names: list[str]) -> ImageList:
    parts: list[Part] = []
    shape: tuple[int, ...] = ()
    start, missing = 0, ""
    path = Path(file.filename)
    for name in names:
        absent = missing_target(file, name)
        if absent is not None:
            missing = f"{name} is kept in {absent}, which is missing"
            break
        data = follow(file, name)
        if not hasattr(data, "ndim") or data.ndim not in (2, 3, 4):
            raise FileError(f"{path}, {name}", "it is no series of images", "Name the data set of the images")
        if shape and _shape(data) != shape:
            raise FileError(f"{path}, {name}", f"its images are {_shape(data)}, those before {shape}", "Check the file")
        shape = _shape(data)
        count = 1 if data.ndim == 2 else data.shape[0]
        parts.append(Part(*target(file, name), start, count))
        start += count
    if not missing and not start:
        raise FileError(f"{path}, {where}", "it holds no image", "Check that the measurement was written")
    if math.prod(shape) > MAX_PIXELS:
        raise FileError(f"{path}, {where}", f"it claims images of {shape} pixels, more than are read", "Check the file")
    return ImageList(path, where, tuple(parts), shape, missing)


def _shape(data: Any) -> tuple[int, ...]:
    shape = tuple(int(n) for n in np.asarray(data.shape))
    return shape if len(shape) == 2 else shape[1:]
