"""Width and offset of the spectrum and the three numbers of an anisotropic mosaic spread, as a fit takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from nbtorch.config import MosaicConfig
from nbtorch.errors import ConfigError
from nbtorch.io import read_expt
from nbtorch.models import Beam, Crystal, Experiment
from refine.conclude.spread_rows import of_spread
from refine.least_squares.levenberg_marquardt import LevenbergMarquardt
from refine.least_squares.uncertainty import Uncertainty, uncertainty
from refine.parameters.kinds import MOSAIC_SPREAD
from refine.parameters.parameter_set import ParameterSet, switch
from refine.parameters.physical import beam_parameters, cell_parameters, mosaic_parameters, size_parameters
from refine.records.outcome import ParameterRow
from refine.scene.scene import crystal_for_fit
from refine.settings.fit_settings import BeamSettings, CrystalSettings, DataSettings, FitSettings, ParameterSettings
from tests.refine import small, tiny

FIT = FitSettings(data=DataSettings("none.expt"))
#: Seven wavelengths of 1 % rms, heavier on one side: their mean is not the nominal one.
SPECTRUM = tuple((0.005 * i, weight) for i, weight in zip(range(-3, 4), (1, 2, 4, 6, 5, 3, 1), strict=True))


def experiment(mosaic: MosaicConfig | None = None) -> Experiment:
    (expt,) = tiny.experiments(mosaic=mosaic or MosaicConfig())
    return Experiment(expt.crystal, Beam(replace(tiny.beam_config(), spectrum=SPECTRUM)), expt.detector,
                      expt.structure_factors)  # fmt: skip


def parameters_of(expt: Experiment, free: Sequence[str]) -> ParameterSet:
    rows = beam_parameters(expt.beam, FIT.parameters) + cell_parameters(0, expt.crystal, FIT)
    rows += size_parameters(0, expt.crystal, FIT.parameters) + mosaic_parameters(0, expt.crystal, free=False)
    return ParameterSet(switch(switch(rows, ["*"], []), [], free), tiny.start_tensors([expt]))


def fitted(made: tiny.Tiny, rng: np.random.Generator) -> tuple[dict[str, tuple[float, float]], Uncertainty]:
    """Error and sigma of every free parameter after a fit of one draw from the start, and what is known of them."""
    objective, parameters = made.objective(rng), made.start()
    solver = LevenbergMarquardt()
    for _ in range(20):
        step = solver.step(objective, parameters)
        if not step.accepted or step.move < 0.01:
            break
    known = uncertainty(objective, parameters, objective.linearize(parameters))
    errors = (parameters.values.detach() - made.truth)[parameters.free]
    pairs = zip(known.names, errors.tolist(), known.model.tolist(), strict=True)
    return {name: (error, sigma) for name, error, sigma in pairs}, known


def test_the_bandwidth_scales_the_spectrum_about_its_mean() -> None:
    expt = experiment()
    parameters = parameters_of(expt, ["beam.bandwidth", "beam.spectrum_offset"])
    names = [row.name for row in parameters.parameters_]
    width = parameters.parameters_[names.index("beam.bandwidth")]
    offsets, weights = np.array(SPECTRUM).T
    mean = np.average(offsets, weights=weights)
    assert width.told(width.start) == pytest.approx(100 * np.sqrt(np.average((offsets - mean) ** 2, weights=weights)))
    with torch.no_grad():
        parameters.values[names.index("beam.bandwidth")] *= 1.5**2
        parameters.values[names.index("beam.spectrum_offset")] += 0.01
    expected = mean + 1.5 * (offsets - mean) + 0.01
    np.testing.assert_allclose(parameters.changes(0)["beam.spectrum"].detach(), expected, rtol=0, atol=1e-15)


def test_bandwidth_and_offset_are_found_where_the_spots_tell_them(rng: np.random.Generator) -> None:
    expt = experiment()
    parameters = parameters_of(expt, ["beam.bandwidth", "beam.spectrum_offset", "crystal[0].n_*"])
    truth = tiny.displaced(parameters, {"beam.bandwidth": 0.3, "beam.spectrum_offset": 0.004, "crystal[0].n_b": 0.6})
    found, known = fitted(tiny.simulate([expt], parameters, truth), rng)
    assert not known.undetermined
    for name, (error, sigma) in found.items():
        assert abs(error) < 4 * sigma, name
    assert found["beam.bandwidth"][1] < 0.1  # %² of the 0.3 that it was off
    assert found["beam.spectrum_offset"][1] < 0.001


def test_an_offset_beside_a_free_cell_is_named_undetermined(rng: np.random.Generator) -> None:
    """λ and the cell a tenth larger: the same fractional indices in every pixel."""
    expt = experiment()
    parameters = parameters_of(expt, ["beam.spectrum_offset", "beam.bandwidth", *(f"crystal[0].{x}" for x in "abc")])
    _, known = fitted(tiny.simulate([expt], parameters, parameters.start), rng)
    (row,) = known.undetermined
    assert "beam.spectrum_offset" in row.combination
    assert all(f"crystal[0].{x}" in row.combination for x in "abc")
    assert "wavelength" in row.reason
    sigma = dict(zip(known.names, known.model.tolist(), strict=True))
    assert np.isnan(sigma["beam.spectrum_offset"])
    assert np.isfinite(sigma["beam.bandwidth"])


def test_the_bandwidth_of_a_faint_spot_is_named_undetermined(rng: np.random.Generator) -> None:
    expt = experiment()
    parameters = parameters_of(expt, ["beam.bandwidth", "crystal[0].n_*"])
    _, known = fitted(tiny.simulate([expt], parameters, parameters.start, 0.1, brightest=1), rng)
    assert any("beam.bandwidth" in row.combination for row in known.undetermined)
    assert np.isnan(float(known.model[known.names.index("beam.bandwidth")]))


def test_three_mosaic_spreads_are_found(rng: np.random.Generator) -> None:
    expt = experiment(MosaicConfig((1.0, 1.0, 1.0), 14))
    parameters = parameters_of(expt, ["crystal[0].mosaic_spread_*"])
    moved = {f"crystal[0].mosaic_spread_{x}": by for x, by in zip("abc", (0.5, -0.4, 0.8), strict=True)}
    found, known = fitted(tiny.simulate([expt], parameters, tiny.displaced(parameters, moved)), rng)
    assert not known.undetermined
    assert set(found) == set(moved)
    for name, (error, sigma) in found.items():
        assert abs(error) < 4 * sigma, name
        assert sigma / (2 * np.sqrt(1 + moved[name])) < 0.1, name  # degrees, of the spread itself


@pytest.mark.parametrize("start", [0.3, (0.3, 0.1, 0.2)])
def test_an_anisotropic_spread_has_three_parameters_and_an_isotropic_one(start: float | tuple[float, ...]) -> None:
    crystal = Crystal(tiny.crystal_config(mosaic=MosaicConfig(start, 8)))  # type: ignore[arg-type]
    rows = mosaic_parameters(0, crystal, free=True)
    suffixes = ["_a", "_b", "_c"] if isinstance(start, tuple) else [""]
    assert [row.name for row in rows] == [f"crystal[0].mosaic_spread{suffix}" for suffix in suffixes]
    assert [row.told(row.start) for row in rows] == pytest.approx(list(start) if isinstance(start, tuple) else [start])


def settings(**groups: object) -> FitSettings:
    return FitSettings(data=DataSettings("none.expt"), **groups)  # type: ignore[arg-type]


def test_settings_that_could_do_nothing_say_what_they_need() -> None:
    with pytest.raises(ConfigError, match="cu_kalpha"):
        settings(parameters=ParameterSettings(bandwidth=True))
    settings(parameters=ParameterSettings(bandwidth=True), beam=BeamSettings(SPECTRUM))
    with pytest.raises(ConfigError, match="one number"):
        ParameterSettings(wavelength=True, spectrum_offset=True)
    with pytest.raises(ConfigError, match=r"crystal\.mosaic=anisotropic"):
        CrystalSettings(mosaic_spread=(0.1, 0.2, 0.3))
    with pytest.raises(ConfigError, match=r"parameters\.mosaic_spread=true"):
        settings(crystal=CrystalSettings(mosaic="anisotropic"))
    settings(crystal=CrystalSettings(mosaic="anisotropic", mosaic_spread=(0.1, 0.2, 0.3)))


def test_an_image_is_linear_in_the_square_of_a_spread_at_zero() -> None:
    expt = experiment(MosaicConfig(0.0, 14))
    parameters = parameters_of(expt, ["crystal[0].mosaic_spread"])
    block = tiny.simulate([expt], parameters, parameters.start).blocks[0]
    (index,) = parameters.free
    least = float(parameters.start[index])
    with torch.no_grad():
        here, columns = block.jacobian(parameters)
        parameters.values[index] = least + 1e-4  # (0.01°)²
        further = block.model(parameters)
    slope = (further - here) / 1e-4
    size = slope.abs().max()
    assert size > 100  # photons a square degree
    assert (columns[..., 0] - slope).abs().max() < 2e-3 * size


@pytest.mark.parametrize(("value", "sigma", "told"), [(4e-2, 4e-3, True), (3.5e-4, 1e-4, False), (9e-8, 1e-4, False)])
def test_a_spread_that_may_be_zero_has_a_limit_in_place_of_a_sigma(value: float, sigma: float, told: bool) -> None:
    expt = experiment(MosaicConfig(0.1, 14))
    parameter = next(row for row in parameters_of(expt, []).parameters_ if row.kind == MOSAIC_SPREAD)
    given = ParameterRow(parameter.name, "deg", parameter.start, value, sigma, sigma, at_bound=value < 1e-6)
    row = of_spread(given, parameter)
    assert row.value == pytest.approx(np.sqrt(value))
    assert row.interval == pytest.approx((np.sqrt(max(value - sigma, 0)), np.sqrt(value + sigma)))
    assert row.sigma == (pytest.approx(0.5 * sigma / np.sqrt(value)) if told else None)
    assert row.upper_limit == (None if told else pytest.approx(np.sqrt(value + 1.645 * sigma)))
    assert not row.at_bound


@pytest.mark.parametrize("mosaic", ["isotropic", "anisotropic"])
@pytest.mark.parametrize("free", [True, False])
def test_a_spread_that_is_free_is_there_even_where_it_starts_at_zero(
    mosaic: Literal["isotropic", "anisotropic"], free: bool, tmp_path: Path
) -> None:
    start = (0.0, 0.0, 0.0) if mosaic == "anisotropic" else 0.0
    crystal = CrystalSettings(mosaic=mosaic, mosaic_spread=start)
    entry = read_expt(small.write_stills(tmp_path, 1))[0]
    asked = settings(crystal=crystal, parameters=ParameterSettings(mosaic_spread=free))
    rows = mosaic_parameters(0, Crystal(crystal_for_fit(entry, asked, 0)), free)
    assert len(rows) == (0 if not free else 3 if mosaic == "anisotropic" else 1)
    assert all(row.free for row in rows)
