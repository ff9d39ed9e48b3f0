"""Structure factor amplitudes: MTZ, mmCIF, coordinates, text and Fdump.bin, expanded to P1 with Friedel mates.

Names are resolved when first used: a plain text list needs none of what reads the other formats.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbtorch.io.amplitudes.check import check_against_cell, check_against_crystals
    from nbtorch.io.amplitudes.read import read_amplitudes
    from nbtorch.io.amplitudes.types import Amplitudes, ColumnChoice, Sample

_MODULE_OF = {
    "Amplitudes": "nbtorch.io.amplitudes.types",
    "ColumnChoice": "nbtorch.io.amplitudes.types",
    "Sample": "nbtorch.io.amplitudes.types",
    "check_against_cell": "nbtorch.io.amplitudes.check",
    "check_against_crystals": "nbtorch.io.amplitudes.check",
    "read_amplitudes": "nbtorch.io.amplitudes.read",
}

__all__ = [
    "Amplitudes",
    "ColumnChoice",
    "Sample",
    "check_against_cell",
    "check_against_crystals",
    "read_amplitudes",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_MODULE_OF[name]), name)
