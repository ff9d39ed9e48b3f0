"""Counting or integrating, gain and read-out noise, from the pixels of a simulated detector."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nbtorch.config import DetectorConfig
from nbtorch.io import write_cbf
from refine.frames.frame_stack import FrameReader, MeasuredFrame
from refine.frames.noise import counts_photons, detector_noise, look
from refine.settings.fit_settings import DataSettings
from tests.refine import tiny

SIZE = 400


def detector(**changes: object) -> DetectorConfig:
    config = tiny.detector_config()
    given = {"size": (SIZE, SIZE), "trusted_range": (-1.0, 1e6)} | changes
    return replace(config, panels=(replace(config.panels[0], **given),))


def frame(image: np.ndarray, valid: np.ndarray | None = None) -> MeasuredFrame:
    return MeasuredFrame((image,), (np.ones(image.shape, dtype=bool) if valid is None else valid,))


def noise_of(
    config: DetectorConfig, seen: MeasuredFrame, settings: DataSettings, *, counting: bool
) -> tuple[np.ndarray, np.ndarray]:
    return detector_noise(config, look(config, seen, settings, counting), settings)


def integrated(rng: np.random.Generator, gain: float, readout: float, *, spots: bool = True) -> np.ndarray:
    """ADU of a sloping background of 20 to 200 photons, with spots, through a gain and a read-out noise."""
    slow, fast = np.mgrid[:SIZE, :SIZE] / SIZE
    photons = 20 + 120 * fast + 60 * slow**2
    if spots:
        for x, y in rng.uniform(20, SIZE - 20, (40, 2)):
            photons = photons + 800 * np.exp(-((fast * SIZE - x) ** 2 + (slow * SIZE - y) ** 2) / 4)
    return np.asarray(gain * rng.poisson(photons) + readout * rng.standard_normal(photons.shape))


def estimated(image: np.ndarray, settings: DataSettings | None = None, **changes: object) -> tuple[float, float]:
    given = settings or DataSettings("none.expt")
    gain, readout = noise_of(detector(**changes), frame(image), given, counting=False)
    return float(gain[0]), float(readout[0])


@pytest.mark.parametrize(("gain", "readout"), [(0.5, 2.0), (7.5, 20.0), (30.0, 60.0)])
def test_gain_and_read_out_noise_are_estimated_from_the_frame(
    rng: np.random.Generator, gain: float, readout: float
) -> None:
    found = estimated(integrated(rng, gain, readout))
    assert found[0] == pytest.approx(gain, rel=0.1)  # of eight draws 2.5 % high, worst seen 7 %
    # read-out noise is what is left of the variance where there is no light: to a tenth of the photons' own
    assert abs(found[1] ** 2 - readout**2) < 0.1 * gain**2 * 90  # worst seen 0.06


def test_read_out_noise_that_outweighs_the_photons_is_found(rng: np.random.Generator) -> None:
    gain, readout = estimated(integrated(rng, 7.5, 80.0))
    assert readout == pytest.approx(80.0, rel=0.08)
    assert gain == pytest.approx(7.5, rel=0.15)


def test_a_frame_without_light_has_read_out_noise_alone(rng: np.random.Generator) -> None:
    _, readout = estimated(5.0 * rng.standard_normal((SIZE, SIZE)))
    assert readout == pytest.approx(5.0, rel=0.1)
    assert estimated(np.full((SIZE, SIZE), 3.0))[0] >= 0.1  # not a number's worth of noise: no crash, no division by 0


def test_spots_do_not_pass_for_noise(rng: np.random.Generator) -> None:
    with_spots, without = (estimated(integrated(np.random.default_rng(4), 7.5, 20.0, spots=s)) for s in (True, False))
    assert with_spots[0] == pytest.approx(without[0], rel=0.08)


def test_masked_pixels_do_not_either(rng: np.random.Generator) -> None:
    image = integrated(rng, 7.5, 20.0, spots=False)
    valid = np.ones(image.shape, dtype=bool)
    valid[100:150] = False
    spoiled = np.where(valid, image, 1e7 * rng.random(image.shape))
    gain, _ = noise_of(detector(), frame(spoiled, valid), DataSettings("none.expt"), counting=False)
    assert float(gain[0]) == pytest.approx(7.5, rel=0.15)


def test_a_counting_detector_has_a_gain_of_one_and_no_read_out_noise(rng: np.random.Generator) -> None:
    image = integrated(rng, 1.0, 0.0)
    gain, readout = noise_of(detector(), frame(image), DataSettings("none.expt"), counting=True)
    assert (gain.tolist(), readout.tolist()) == ([1.0], [0.0])


def test_what_is_stated_is_taken(rng: np.random.Generator) -> None:
    image = integrated(rng, 7.5, 20.0)
    assert estimated(image, DataSettings("none.expt", gain=3.0, readout_noise=4.0)) == (3.0, 4.0)
    assert estimated(image, gain=5.0) == (5.0, 0.0)  # the experiment's own
    assert estimated(image, DataSettings("none.expt", readout_noise=4.0))[1] == 4.0


def test_every_panel_has_its_gain(rng: np.random.Generator) -> None:
    config = tiny.detector_config(panels=2)
    panels = (replace(config.panels[0], gain=2.0), replace(config.panels[1], gain=3.0))
    image = rng.poisson(5.0, (tiny.SIZE, tiny.SIZE)).astype(float)
    frames = MeasuredFrame((image, image), (image >= 0, image >= 0))
    given = replace(config, panels=panels)
    gain, readout = noise_of(given, frames, DataSettings("none.expt"), counting=False)
    assert (gain.tolist(), readout.tolist()) == ([2.0, 3.0], [0.0, 0.0])


def test_whole_numbers_that_are_never_negative_are_photons(rng: np.random.Generator) -> None:
    photons = rng.poisson(3.0, (SIZE, SIZE)).astype(float)
    assert counts_photons(detector(), frame(photons))
    assert not counts_photons(detector(), frame(photons + 0.25))
    masked = photons.copy()
    masked[7, 9] = np.nan
    assert counts_photons(detector(), frame(masked, np.isfinite(masked)))


def test_a_trusted_range_far_below_zero_is_that_of_an_integrating_detector(rng: np.random.Generator) -> None:
    photons = rng.poisson(3.0, (SIZE, SIZE)).astype(float)
    assert not counts_photons(detector(trusted_range=(-50.0, 6e4)), frame(photons))
    assert counts_photons(detector(trusted_range=(-1.0, 6e4)), frame(photons))


def test_a_pedestal_is_taken_off_before_the_noise_is_judged(tmp_path: Path) -> None:
    """Dark pixels that read 100 hold no counts of photons, and the gain is what it is without the 100."""
    image = 100 + integrated(np.random.default_rng(5), 3.0, 2.0)
    write_cbf(tmp_path / "a.cbf", np.round(image).astype(np.int32))
    config = detector(pedestal=100.0)
    measured = FrameReader(config).frame(tmp_path / "a.cbf")
    assert np.allclose(measured.counts[0], np.round(image) - 100)
    seen = look(config, measured, DataSettings())
    assert not seen.counts
    assert seen.gain == pytest.approx(3, rel=0.1)
