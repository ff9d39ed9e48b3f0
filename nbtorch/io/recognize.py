"""Files that are given as images and are something else: named as what they are, with what takes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from nbtorch.errors import FileError


@dataclass(frozen=True)
class Kind:
    """A kind of file: how it begins (a pattern of its first bytes), what it is, and what takes it."""

    pattern: re.Pattern[bytes]
    what: str
    change: str


def _kind(pattern: bytes, what: str, change: str) -> Kind:
    return Kind(re.compile(pattern, re.MULTILINE), what, change)


#: In this order: the first that fits names the file.
KINDS = (
    _kind(
        rb'\A\s*\{[\s\S]*"__id__"\s*:\s*"ExperimentList"',
        "it is a dxtbx experiment list, not an image",
        "Give it as data.experiment=…; it names its own frames",
    ),
    _kind(
        rb'\A\s*\[?\s*\{[\s\S]*"__id__"\s*:\s*"DataBlock"',
        "it is a dxtbx data block, not an image",
        "Convert it with dials.import to an .expt and give that as data.experiment=…",
    ),
    _kind(
        rb"\A.{0,4}[\s\S]{0,20}dials::af::reflection_table",
        "it is a DIALS reflection table (.refl), not an image",
        "Give the .expt beside it as data.experiment=… and the frames as data.frames=…",
    ),
    _kind(
        rb"\A\s*CrystFEL stream format",
        "it is a CrystFEL stream, not an image",
        "Give the frames that it names, and their geometry as an .expt in data.experiment=…",
    ),
    _kind(
        rb"\A\s*CrystFEL reflection list",
        "it is a list of reflections of CrystFEL, not an image",
        "Give it as data.amplitudes=… (nanoBragg: -hkl)",
    ),
    _kind(
        rb"\A\s*(G?XPARM\.XDS|\d+(\s+-?\d+\.\d+){5}\s*\n(\s+-?\d+\.\d+){4}\s*\n\s+\d+\s+\d+(\s+\d+\.\d+){2}\s*\n)",
        "it is an XPARM.XDS of XDS: geometry and crystal, not an image",
        "Convert it with dials.import_xds to an .expt and give that as data.experiment=…",
    ),
    _kind(
        rb"\A!FORMAT=XDS_ASCII|\A!OUTPUT_FILE=INTEGRATE\.HKL|\A!.*INTEGRATE\.HKL",
        "it is a list of integrated intensities of XDS, not an image",
        "Give it as data.amplitudes=…",
    ),
    _kind(
        rb"\A(\s*-?\d+\.\d+){3}\s+-?\d+\.(\s+-?\d+){0,4}\s*$|\A(\s*-?\d+\.\d+){4}(\s+-?\d+){3,5}\s*$",
        "it is a list of spots such as SPOT.XDS, not an image",
        "Give its frames as data.frames=…, and its spots as a table of fast, slow, frame",
    ),
    _kind(
        rb"\A(?=[\s\S]*^\s*(\S+/)?(min_fs|fs|corner_x)\s*=)(?=[\s\S]*^\s*(clen|photon_energy|res|adu_per_eV|\S+/\S+)\s*=)",
        "it is a CrystFEL geometry (.geom), not an image",
        "Give the images that it describes, and their geometry as an .expt in data.experiment=…",
    ),
    _kind(
        rb"^\s*(poni_version|PixelSize1|Poni1)\s*:",
        "it is a pyFAI geometry (.poni), not an image",
        "Give the image that it describes, and its geometry as an .expt in data.experiment=…",
    ),
    _kind(
        rb"\A([ \d-]{12}[ \d.-]{16}([ \d-]{4})?\s*?\n){3}",
        "it is a list of reflections as SHELX has them (HKLF 4), not an image",
        "Give it as data.amplitudes=…",
    ),
    _kind(rb"\AMTZ ", "it is an MTZ file of amplitudes, not an image", "Give it as data.amplitudes=…"),
    _kind(
        rb"\A(HEADER|CRYST1|ATOM  |HETATM|REMARK|TITLE )",
        "it is a PDB file of coordinates, not an image",
        "Give it as data.amplitudes=…",
    ),
    _kind(
        rb"\A(\s*#[^\n]*\n)*\s*data_\w*\s",
        "it is a CIF of amplitudes or coordinates, not an image",
        "Give it as data.amplitudes=…",
    ),
    _kind(
        rb"\A\x80[\x02-\x05](c|}|]|\x95)|\A\(?c(dxtbx|scitbx|cctbx)",
        "it is a Python pickle, which can run any code: it is not opened",
        "Write what it holds as .npy (numpy.save) or as an image",
    ),
    _kind(
        rb"\A\x93NUMPY",
        "it is a numpy array, which says nothing of a detector",
        "Give it as a mask, or write it as CBF (nbtorch.io.write_cbf)",
    ),
    _kind(
        rb"\A\s*(JOB|DETECTOR|ORGX|NAME_TEMPLATE_OF_DATA_FRAMES|DETECTOR_DISTANCE)\s*=",
        "it is an XDS.INP, not an image",
        "Give the frames that it names (NAME_TEMPLATE_OF_DATA_FRAMES)",
    ),
)


def other_kind(head: bytes) -> Kind | None:
    """What a file that begins with ``head`` is, where it is a known file that holds no image; else None."""
    return next((kind for kind in KINDS if kind.pattern.search(head)), None)


#: What images are, where they are given as an experiment list.
IMAGES = re.compile(rb"\A###CBF:|\A\x89HDF\r\n\x1a\n|\A\s*\{\s*HEADER_BYTES|\A(II\*\0|MM\0\*)|\AII\x97\x01|\AFORMAT :")


def refuse_as_experiment(head: bytes, path: Path) -> None:
    """Raise FileError, naming what it is and what takes it, for a known file that is no experiment list (.expt)."""
    if IMAGES.match(head):
        change = "Give it as data.frames=…: the headers of frames say their geometry, and geometry.* what they lack"
        raise FileError(str(path), "it is an image or a file of images, not an experiment list (.expt)", change)
    kind = other_kind(head)
    if kind is not None and "experiment list" not in kind.what:
        what = kind.what.replace(", not an image", "")
        raise FileError(str(path), f"{what}: no experiment list (.expt)", kind.change)


def refuse_other_files(head: bytes, path: Path) -> None:
    """Raise FileError, naming what it is and what takes it, for a known file that holds no image."""
    kind = other_kind(head)
    if kind is not None:
        raise FileError(str(path), kind.what, kind.change)
