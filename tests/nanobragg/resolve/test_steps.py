"""Step rules, sources and fluence: docs/physics.md §4."""

from __future__ import annotations

import math

import pytest

from nbtorch.errors import ConfigError
from nbtorch.nanobragg.resolve.steps import ONE_POINT, Steps, beam_steps, spindle_steps
from tests.nanobragg.resolve.test_detector import resolved


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((None, None, None), ONE_POINT),
        ((None, None, 0.1), Steps(2, 0.1, 0.1)),
        ((None, 0.3, None), Steps(2, 0.3, 0.3)),
        ((None, 0.3, 0.1), Steps(3, 0.3, 0.1)),
        ((None, 0.35, 0.1), Steps(4, 0.35, 0.1)),
        ((4, None, None), Steps(4, 1.0, 0.25)),
        ((4, None, 0.1), Steps(2, 0.1, 0.1)),
        ((4, 0.3, None), Steps(4, 0.3, 0.1)),
        ((1, 0.3, None), Steps(2, 0.3, 0.3)),
        ((4, 0.3, 0.05), Steps(4, 0.3, 0.05)),
        ((0, 0.3, None), Steps(2, 0.3, 0.3)),
        ((4, 0.0, None), ONE_POINT),
        ((None, -1.0, None), ONE_POINT),
        ((None, 1.0, 0.0), ONE_POINT),
    ],
)
def test_beam_steps(given: tuple[int | None, float | None, float | None], expected: Steps) -> None:
    steps = beam_steps(*given)
    assert steps.points == expected.points
    assert (steps.range, steps.step) == pytest.approx((expected.range, expected.step))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((None, 2.0, None), Steps(2, 2.0, 1.0)),
        ((5, 2.0, None), Steps(5, 2.0, 0.4)),
        ((None, 2.0, 0.5), Steps(4, 2.0, 0.5)),
        ((1, 2.0, None), Steps(1, 2.0, 2.0)),
        ((4, None, None), Steps(4, 1.0, 0.25)),
        ((None, None, 0.5), Steps(2, 0.5, 0.5)),
        ((None, None, None), ONE_POINT),
        ((5, 0.0, None), ONE_POINT),
    ],
)
def test_spindle_steps(given: tuple[int | None, float | None, float | None], expected: Steps) -> None:
    steps = spindle_steps(*given)
    assert steps.points == expected.points
    assert (steps.range, steps.step) == pytest.approx((expected.range, expected.step))


def test_a_wild_number_of_steps_is_refused() -> None:
    with pytest.raises(ConfigError, match="at most"):
        beam_steps(None, 1.0, 1e-9)


def test_wavelengths_are_innermost_and_centred() -> None:
    sources = resolved("-lambda 2 -dispersion 2 -dispsteps 3 -hdivrange 4 -hdivsteps 2").beam.sources
    assert [source.wavelength for source in sources] == pytest.approx([1.98, 2.0, 2.02] * 2)
    angles = [math.atan2(source.direction[2], -source.direction[0]) for source in sources[::3]]
    assert sorted(angles) == pytest.approx([-0.002, 0.002])


def test_round_divergence_drops_the_corners() -> None:
    square, ellipse = (
        len(resolved(f"-divergence 4 -divsteps 5 {flag}").beam.sources) for flag in ("-square_div", "-round_div")
    )
    assert (square, ellipse) == (25, 13)


def test_flux_replaces_fluence_and_says_so() -> None:
    ours = resolved("-flux 1e12 -exposure 2 -beamsize 0.05 -fluence 1e20")
    assert ours.beam.fluence == pytest.approx(1e12 * 2 / (0.05e-3) ** 2)
    assert "-flux replaces -fluence" in "\n".join(map(str, ours.notes))


def test_flux_needs_a_beam_size() -> None:
    with pytest.raises(ConfigError, match="beam size"):
        resolved("-flux 1e12 -beamsize 0")


def test_nopolar_wins_over_polar() -> None:
    ours = resolved("-polar 0.9 -nopolar")
    assert ours.beam.kahn_factor is None
    assert "-polar is not used" in "\n".join(map(str, ours.notes))


@pytest.mark.parametrize("words", ["-lambda 0", "-lambda -1", "-dispersion 500", "-polar 3", "-polar_vector 1 0 0"])
def test_a_beam_that_cannot_be_is_refused(words: str) -> None:
    with pytest.raises(Exception, match=r"\.$") as caught:
        resolved(words)
    assert type(caught.value).__module__ == "nbtorch.errors"
