"""The golden commands: what the original nanoBragg was asked and what it answered (tests/golden/README.md)."""

from __future__ import annotations

import functools
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers.data import golden

#: These need the original's own faults: a step at phi exactly 0, and a -pix0_vector that places nothing.
NEEDS_COMPAT = frozenset({"phi_from_zero", "scaling_chain_phi0", "pix0_ignored"})


@dataclass(frozen=True)
class Case:
    """One golden command and the text that the original wrote or printed."""

    name: str
    args: tuple[str, ...]
    header: dict[str, str]
    printed: dict[str, Any]

    @property
    def shape(self) -> tuple[int, int]:
        """(slow, fast) pixels."""
        return int(self.header["SIZE2"]), int(self.header["SIZE1"])

    def argv(self, *more: str) -> list[str]:
        """The command line with paths of its inputs made absolute, and without the output that the original named."""
        words = [
            str(golden("inputs", word)) if golden("inputs").joinpath(word).is_file() else word for word in self.args
        ]
        if "-noisefile" in words:
            at = words.index("-noisefile")
            del words[at : at + 2]
        compat = ["-compat", "nanobragg"] if self.name in NEEDS_COMPAT else []
        return [*words, *compat, *more]


@functools.cache
def cases() -> dict[str, Case]:
    """Every golden command by name."""
    listed = json.loads(golden("cases.json").read_text())
    return {case["name"]: Case(case["name"], tuple(shlex.split(case["args"])), case["header"], case) for case in listed}


@functools.cache
def traces() -> tuple[dict[str, Any], ...]:
    """Every golden trace: case, slow, fast, trace (ordered [name, values])."""
    return tuple(json.loads(golden("traces.json").read_text()))


@functools.cache
def images() -> dict[str, np.ndarray]:
    """NAME float32 [slow, fast]; NAME__int, NAME__noise uint16."""
    with np.load(golden("images.npz")) as archive:
        return {name: archive[name] for name in archive.files}


def golden_image(name: str) -> np.ndarray:
    """An image of the original; every access is its own copy."""
    return np.array(images()[name])


def float_image(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """A float image that the command wrote."""
    return np.fromfile(path, dtype="<f4").reshape(shape)
