"""Detector frames of any format: one image, or one a panel. A file may hold many; each is read when asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from nbtorch.config import DetectorConfig, PanelConfig
from nbtorch.errors import DataError, FileError
from nbtorch.io import cbf, imgcif, ser, smv
from nbtorch.io.fabio_images import count_with_fabio, read_with_fabio
from nbtorch.io.hdf5 import image_list, is_hdf5, read_image
from nbtorch.io.paths import COMPRESSIONS, find_file, read_bytes, read_head
from nbtorch.io.recognize import refuse_other_files

Array = NDArray[Any]


@dataclass(frozen=True, order=True)
class FrameRef:
    """One image of a file: its ``index`` from 0, and the ``dataset`` of an HDF5 file that holds several sets.

    As text it is ``run_master.h5 //17``, the way CrystFEL names events; a file of one image is its path alone.
    """

    path: Path
    index: int | None = None  # None: the file holds one image
    dataset: str = ""

    def __str__(self) -> str:
        event = "" if self.index is None and not self.dataset else f" {self.dataset}//{self.index or 0}"
        return f"{self.path}{event}"

    @property
    def name(self) -> str:
        """The file's name and which image of it, as a person reads it."""
        return str(self).removeprefix(f"{self.path.parent}/")

    @classmethod
    def parse(cls, text: str) -> FrameRef:
        """The frame that a text such as ``run_master.h5 //17`` names, or a path alone."""
        event = re.fullmatch(r"(.+?)\s+(/\S*?)?//(\d+)", text.strip())
        if event is None:
            return cls(Path(text))
        return cls(Path(event[1]), int(event[3]), event[2] or "")


#: One frame: a file of one image, or one image of a file.
Image = Path | FrameRef


def file_of(image: Image) -> Path:
    """The file that holds ``image``."""
    return image.path if isinstance(image, FrameRef) else image


@dataclass(frozen=True, eq=False)
class Frame:
    """``counts`` [slow, fast], or one such array a panel with their ``panel_names``; the header as text."""

    counts: Array | tuple[Array, ...]
    header: Mapping[str, str]
    path: Path
    panel_names: tuple[str, ...] = field(default=())
    index: int = 0  # its number in the file, from 0

    def panel_arrays(self, detector: DetectorConfig) -> tuple[Array, ...]:
        """One array [slow, fast] for each panel of ``detector``, in its order.

        Panels of a file are matched by name where all names agree, else by order; one image that several panels share
        is cut at each panel's ``raw_image_offset``. Raises DataError where sizes or numbers disagree, saying both.
        """
        panels = detector.panels
        if not isinstance(self.counts, tuple):
            return _split(self.counts, panels, self.path)
        if len(self.counts) != len(panels):
            raise DataError(
                f"frame {self.path}", f"it holds {len(self.counts)} panels, the detector has {len(panels)}", _CHECK
            )
        by_name = dict(zip(self.panel_names, self.counts, strict=False))
        matched = all(panel.name in by_name for panel in panels) and len(by_name) == len(panels)
        arrays = tuple(by_name[panel.name] for panel in panels) if matched else self.counts
        for panel, array in zip(panels, arrays, strict=True):
            check_size(array, panel, f"frame {self.path}")
        return arrays


def list_frames(path: str | Path, dataset: str = "") -> tuple[FrameRef, ...]:
    """Every image of the file at ``path``, in order; no pixel is decoded to count those of HDF5.

    Raises FileError where the file is missing, or a part of its series is.
    """
    found = find_file(path)
    head = read_head(found)
    if is_hdf5(head):
        count = len(image_list(_plain(found), dataset))
        return tuple(FrameRef(found, index, dataset) for index in range(count))
    if head[:7] == b"###CBF:" or smv.is_smv(head):
        return (FrameRef(found),)
    refuse_other_files(head, found)
    if ser.is_ser(head):
        count = len(ser.ser_index(read_bytes(found), found).offsets)
    else:
        count = count_with_fabio(read_bytes(found), found)
    return (FrameRef(found),) if count == 1 else tuple(FrameRef(found, index) for index in range(count))


def read_frame(frame: str | Path | FrameRef) -> Frame:
    """One frame: the file at a path, also tried with .gz and .bz2 appended, or one image of it.

    HDF5 (NXmx, Eiger, Jungfrau and others), CBF and imgCIF, SMV, TIA series, and through fabio TIFF, EDF and more;
    told apart by content, not by name. Raises FileError naming the file and what is wrong where: missing, cut short,
    damaged, of no known format, of several images where none is named.
    """
    ref = frame if isinstance(frame, FrameRef) else FrameRef(Path(frame))
    found = find_file(ref.path)
    head = read_head(found)
    if is_hdf5(head):
        return _read_hdf5(ref, found)
    content = read_bytes(found)
    if content[:7] == b"###CBF:":
        _only_one(ref, found)
        return _read_cbf(content, found)
    if smv.is_smv(content):
        _only_one(ref, found)
        image = smv.parse_smv(content, found)
        return Frame(image.counts, image.header, found)
    refuse_other_files(head, found)
    if ser.is_ser(content):
        counts = ser.read_ser(content, found, _number(ref, len(ser.ser_index(content, found).offsets)))
        return Frame(_native(counts), {}, found, index=ref.index or 0)
    counts, header = read_with_fabio(content, found, ref.index)
    return Frame(_native(counts), header, found, index=ref.index or 0)


def check_size(array: Array, panel: PanelConfig, given: str) -> None:
    """Raises DataError, saying both sizes, unless ``array`` is [slow, fast] of ``panel``."""
    expected = panel.size[::-1]
    if array.shape != expected:
        raise DataError(
            given,
            f"it is {_size(array.shape)} pixels (slow × fast), but panel {panel.name!r} is {_size(expected)}",
            _CHECK,
        )


_CHECK = "Check that the image and the detector model belong together"


def _read_hdf5(ref: FrameRef, path: Path) -> Frame:
    images = image_list(_plain(path), ref.dataset)
    if ref.index is None and (images.missing or len(images) != 1):
        count = "a series of images" if images.missing else f"{len(images)} images"
        raise FileError(str(path), f"it holds {count}", f"Name one, such as '{path.name} //0' for the first")
    counts = _native(read_image(path, ref.index or 0, ref.dataset))
    panels = tuple(counts) if counts.ndim == 3 else counts
    return Frame(panels, {}, path, index=ref.index or 0)


def _plain(path: Path) -> Path:
    if path.suffix.lower() in COMPRESSIONS:
        raise FileError(str(path), "an HDF5 file cannot be read through compression", "Unpack it")
    return path


def _number(ref: FrameRef, count: int) -> int:
    """Which of ``count`` images ``ref`` means. Raises FileError where several could be meant."""
    if ref.index is None and count != 1:
        raise FileError(str(ref.path), f"it holds {count} images", f"Name one, such as '{ref.path.name} //0'")
    return ref.index or 0


def _only_one(ref: FrameRef, path: Path) -> None:
    if ref.index:
        raise DataError(f"image {ref.index} of {path}", "the file holds one image, number 0", "Name that")


def _read_cbf(content: bytes, path: Path) -> Frame:
    sections = cbf.scan_sections(content, path)
    if len(sections) == 1 and sections[0].byte_offset and "X-Binary-Size-Third-Dimension" not in sections[0].header:
        counts, header = cbf.read_byte_offset(content, sections[0], path)
        return Frame(_native(counts), header, path)
    panels, names = imgcif.read_imgcif(content, path)
    return Frame(panels[0] if len(panels) == 1 else panels, dict(sections[0].header), path, names)


def _split(image: Array, panels: tuple[PanelConfig, ...], path: Path) -> tuple[Array, ...]:
    if len(panels) == 1 and panels[0].raw_image_offset == (0, 0):
        check_size(image, panels[0], f"frame {path}")
        return (image,)
    if len({panel.raw_image_offset for panel in panels}) < len(panels):
        raise DataError(
            f"frame {path}",
            f"it holds one image, and {len(panels)} panels do not say which part of it is theirs",
            _CHECK,
        )
    pieces = []
    for panel in panels:
        fast, slow = panel.raw_image_offset
        piece = image[slow : slow + panel.size[1], fast : fast + panel.size[0]]
        if piece.shape != panel.size[::-1]:
            raise DataError(
                f"frame {path}",
                f"it is {_size(image.shape)} pixels (slow × fast), panel {panel.name!r} needs "
                f"{_size(panel.size[::-1])} from slow {slow}, fast {fast}",
                _CHECK,
            )
        pieces.append(piece)
    return tuple(pieces)


def _native(counts: Array) -> Array:
    return counts.astype(counts.dtype.newbyteorder("="), copy=False)


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(str(n) for n in shape)
