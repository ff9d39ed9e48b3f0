"""Pivot, convention, beam centre and origin: precedence as docs/physics.md §2.3 and §2.4 state it."""

from __future__ import annotations

import math

import pytest

from nbtorch.config import Vec3
from nbtorch.conventions import CONVENTIONS, convention
from nbtorch.errors import ConfigError, GeometryError
from nbtorch.nanobragg.cli.parsing import parse
from nbtorch.nanobragg.resolve import Placement, Resolved, Stated, resolve
from tests.helpers.command import split

BASE = "-cell 50 50 50 90 90 90 -oversample 1 -detpixels 100 -pixel 0.3 "


def resolved(words: str) -> Resolved:
    """A command line, resolved."""
    parsed = parse(split(BASE + words))
    return resolve(Stated(order=parsed.order, **parsed.values))


def placement(words: str) -> Placement:
    return resolved(words).placement


def notes(words: str) -> str:
    return "\n".join(map(str, resolved(words).notes))


def beam_position(words: str) -> Vec3:
    """Where the direct beam meets the detector's plane, mm along fast and slow from the outer corner, and distance."""
    place, beam = placement(words), resolved(words).beam.direction
    along = sum(p * n for p, n in zip(place.pix0, place.normal, strict=True))
    distance = along / sum(b * n for b, n in zip(beam, place.normal, strict=True))
    hit = [distance * b - p for b, p in zip(beam, place.pix0, strict=True)]
    fast = sum(h * f for h, f in zip(hit, place.fast, strict=True))
    return fast, sum(h * s for h, s in zip(hit, place.slow, strict=True)), distance


@pytest.mark.parametrize(
    ("words", "pivot"),
    [
        ("", "beam"),
        ("-twotheta 5", "beam"),  # MOSFLM sets its own
        ("-xds", "sample"),
        ("-dials -distance 90", "sample"),
        ("-adxv -Xclose 3", "beam"),
        ("-denzo", "beam"),
        ("-beam_vector 1 0 0", "beam"),
        ("-beam_vector 1 0 0 -twotheta 5", "sample"),
        ("-beam_vector 1 0 0 -twotheta 5 -Xbeam 4", "beam"),
        ("-beam_vector 1 0 0 -Xbeam 4 -twotheta 5", "sample"),
        ("-beam_vector 1 0 0 -ORGX 4", "sample"),
        ("-beam_vector 1 0 0 -close_distance 4", "sample"),
        ("-beam_vector 1 0 0 -Yclose 4 -distance 90", "beam"),
        ("-xds -pivot beam", "beam"),
        ("-pivot sample", "sample"),
        ("-pivot sample -distance 90 -Xbeam 3", "sample"),
        ("-pivot sample -compat nanobragg", "beam"),
        ("-beam_vector 1 0 0 -pivot sample -compat nanobragg", "sample"),
    ],
)
def test_pivot(words: str, pivot: str) -> None:
    assert placement(words).pivot == pivot


@pytest.mark.parametrize("pivot", ["beam", "sample"])
@pytest.mark.parametrize("name", ["mosflm", "denzo", "adxv", "xds", "dials"])
def test_what_pivots_stays_in_place_under_detector_rotations(name: str, pivot: str) -> None:
    straight = f"-{name} -pivot {pivot}"
    turned = f"{straight} -detector_rotx 6 -detector_roty -4 -detector_rotz 3"
    if pivot == "beam":
        assert beam_position(turned)[:2] == pytest.approx(beam_position(straight)[:2], abs=1e-9)
    else:
        for field in ("fast_close", "slow_close", "close_distance"):
            a, b = (getattr(placement(words + " -close_distance 90"), field) for words in (straight, turned))
            assert a == pytest.approx(b, abs=1e-9), field


@pytest.mark.parametrize("name", CONVENTIONS)
def test_a_conventions_vectors_are_orthonormal(name: str) -> None:
    frame = convention(name)
    for vector in (frame.beam, frame.twotheta_axis, frame.polarization, frame.spindle):
        assert math.hypot(*vector) == 1
    for a, b in ((frame.fast, frame.slow), (frame.slow, frame.normal), (frame.normal, frame.fast)):
        assert sum(x * y for x, y in zip(a, b, strict=True)) == 0
    assert sum(x * y for x, y in zip(frame.beam, frame.polarization, strict=True)) == 0


def test_an_unknown_convention_lists_the_valid_ones() -> None:
    with pytest.raises(ConfigError, match="MOSFLM, DENZO, ADXV"):
        convention("hkl2000")


def test_any_vector_selects_the_custom_convention_and_says_so() -> None:
    ours = resolved("-xds -spindle_axis 0 2 0")
    assert ours.convention == "CUSTOM"
    assert ours.crystal.goniometer.axis == (0, 1, 0)
    assert "-xds is not used" in notes("-xds -spindle_axis 0 2 0")


def test_a_normal_that_is_not_exactly_unit_is_rebuilt_from_fast_and_slow() -> None:
    typed = "-fdet_vector 0 0 1 -sdet_vector 0 -1 0 -odet_vector "
    assert placement(typed + "0.8 0.6 0").normal == pytest.approx((0.8, 0.6, 0))
    assert placement(typed + "0.8 0.6 0.001").normal == pytest.approx((1, 0, 0))


@pytest.mark.parametrize("flag", ["-pix0_vector 0.12 0.02 -0.013", "-pix0_vector_mm 120 20 -13"])
def test_pix0_is_where_the_user_puts_it(flag: str) -> None:
    place = placement(flag)
    assert place.pix0 == pytest.approx((120, 20, -13))
    assert (place.distance, place.close_distance) == pytest.approx((120, 120))
    assert (place.x_beam, place.y_beam) == pytest.approx((13, 20))
    assert (place.org_x, place.org_y) == pytest.approx((13 / 0.3 + 0.5, 20 / 0.3 + 0.5))


def test_pix0_is_turned_by_the_detector_rotations() -> None:
    turned = placement("-pix0_vector_mm 120 20 -13 -detector_rotz 30")
    cosine, sine = math.cos(math.pi / 6), 0.5
    assert turned.pix0 == pytest.approx((120 * cosine - 20 * sine, 120 * sine + 20 * cosine, -13))


def test_pix0_warns_of_every_flag_it_overrules() -> None:
    text = notes("-pix0_vector_mm 120 20 -13 -Xbeam 1 -Ybeam 2 -ORGX 3 -distance 90")
    assert "-distance -Xbeam -Ybeam -ORGX not used to place the detector: -pix0_vector does" in text


def test_compat_only_takes_the_convention_from_pix0() -> None:
    place = placement("-pix0_vector_mm 120 20 -13 -compat nanobragg -Xbeam 10 -Ybeam 11")
    assert place.pix0 == pytest.approx((100, 11, -10))
    assert "-pix0_vector not used" in notes("-pix0_vector_mm 120 20 -13 -compat nanobragg")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-distance 90 -close_distance 80", "-distance not used"),
        ("-xds -Xbeam 3 -Yclose 4", "-Xbeam -Yclose not used"),
        ("-ORGX 5 -Xclose 3", "-Xclose -ORGX not used"),
        ("-detsize 40", "-detsize not used along fast"),
        ("-detector_thicksteps 3", "absorbs nothing"),
        ("-detector_thick 300", "no absorption"),
    ],
)
def test_a_flag_without_effect_is_named(words: str, said: str) -> None:
    assert said in notes(words)


def test_a_choice_is_told() -> None:
    text = notes("")
    assert "choice: convention MOSFLM" in text
    assert "choice: pivot beam" in text


@pytest.mark.parametrize(
    "words", ["-detector_roty 90", "-pixel 0", "-pixel -1", "-detpixels 0", "-detpixels 1e9", "-distance 0"]
)
def test_a_detector_that_cannot_be_is_refused(words: str) -> None:
    with pytest.raises((ConfigError, GeometryError)):
        resolved(words)


@pytest.mark.parametrize(
    ("words", "layers", "step", "thickness"),
    [
        ("-detector_abs 300 -detector_thick 450", 2, None, 0.45),
        ("-detector_abs 300 -detector_thick 450 -thicksteps 4", 4, 0.15, 0.45),  # nanoBragg: one step too thick
        ("-detector_abs 300 -detector_thick 450 -thicksteps 1", 2, 0.45, 0.45),
        ("-detector_abs 300 -detector_thick 450 -thicksteps 4 -exact_corrections", 4, None, 0.45),
        ("-detector_abs 0 -detector_thick 450 -thicksteps 4", 1, None, 0.45),
    ],
)
def test_sensor_layers(words: str, layers: int, step: float | None, thickness: float) -> None:
    detector = resolved(words).detector
    assert detector.layers == layers
    assert detector.layer_step == (None if step is None else pytest.approx(step))
    assert detector.panels[0].thickness == pytest.approx(thickness)


def test_roi_is_cut_to_the_detector_and_refused_outside() -> None:
    assert resolved("-roi -5 20 30 500").roi == (0, 20, 30, 99)
    with pytest.raises(ConfigError, match="no pixel"):
        resolved("-roi 200 300 0 10")
