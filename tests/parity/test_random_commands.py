"""Randomly drawn commands: the Python and the C program, which share nothing, must give the same image or both refuse.

A command that fails is shrunk, one flag at a time, to the smallest that still does.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from nbtorch.io.smv import write_smv
from nbtorch.nanobragg.cli.nanobragg import main
from tests.helpers.c_reference import Answer, answer_of
from tests.helpers.data import golden
from tests.helpers.golden import cases
from tests.helpers.random_commands import Command, draw, shrink

COUNT, FAST = 200, 40
# worst seen, of this bound: 1.1e-4 over the random commands (seed 26), 4e-5 over the golden ones
RELATIVE, OF_MAXIMUM, SUM = 2e-6, 1e-7, 1e-6
EXCLUDED_PIXELS = 0  # not even at a flip of the nearest index, a tophat's edge or dmin's
HEADER = {
    "PIXEL_SIZE": "0.9",
    "DISTANCE": "97.5",
    "CLOSE_DISTANCE": "96",
    "WAVELENGTH": "1.3",
    "BEAM_CENTER_X": "12.5",
    "BEAM_CENTER_Y": "14.1",
    "PHI": "3",
    "OSC_RANGE": "0.5",
    "TWOTHETA": "7",
}

SEEDS = [*range(FAST), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(FAST, COUNT))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both programs run: the golden inputs under their own names, and an image whose header places a detector."""
    place = tmp_path_factory.mktemp("commands")
    for source in golden("inputs").iterdir():
        (place / source.name).symlink_to(source)
    write_smv(place / "header.img", np.ones((24, 30), np.uint16), HEADER)
    return place


def python_answer(folder: Path, words: Sequence[str]) -> Answer:
    path = folder / "py.bin"
    path.unlink(missing_ok=True)
    complaint, before = io.StringIO(), Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(complaint):
            code = main([*words, "-floatfile", path.name])
    finally:
        os.chdir(before)
    image = np.fromfile(path, "<f4").astype(np.float64) if path.exists() else None
    return Answer(code, complaint.getvalue(), image)


def disagreement(ours: Answer, theirs: Answer) -> str:
    """What is wrong between two answers; empty when nothing is."""
    if ours.image is None or theirs.image is None:
        if ours.image is None and theirs.image is None:
            return ""
        return f"one refuses: Python says {ours.complaint.strip()!r}, C says {theirs.complaint.strip()!r}"
    if ours.image.shape != theirs.image.shape:
        return f"{ours.image.size} and {theirs.image.size} pixels"
    same = (ours.image == theirs.image) | (np.isnan(ours.image) & np.isnan(theirs.image))
    a, b = ours.image[~same], theirs.image[~same]
    brightest = float(np.abs(theirs.image[np.isfinite(theirs.image)]).max(initial=0.0))
    outside = ~(np.abs(a - b) <= RELATIVE * np.abs(b) + OF_MAXIMUM * brightest)
    if np.count_nonzero(outside) > EXCLUDED_PIXELS:
        return f"{np.count_nonzero(outside)} pixels differ, by up to {np.abs(a - b).max():.4g} of {brightest:.4g}"
    if not abs(a.sum() - b.sum()) <= SUM * float(np.abs(theirs.image[np.isfinite(theirs.image)]).sum()):
        return f"the sums differ by {a.sum() - b.sum():.4g}"
    return ""


def judge(program: Path, folder: Path, command: Command) -> str:
    """What the two programs disagree about."""
    return disagreement(python_answer(folder, command.words), answer_of(program, folder, command.words))


@pytest.mark.parametrize("seed", SEEDS)
def test_both_programs_give_the_same_image(c_program: Path, folder: Path, seed: int) -> None:
    command = draw(seed)
    if judge(c_program, folder, command):
        smallest = shrink(command, lambda smaller: bool(judge(c_program, folder, smaller)))
        pytest.fail(f"{' '.join(smallest.words)}\n{judge(c_program, folder, smallest)}")


CRYSTAL = "-default_F 60 -cell 70 80 90 90 90 90 -misset 11 22 33 -N 4 -detpixels 24 -pixel 1.3 -oversample 1"

#: What random commands once found, each in its smallest form: both programs now agree, one way or the other.
SETTLED = {
    "a flag's distance outranks the header's close distance": "-img header.img -distance 134",
    "a flag's size outranks the header's pixels": "-img header.img -detsize 25",
    "one mosaic domain has no spread": "-mosaic 1.1 -mosaic_dom 1",
    "of energy and wavelength the last counts": "-energy 12000 -lambda 1.3",
    "of wavelength and energy the last counts": "-lambda 1.3 -energy 12000",
    "a convention overrules the pivot in the original": "-xds -pivot beam -detector_rotx 9 -compat nanobragg",
    "an unpolarized source may travel along the E vector": "-adxv -sourcefile sources.txt",
    "a polarized source may not": "-adxv -sourcefile sources.txt -polar 0.5",
    "a point pixel's running sum overflows": "-point_pixel -oversample_omega -phi 1 -osc 1 -phisteps 20",
    "three choices in one flag": "-exact -osc 1 -phisteps 2 -cell 70 80 90 75 85 95",
}


@pytest.mark.parametrize("flags", SETTLED.values(), ids=SETTLED)
def test_what_was_once_found_stays_settled(c_program: Path, folder: Path, flags: str) -> None:
    words = [*CRYSTAL.split(), *flags.split()]
    assert not judge(c_program, folder, Command((tuple(words),), ()))


@pytest.mark.slow
@pytest.mark.parametrize("name", cases())
def test_both_programs_give_the_same_image_of_a_golden_command(c_program: Path, folder: Path, name: str) -> None:
    assert not judge(c_program, folder, Command((tuple(cases()[name].argv()),), ()))


def test_random_commands_are_not_empty_and_few_are_refused(c_program: Path, folder: Path) -> None:
    answers = [answer_of(c_program, folder, draw(seed).words) for seed in range(FAST)]
    images = [answer.image for answer in answers if answer.image is not None]
    assert len(images) >= 0.9 * FAST
    assert sum(bool(image.any()) for image in images) >= 0.85 * FAST


def test_random_commands_use_nearly_every_flag() -> None:
    names = {word for seed in range(COUNT) for group in draw(seed).extra for word in group[:1]}
    assert len(names) > 90
    assert draw(7) == draw(7)
    assert draw(7) != draw(8)


def test_a_failing_command_shrinks_to_what_makes_it_fail() -> None:
    command = Command((("-cell", "1"),), tuple((name,) for name in ("-a", "-b", "-c", "-d", "-e")))
    smallest = shrink(command, lambda smaller: {"-b", "-d"} <= set(smaller.words))
    assert smallest.words == ["-cell", "1", "-b", "-d"]


def test_a_disagreement_is_seen() -> None:
    image = np.array([1.0, 100.0, np.inf])
    near, far = image * (1 + 1e-6), image * [1, 1 + 1e-5, 1]
    assert not disagreement(Answer(0, "", near), Answer(0, "", image))
    assert "1 pixels differ" in disagreement(Answer(0, "", far), Answer(0, "", image))
    assert "pixels differ" in disagreement(Answer(0, "", image * np.nan), Answer(0, "", image))
    assert "refuses" in disagreement(Answer(2, "no", None), Answer(0, "", image))
    assert not disagreement(Answer(2, "no", None), Answer(2, "no", None))
