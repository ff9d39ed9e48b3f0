"""Files of a beamline, read into nbtorch's own types and written atomically: one small file a format.

Names are resolved when first used, so that importing ``nbtorch.io`` loads no image, CIF or HDF5 library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbtorch.io.amplitudes import Amplitudes, Sample, check_against_cell, check_against_crystals, read_amplitudes
    from nbtorch.io.atomic import atomic_path
    from nbtorch.io.cbf import write_cbf
    from nbtorch.io.expt import ExperimentEntry, ExperimentList, ExptUpdates, read_expt, write_expt
    from nbtorch.io.float_image import read_float_image, write_float_image
    from nbtorch.io.frames import Frame, read_frame
    from nbtorch.io.masks import open_pixels, read_mask, read_pixel_map, trusted, valid_pixels
    from nbtorch.io.matrix import read_matrix
    from nbtorch.io.pgm import write_pgm
    from nbtorch.io.smv import read_smv, write_smv
    from nbtorch.io.sources import read_sources
    from nbtorch.io.table import read_csv, read_json, write_csv, write_json

_HOME = {
    "nbtorch.io.amplitudes": (
        "Amplitudes",
        "Sample",
        "check_against_cell",
        "check_against_crystals",
        "read_amplitudes",
    ),
    "nbtorch.io.atomic": ("atomic_path",),
    "nbtorch.io.cbf": ("write_cbf",),
    "nbtorch.io.expt": ("ExperimentEntry", "ExperimentList", "ExptUpdates", "read_expt", "write_expt"),
    "nbtorch.io.float_image": ("read_float_image", "write_float_image"),
    "nbtorch.io.frames": ("Frame", "read_frame"),
    "nbtorch.io.masks": ("open_pixels", "read_mask", "read_pixel_map", "trusted", "valid_pixels"),
    "nbtorch.io.matrix": ("read_matrix",),
    "nbtorch.io.pgm": ("write_pgm",),
    "nbtorch.io.smv": ("read_smv", "write_smv"),
    "nbtorch.io.sources": ("read_sources",),
    "nbtorch.io.table": ("read_csv", "read_json", "write_csv", "write_json"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Amplitudes",
    "ExperimentEntry",
    "ExperimentList",
    "ExptUpdates",
    "Frame",
    "Sample",
    "atomic_path",
    "check_against_cell",
    "check_against_crystals",
    "open_pixels",
    "read_amplitudes",
    "read_csv",
    "read_expt",
    "read_float_image",
    "read_frame",
    "read_json",
    "read_mask",
    "read_matrix",
    "read_pixel_map",
    "read_smv",
    "read_sources",
    "trusted",
    "valid_pixels",
    "write_cbf",
    "write_csv",
    "write_expt",
    "write_float_image",
    "write_json",
    "write_pgm",
    "write_smv",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
