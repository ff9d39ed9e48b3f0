"""What undoes the usual mistakes of headers: each moves the models as its words say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nbtorch.io import read_expt
from nbtorch.io.expt import ExperimentEntry
from refine.verdict.mistakes import beam_centre, mistakes
from tests.refine import small


@pytest.fixture
def entry(tmp_path: Path) -> ExperimentEntry:
    """A scan whose beam meets the detector at pixel (80 + 10, 80 − 5)."""
    import json

    given = small.document()
    panel = given["detector"][0]["panels"][0]
    panel["origin"] = [-90 * small.PIXEL, 75 * small.PIXEL, -small.DISTANCE]
    (tmp_path / "start.expt").write_text(json.dumps(given))
    return read_expt(tmp_path / "start.expt")[0]


def undone(entry: ExperimentEntry, words: str) -> ExperimentEntry:
    (mistake,) = [one for one in mistakes() if words in one.words]
    changed = mistake.undo(entry)
    assert changed is not None
    return changed


def centre(entry: ExperimentEntry) -> np.ndarray:
    found = beam_centre(entry)
    assert found is not None
    return found[2]


def test_the_beam_centre_is_where_the_beam_meets_the_panel(entry: ExperimentEntry) -> None:
    found = beam_centre(entry)
    assert found is not None
    assert found[1] == pytest.approx([0, 0, -small.DISTANCE])
    assert found[2] == pytest.approx([90, 75])


def test_exchanging_the_centre_exchanges_its_pixels_and_keeps_the_distance(entry: ExperimentEntry) -> None:
    changed = undone(entry, "exchanged")
    assert centre(changed) == pytest.approx([75, 90])
    assert changed.detector.panels[0].origin[2] == pytest.approx(-small.DISTANCE)


@pytest.mark.parametrize(
    ("words", "fast", "slow"), [("upside down", -1, -1), ("fast axis", -1, 1), ("slow axis", 1, -1)]
)
def test_reversing_axes_keeps_the_beam_centre(entry: ExperimentEntry, words: str, fast: int, slow: int) -> None:
    changed = undone(entry, words)
    assert centre(changed) == pytest.approx([90, 75])
    panel, before = changed.detector.panels[0], entry.detector.panels[0]
    assert panel.fast_axis == pytest.approx(fast * np.array(before.fast_axis))
    assert panel.slow_axis == pytest.approx(slow * np.array(before.slow_axis))


def test_wavelength_distance_and_spindle_change_alone(entry: ExperimentEntry) -> None:
    assert undone(entry, "wavelength +2%").beam.wavelength == pytest.approx(1.02)
    further = undone(entry, "1000 times")
    assert centre(further) == pytest.approx([90, 75])
    assert further.detector.panels[0].origin[2] == pytest.approx(-1000 * small.DISTANCE)
    turned = undone(entry, "spindle").crystal
    assert turned is not None
    assert turned.goniometer.axis == pytest.approx((-1, 0, 0))


def test_a_still_has_no_spindle_to_turn(tmp_path: Path) -> None:
    path = small.write_stills(tmp_path, 1)
    (spindle,) = [one for one in mistakes() if "spindle" in one.words]
    assert spindle.undo(read_expt(path)[0]) is None
