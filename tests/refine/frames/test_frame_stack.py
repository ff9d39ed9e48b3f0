"""Frames on disk: how often each is read, how many are held, what is kept of them, and one that vanishes meanwhile."""

from __future__ import annotations

import json
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import refine.fit.surveying
import refine.frames.frame_stack
from nbtorch.io import read_expt, read_frame
from refine.__main__ import main
from refine.frames.frame_stack import FrameReader, FrameStack
from refine.frames.shoeboxes import BoxPlan, cut, plan_boxes
from refine.records.journal import Journal
from tests.refine import small
from tests.refine.held import HeldPixels

NOISE = (np.ones(1), np.zeros(1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small.write(tmp_path)
    return tmp_path


def stack_of(folder: Path, said: list[str] | None = None) -> FrameStack:
    entry = read_expt(folder / "start.expt").entries[0]
    return FrameStack(entry.images, FrameReader(entry.detector), Journal(([] if said is None else said).append))


def plan_of(stack: FrameStack, off: float = 0.0) -> BoxPlan:
    centre = np.array([[20.5, 30.5, 0.5], [60.5, 31.5, 1.5], [62.5, 30.5, 2.5], [1.5, 158.5, 1.5]])
    centre[:, :2] += off
    hkl, panel = np.arange(12).reshape(4, 3), np.zeros(4, dtype=int)
    return plan_boxes(stack.reader.detector, hkl, panel, centre, (4, 1), len(stack.images))[0]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file was read."""
    found: Counter[str] = Counter()

    def counted(path: Path) -> Any:
        found[Path(path).name] += 1
        return read_frame(path)

    monkeypatch.setattr(refine.frames.frame_stack, "read_frame", counted)
    return found


def test_boxes_of_frames_on_disk_hold_what_those_of_held_frames_hold(folder: Path) -> None:
    stack = stack_of(folder)
    frames = [frame for frame in stack.frames() if frame is not None]
    held = HeldPixels([frame.counts for frame in frames], [frame.valid for frame in frames])
    for off in (0.0, 1.0, 7.0):  # within what is kept about the first, and beyond
        one, other = (cut(plan_of(stack, off), pixels, NOISE) for pixels in (stack, held))
        assert one.counts.equal(other.counts)
        assert one.valid.equal(other.valid)
        assert one.position.equal(other.position)
        assert one.counts.any()


def test_a_frame_is_read_once_for_boxes_and_not_again_while_they_move_a_little(
    folder: Path, reads: Counter[str]
) -> None:
    stack = stack_of(folder)
    cut(plan_of(stack), stack, NOISE)
    assert set(reads.values()) == {1}
    assert len(reads) == small.FRAMES
    cut(plan_of(stack, 1.0), stack, NOISE)
    assert set(reads.values()) == {1}
    cut(plan_of(stack, 7.0), stack, NOISE)
    assert set(reads.values()) == {2}


def test_one_frame_is_held_however_many_there_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def counted(path: Path) -> Any:
        alive.append(sum(image() is not None for image in images))
        frame = read_frame(path)
        images.append(weakref.ref(frame.counts))
        return frame

    monkeypatch.setattr(refine.frames.frame_stack, "read_frame", counted)
    stack = stack_of(folder)
    for frame in stack.frames():
        assert frame is not None
    assert len(alive) == small.FRAMES
    assert max(alive) <= 1  # the one before, which the loop still names
    cut(plan_of(stack), stack, NOISE)
    assert sum(len(kept.places) for kept in stack._kept.values()) < 0.1 * small.FRAMES * small.SIZE**2


def test_what_is_no_longer_asked_for_goes(folder: Path) -> None:
    stack = stack_of(folder)
    plan = plan_of(stack)
    cut(plan, stack, NOISE)
    before = sum(len(kept.places) for kept in stack._kept.values())
    stack.keep(plan[:1])
    after = sum(len(kept.places) for kept in stack._kept.values())
    assert 0 < after < before / 2
    assert cut(plan[:1], stack, NOISE).counts.equal(cut(plan_of(stack)[:1], stack_of(folder), NOISE).counts)


def test_a_frame_that_vanishes_between_two_readings_costs_its_own_pixels_and_is_said_once(folder: Path) -> None:
    said: list[str] = []
    stack = stack_of(folder, said)
    assert all(frame is not None for frame in stack.frames())
    stack.images[1].unlink()
    boxes = cut(plan_of(stack), stack, NOISE)
    assert boxes.frame[boxes.valid].unique().tolist() == [0, 2]
    cut(plan_of(stack, 7.0), stack, NOISE)
    assert len(said) == len(stack.lost) == 1
    assert stack.images[1].name in said[0]


def test_what_was_kept_of_a_frame_serves_when_it_is_gone(folder: Path) -> None:
    stack = stack_of(folder)
    before = cut(plan_of(stack), stack, NOISE)
    for path in stack.images:
        path.unlink()
    after = cut(plan_of(stack), stack, NOISE)
    assert after.counts.equal(before.counts)
    assert not stack.lost


FIT = ("parameters=all", "parameters.cell=false", "parameters.mosaic_spread=false", "crystal.mosaic_spread=0",
       "parameters.fix=['*.rot_normal']", "crystal.n_cells=[12,11,9]", "render.oversample=3", "parameters.scale=spot",
       "trainer.progress=none", "trainer.logger=none")  # fmt: skip


def fitted(folder: Path) -> dict[str, Any]:
    command = [f"data.experiment={folder / 'start.expt'}", f"data.amplitudes={folder / 'F.hkl'}", *FIT]
    assert main([*command, f"hydra.run.dir={folder / 'out'}"]) == 0
    found = json.loads((folder / "out" / "result.json").read_text())
    assert isinstance(found, dict)
    return found


def test_a_fit_reads_each_still_twice_and_a_few_once_more_for_the_report(tmp_path: Path, reads: Counter[str]) -> None:
    small.write_stills(tmp_path, 5)
    assert fitted(tmp_path)["converged"]
    drawn = {name for name, count in reads.items() if count == 3}
    assert drawn == {"still_0.cbf", "still_2.cbf", "still_4.cbf"}
    assert {count for name, count in reads.items() if name not in drawn} == {2}


def test_a_still_that_vanishes_after_its_spots_were_found_costs_that_still_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small.write_stills(tmp_path, 3)
    survey = refine.fit.surveying.survey

    def vanishing(expt: Any, *rest: Any) -> Any:
        seen = survey(expt, *rest)
        if expt.index == 1:
            expt.images[0].unlink()
        return seen

    monkeypatch.setattr(refine.fit.surveying, "survey", vanishing)
    found = fitted(tmp_path)
    assert found["converged"]
    rows = {Path(row["path"]).stem: row for row in found["frames"]}
    assert [rows[f"still_{i}"]["ok"] for i in range(3)] == [True, False, True]
    assert "still_1.cbf" in rows["still_1"]["message"]
    assert rows["still_1"]["n_spots"] == 0
    assert not any(row["free"] for row in found["parameters"] if row["name"].startswith("crystal[1]"))
    assert all(row["free"] for row in found["parameters"] if row["name"].startswith("crystal[2].rot_"))
    assert "still_1.cbf" in capsys.readouterr().out
