"""What the report's scripts are given to draw."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace

import numpy as np
import pytest

from refine.report.embedded import embedded, rounded
from refine.report.page_data import MAX_SPOTS, box_data, page_data, spot_columns
from tests.refine import fake


def test_embedded_data_come_back_as_they_were_and_hold_no_markup() -> None:
    data = {"name": "</script><script>alert(1)</script> Å", "values": [1, 2.5, None]}
    packed = embedded(data)
    assert set(packed) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
    assert json.loads(zlib.decompress(base64.b64decode(packed))) == data


def test_rounding_keeps_the_shape_and_has_none_for_what_is_not_finite() -> None:
    values = np.array([[1.0, 2.345], [np.nan, np.inf]])
    assert rounded(values, 2) == [[1, 2.35], [None, None]] or rounded(values, 2) == [[1, 2.34], [None, None]]
    assert rounded(np.zeros((0, 3)), 1) == []


def test_a_pixel_of_a_panel_lies_where_the_detector_has_it() -> None:
    outcome = fake.outcome()
    panels = page_data(outcome)["panels"]
    assert [panel["name"] for panel in panels] == ["left", "right"]
    before, after = (np.array(panels[1][when]["flat"]) for when in ("start", "end"))
    assert np.linalg.norm(before[1:], axis=1) == pytest.approx([0.172, 0.172], abs=1e-6)
    moved = np.linalg.norm(after[0] - before[0])
    assert moved == pytest.approx(0.8, abs=1e-5)  # by which the fake detector is shifted along fast


def test_every_spot_has_a_row_and_its_state() -> None:
    spots = fake.outcome().spots
    columns = spot_columns(spots)
    assert {len(values) for values in columns.values()} == {len(spots)}
    assert [columns["state"].count(state) for state in (0, 1, 2)] == [
        sum(row.used for row in spots),
        sum(row.heldout for row in spots),
        sum(not row.used and not row.heldout for row in spots),
    ]


def test_of_too_many_spots_the_rejected_ones_go_first() -> None:
    outcome = fake.outcome()
    (rejected,) = [row for row in outcome.spots if not row.used and not row.heldout]
    kept = next(row for row in outcome.spots if row.used)
    many = replace(outcome, spots=(rejected,) * 5 + (kept,) * (MAX_SPOTS - 2))
    data = page_data(many)
    assert data["unlisted"] == 3
    assert data["spots"]["state"].count(2) == 2


def test_a_box_goes_to_the_row_of_its_reflection_near_its_frames() -> None:
    outcome = fake.outcome()
    box = outcome.spot_boxes[0]
    (row,) = [n for n, spot in enumerate(outcome.spots) if (spot.h, spot.panel) == (box.h, box.panel) and spot.used]
    spot = outcome.spots[row]
    later = replace(spot, frame=spot.frame + 40, observed_frame=spot.frame + 40)
    (found,) = box_data([box], [later, spot])
    assert found["spot"] == 1
    assert found["at"] == [box.frame, box.slow, box.fast]
    assert np.array(found["observed"], dtype=float).shape == box.observed.shape
    assert found["observed"][0][0][0] is None  # masked
    assert box_data([box], [later]) == []
