"""The frames that an experiment list names: a template with #### for the image number, or a list of names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from nbtorch.config import ScanConfig
from nbtorch.io.expt.node import Node
from nbtorch.io.paths import existing

#: An image range is data from a file: this many names are made at most.
MAX_IMAGES = 1_000_000
#: Files of numbers a pixel that an imageset may name. The offset maps dx and dy are not applied, so not read.
LOOKUPS = ("mask", "gain", "pedestal")


@dataclass(frozen=True)
class PixelFiles:
    """The files of one number a pixel that an imageset names: mask, gain (counts a photon), pedestal (counts).

    None where it names none. They are read with ``read_mask`` and ``read_pixel_map``, which refuse pickles.
    """

    mask: Path | None = None
    gain: Path | None = None
    pedestal: Path | None = None


def read_images(node: Node, scan: ScanConfig | None) -> tuple[Path, ...]:
    """The frames of an imageset, in order. A template needs the scan's image numbers.

    Raises FileError for an imageset with neither template nor names, or a template without a scan.
    """
    if node.has("images"):
        names = [item.value for item in node.list("images")]
        if not all(isinstance(name, str) for name in names):
            node["images"].fail("it should hold file names")
    elif node.has("template"):
        names = _expand(node["template"], scan)
    else:
        node.fail("it names no images: it has neither 'images' nor 'template'")
    return tuple(_locate(name, node.file.parent) for name in names)


def read_pixel_files(node: Node) -> PixelFiles:
    """The files a pixel of an imageset, found as its frames are."""
    named = {key: node.text(key) for key in LOOKUPS}
    return PixelFiles(**{key: _locate(name, node.file.parent) for key, name in named.items() if name})


def read_indices(node: Node, images: int) -> tuple[int, ...]:
    """Which image of its file each frame is, counted from 0 (single_file_indices); empty where it does not say.

    Raises FileError for negative ones, or another number of them than ``images`` where files are named one by one.
    """
    indices = tuple(item.integer() for item in node.list("single_file_indices"))
    if any(index < 0 for index in indices):
        node["single_file_indices"].fail("images are counted from 0")
    if node.has("images") and indices and len(indices) != images:
        node["single_file_indices"].fail(f"it holds {len(indices)} numbers for {images} images")
    return indices


def _expand(template: Node, scan: ScanConfig | None) -> list[str]:
    if not isinstance(template.value, str):
        template.fail("a template is text")
    if scan is None:
        template.fail("a template needs the image numbers of a scan, and the experiment has none")
    if scan.n_frames > MAX_IMAGES:
        template.fail(f"its scan claims {scan.n_frames} images")
    hashes = re.search(r"#+(?!.*#)", template.value)
    if hashes is None:
        return [template.value]  # one file that holds every image
    start, end = hashes.span()
    width = end - start
    numbers = range(scan.first_image, scan.first_image + scan.n_frames)
    return [f"{template.value[:start]}{number:0{width}d}{template.value[end:]}" for number in numbers]


def _locate(name: str, folder: Path) -> Path:
    """The file where the document says, else beside the .expt (files move together), else as it is written."""
    beside = folder / Path(name).name
    stated = folder / name  # an absolute name stays as it is
    return existing(stated) or existing(beside) or stated
