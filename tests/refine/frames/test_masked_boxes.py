"""Boxes of which not one pixel was measured leave finite numbers."""

from __future__ import annotations

import torch

from refine.frames.shoeboxes import background_columns
from tests.refine import tiny


def test_a_box_without_a_valid_pixel_has_finite_background_columns() -> None:
    (expt,) = tiny.experiments(1)
    boxes = tiny.empty_boxes(expt, tiny.plan(expt))
    masked = boxes.__class__(**{**vars(boxes), "valid": boxes.valid & (torch.arange(len(boxes)) > 0)[:, None]})
    for kind in ("plane", "frame", "constant"):
        columns = background_columns(masked, kind)
        assert torch.isfinite(columns).all(), kind
        assert float(columns[0].abs().sum()) == 0
        assert float(columns[1].abs().sum()) > 0
