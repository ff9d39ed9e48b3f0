"""The header of the Timepix whose beam centre is in pixels, where every other SMV header has mm."""

from __future__ import annotations

from nbtorch.nanobragg.resolve.header import header_values

HEADER = {"PIXEL_SIZE": "0.055", "BEAM_CENTER_X": "250.5", "BEAM_CENTER_Y": "260"}


def test_a_beam_centre_in_pixels_becomes_mm_for_img() -> None:
    pixels = header_values({**HEADER, "BEAMLINE": "TIMEPIX_SU"}, is_mask=False)
    assert (pixels["x_beam"], pixels["y_beam"]) == (250.5 * 0.055, 260 * 0.055)
    millimetres = header_values({**HEADER, "BEAMLINE": "other"}, is_mask=False)
    assert (millimetres["x_beam"], millimetres["y_beam"]) == (250.5, 260.0)
