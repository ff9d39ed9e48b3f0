"""Every combination of a count, a range and a step, of every kind: the Python and the C program give one image."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.c_reference import answer_of
from tests.nanobragg.resolve.test_detector import resolved
from tests.parity.test_random_commands import disagreement, folder, python_answer

__all__ = ["folder"]  # the fixture

BASE = "-cell 74 86 98 82 97 104 -default_F 100 -lambda 1 -N 5 -misset 12 23 34 -detpixels 16 -pixel 1.9 -oversample 1"
COUNTS = (None, "-2", "0", "1", "3")
# of each kind: what it needs beside the three, then flag and values of range, step and count
KINDS: dict[str, tuple[str, dict[str, tuple[str | None, ...]]]] = {
    "dispersion": ("", {"-dispersion": (None, "0", "2"), "-dispsteps": (*COUNTS, "9")}),
    "horizontal": (
        "-square_div",
        {"-hdivrange": (None, "0", "4"), "-hdivstep": (None, "0", "1.5"), "-hdivsteps": COUNTS},
    ),
    "vertical": ("", {"-vdivrange": (None, "0", "4"), "-vdivstep": (None, "0", "1.5"), "-vdivsteps": COUNTS}),
    "divergence": ("", {"-divergence": (None, "0", "4"), "-divsteps": COUNTS}),
    "mosaic": ("", {"-mosaic": (None, "0", "1"), "-mosaic_dom": (None, "0", "1", "3")}),
    "spindle": ("-phi 3", {"-osc": (None, "0", "2"), "-phistep": (None, "0", "0.7"), "-phisteps": COUNTS}),
    "thickness": ("-detector_abs 300", {"-detector_thick": (None, "0", "450"), "-detector_thicksteps": COUNTS}),
}


def commands(kind: str) -> list[str]:
    """All combinations of ``kind``."""
    beside, flags = KINDS[kind]
    given = product(*([f"{flag} {value}" if value else "" for value in values] for flag, values in flags.items()))
    return [" ".join(f"{BASE} {beside} {' '.join(words)}".split()) for words in given]


@pytest.mark.parametrize("kind", KINDS)
def test_both_programs_take_every_combination_alike(folder: Path, c_program: Path, kind: str) -> None:
    wrong, images = [], set()
    for command in commands(kind):
        words = command.split()
        ours, theirs = python_answer(folder, words), answer_of(c_program, folder, words)
        if found := disagreement(ours, theirs):
            wrong.append(f"{command}: {found}")
        images.add(b"" if theirs.image is None else theirs.image.tobytes())
    assert not wrong, "\n".join(wrong)
    assert len(images) > 2  # the combinations are not all the same


def test_a_count_of_wavelengths_without_a_range_is_one_wavelength(folder: Path) -> None:
    alone, many = (python_answer(folder, f"{BASE} {extra}".split()) for extra in ("", "-dispsteps 9"))
    assert alone.image is not None
    np.testing.assert_array_equal(alone.image, many.image)
    assert "-dispsteps without -dispersion" in "\n".join(map(str, resolved("-dispsteps 9").notes))
