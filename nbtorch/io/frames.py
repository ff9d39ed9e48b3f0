"""Detector frames of any format: one image, or one a panel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from nbtorch.config import DetectorConfig, PanelConfig
from nbtorch.errors import DataError
from nbtorch.io import cbf, imgcif, smv
from nbtorch.io.fabio_images import read_with_fabio
from nbtorch.io.paths import find_file, read_bytes

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Frame:
    """``counts`` [slow, fast], or one such array a panel with their ``panel_names``; the header as text."""

    counts: Array | tuple[Array, ...]
    header: Mapping[str, str]
    path: Path
    panel_names: tuple[str, ...] = field(default=())

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


def read_frame(path: str | Path) -> Frame:
    """The frame at ``path``, also tried with .gz and .bz2 appended.

    CBF and imgCIF, SMV, and through fabio TIFF, EDF and more; told apart by content, not by name. Raises FileError
    naming the file and what is wrong where: missing, cut short, damaged, of no known format.
    """
    found = find_file(path)
    content = read_bytes(found)
    if content[:7] == b"###CBF:":
        return _read_cbf(content, found)
    if smv.is_smv(content):
        image = smv.parse_smv(content, found)
        return Frame(image.counts, image.header, found)
    counts, header = read_with_fabio(content, found)
    return Frame(_native(counts), header, found)


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
