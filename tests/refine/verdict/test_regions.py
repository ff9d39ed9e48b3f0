"""Residuals by panel and quadrant, and the centroids' own errors in them."""

from __future__ import annotations

import numpy as np
import pytest

from refine.verdict.regions import regions


def test_regions_are_all_spots_panels_and_quadrants_with_their_own_rms() -> None:
    panel = np.array([0, 0, 1, 1])
    position = np.array([[10.0, 10.0], [90.0, 10.0], [10.0, 90.0], [90.0, 90.0]])
    residual = np.array([[0.3, 0.4], [0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    width, photons = np.full((4, 2), 2.0), np.full(4, 400.0)
    found = {r.name: r for r in regions(panel, position, residual, width, photons, np.array([[100, 100], [100, 100]]))}
    assert found["all"].spots == 4
    assert found["all"].rms == pytest.approx(np.sqrt((0.25 + 25) / 8))
    assert found["all"].own == pytest.approx(2.0 / 20)
    assert found["panel 0"].rms == pytest.approx(np.sqrt(0.25 / 4))
    assert found["panel 1, low fast, high slow"].rms == pytest.approx(np.sqrt(25 / 2))
    assert found["panel 1, low fast, high slow"].width == pytest.approx(2.0)
    assert "panel 0, low fast, high slow" not in found


def test_one_panel_has_quadrants_and_many_panels_have_none() -> None:
    spots = np.zeros(1, dtype=int), np.array([[1.0, 9.0]]), np.ones((1, 2)), np.ones((1, 2)), np.ones(1)
    names = [r.name for r in regions(*spots, np.full((1, 2), 10))]
    assert names == ["all", "the quadrant of low fast, high slow"]
    assert [r.name for r in regions(*spots, np.full((9, 2), 10))] == ["all", "panel 0"]
