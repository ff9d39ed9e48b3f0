"""Crystals that drift during a scan: predicted, rendered, told from constant ones, and found again."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nbtorch.config import Exposure, ScanConfig
from nbtorch.errors import ConfigError
from nbtorch.io import read_expt
from nbtorch.models import Experiment
from nbtorch.render.excited import excited_reflections
from nbtorch.render.predict import frame_number, predict
from refine.__main__ import main
from refine.parameters.parameter_set import ParameterSet
from refine.parameters.physical import at_knots, cell_parameters, orientation_parameters
from refine.positions.position_block import PositionBlock, Positions
from refine.positions.scan_varying import Decision, Kinds, choose, too_short
from refine.scene.knots import scan_knots
from refine.settings.fit_settings import DataSettings, FitSettings, ParameterSettings
from tests.helpers.data import shared
from tests.refine import drifting, tiny
from tests.refine.positions.test_objective import observed

SCAN = ScanConfig(0.0, 0.5, 120)
BOTH = ParameterSettings(scan_varying=("orientation", "cell"))
KNOTS = scan_knots(SCAN, 120, BOTH)


def expt() -> Experiment:
    (made,) = tiny.experiments(knots=KNOTS)
    return made


def drifted(kinds: Kinds) -> Experiment:
    """A crystal whose orientation turns by 0.2° and whose c grows by 0.4 %, where ``kinds`` says so."""
    made, along = expt(), torch.linspace(0, 1, len(KNOTS), dtype=torch.float64)
    with torch.no_grad():
        if "orientation" in kinds:
            made.crystal.rotation_knots[:, 1] = 0.2 * torch.sin(math.pi * along)
            made.crystal.rotation_knots[:, 0] = -0.1 * along
        if "cell" in kinds:
            made.crystal.cell_knots[:, 2] = 0.004 * tiny.CELL[2] * along**2
    return made


def parameters_of(made: Experiment, kinds: Kinds) -> ParameterSet:
    knots = dict.fromkeys(kinds, made.crystal.config.knots)
    rows = at_knots(orientation_parameters(0, free=True), knots.get("orientation", ()))
    fit = FitSettings(data=DataSettings("none.expt"))
    rows += at_knots(cell_parameters(0, made.crystal, fit), knots.get("cell", ()))
    return ParameterSet(rows, tiny.start_tensors([made]))


def measured(truth: Experiment, rng: np.random.Generator, noise: float = 0.05, every: int = 1) -> PositionBlock:
    """The positions of every ``every``-th spot of ``truth`` with ``noise`` (pixels, frames), to be fitted."""
    seen = excited_reflections(truth, Exposure(0.0, 60.0), margin=0.0)
    hkl, panel, phi = (torch.as_tensor(x[::every]) for x in (seen.hkl, seen.panel, seen.phi))
    with torch.no_grad():
        spot = predict(truth, hkl, panel, observed_phi=phi)
    assert spot.phi is not None
    frame, draw = frame_number(spot.phi, SCAN), noise * torch.as_tensor(rng.standard_normal((3, len(hkl))))
    whole = (frame > 1) & (frame < SCAN.n_frames - 1)
    spots = observed(hkl, panel, spot.fast + draw[0], spot.slow + draw[1], frame + draw[2], whole)[spot.valid]
    return PositionBlock(0, Positions(expt(), spots, SCAN, Exposure(), "layers"))


def test_knots_are_evenly_spaced_over_the_scan_about_as_far_apart_as_asked() -> None:
    assert KNOTS == (0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0)
    assert scan_knots(SCAN, 46, BOTH) == pytest.approx((0.0, 11.5, 23.0))
    assert scan_knots(ScanConfig(10.0, -0.5, 30), 30, BOTH) == pytest.approx((-5.0, 2.5, 10.0))
    assert scan_knots(SCAN, 9, BOTH) == ()  # 4.5°: less than half a spacing
    assert scan_knots(SCAN, 120, ParameterSettings()) == ()


def test_a_crossing_is_where_the_crystal_of_that_angle_meets_the_sphere() -> None:
    truth = drifted(("orientation", "cell"))
    seen = excited_reflections(truth, Exposure(0.0, 60.0), margin=0.0)
    hkl, panel = torch.as_tensor(seen.hkl), torch.as_tensor(seen.panel)
    with torch.no_grad():
        spot = predict(truth, hkl, panel, observed_phi=torch.as_tensor(seen.phi))
        constant = predict(expt(), hkl, panel, observed_phi=torch.as_tensor(seen.phi))
        assert spot.phi is not None
        wave, outside = torch.tensor([0.0, 0.0, -1.0]).double(), []
        for index, phi in zip(hkl.double(), spot.phi, strict=True):
            spin = truth.crystal.spindle_rotations(Exposure(float(phi)))[0]
            r = spin @ truth.crystal.reflections(index[None], phi[None])[0]
            outside.append(abs(float((wave + r).norm() - 1)))
    assert len(outside) > 200
    assert max(outside) < 1e-9  # Å⁻¹; worst seen 6e-12
    assert float((constant.phi - spot.phi).abs().max()) > 0.05  # type: ignore[operator]


def test_derivatives_by_the_knots_are_those_of_differences(rng: np.random.Generator) -> None:
    block = measured(drifted(("orientation", "cell")), rng, every=20)
    parameters = parameters_of(block.positions.experiment, ("orientation", "cell"))
    with torch.no_grad():
        parameters.values.add_(0.1 * parameters.column("span") * torch.as_tensor(rng.standard_normal(len(parameters))))
    columns, now = block.jacobian(parameters), parameters.values.detach().clone()
    for place, index in enumerate(parameters.free):
        step, found = 1e-3 * parameters.parameters_[index].span, torch.zeros_like(block.target)
        for multiple, weight in ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12)):
            with torch.no_grad():
                parameters.values.copy_(now)
                parameters.values[index] += multiple * step
                found += weight / step * block.predicted(parameters.changes(0))[0]
        size = float(found.abs().max())
        assert size > 0
        assert float((columns[..., place] - found).abs().max()) < 1e-6 * size


@pytest.mark.parametrize("truth", [(), ("orientation",), ("orientation", "cell")])
def test_positions_tell_what_drifts_from_what_does_not(truth: Kinds, rng: np.random.Generator) -> None:
    block = measured(drifted(truth), rng, noise=0.02, every=7)
    made = block.positions.experiment
    found = choose([block], parameters_of(made, ()), ("orientation", "cell"), lambda kinds: parameters_of(made, kinds))
    assert found.kinds == truth
    for kind in ("orientation", "cell"):
        assert kind in found.reason
    assert ("constant" in found.reason) == (len(truth) < 2)


def test_few_spots_are_not_asked_for_curves(rng: np.random.Generator) -> None:
    block = measured(drifted(("orientation",)), rng, every=100)
    made = block.positions.experiment
    found = choose([block], parameters_of(made, ()), ("orientation", "cell"), lambda kinds: parameters_of(made, kinds))
    assert found.kinds == ()
    assert "too few" in found.reason


def test_a_short_scan_is_constant_and_says_so() -> None:
    found = too_short(("orientation",), 10.0)
    assert found == Decision((), found.reason)
    assert "orientation is constant through the scan" in found.reason
    assert "knot_spacing = 10°" in found.reason


def test_knots_share_what_restrains_the_constant(rng: np.random.Generator) -> None:
    made = expt()
    fit = FitSettings(data=DataSettings("none.expt"))
    (row,) = [row for row in cell_parameters(0, made.crystal, fit) if row.name.endswith(".b")]
    rows = at_knots([replace(row, restraint=0.02)], KNOTS)
    assert [r.name for r in rows[:2]] == ["crystal[0].b@0", "crystal[0].b@10"]
    assert sum((0.01 / r.restraint) ** 2 for r in rows if r.restraint) == pytest.approx((0.01 / 0.02) ** 2)
    parameters = ParameterSet(rows, tiny.start_tensors([made]))
    with torch.no_grad():
        parameters.values[2] += 0.3
    changed = parameters.changes(0)["crystal.cell_knots"]
    expected = torch.zeros(len(KNOTS), 6, dtype=torch.float64)
    expected[2, 1] = 0.3
    assert torch.allclose(changed, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["orientation", "cell"])
def test_what_is_held_cannot_vary(kind: str) -> None:
    with pytest.raises(ConfigError, match=rf"parameters\.{kind}=true"):
        ParameterSettings(**{kind: False, "scan_varying": (kind,)})  # type: ignore[arg-type]


def fit(path: Path, out: Path, *given: str) -> dict[str, Any]:
    sampling = ("crystal.mosaic_spread=0", f"render.phi_steps={drifting.STEPS}", "render.oversample=2")
    settings = ("parameters=crystal", "parameters.scale=spot", *sampling, f"data.experiment={path}", *given)
    assert main([*settings, f"hydra.run.dir={out}", "trainer.progress=lines"]) == 0
    found = json.loads((out / "result.json").read_text())
    assert isinstance(found, dict)
    return found


def in_sigmas(found: dict[str, Any]) -> Tensor:
    """(value − truth)/sigma of every knot of a drifting sweep."""
    z = []
    for row in found["parameters"]:
        name, _, phi = row["name"].partition("@")
        if phi and row["free"]:
            turn, swelling = drifting.drift(torch.tensor([float(phi)], dtype=torch.float64))
            if ".rot_" in name:
                truth = float(turn[0, "xyz".index(name[-1])])
            else:
                axis = "abc".index(name[-1])
                truth = drifting.small.CELL[axis] + float(swelling[0, axis])
            z.append((row["value"] - truth) / row["sigma"])
    return torch.tensor(z)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_curves_of_a_sweep_of_60_degrees_are_found_at_every_knot(tmp_path: Path) -> None:
    path = drifting.write(tmp_path / "data", drifts=True)
    constant = fit(path, tmp_path / "constant")
    found = fit(path, tmp_path / "found", "parameters.scan_varying=[orientation,cell]")
    assert constant["goodness"]["extra"]["mean_z2_under_spots"] > 1.5
    assert found["goodness"]["extra"]["mean_z2_under_spots"] < 1.1
    assert any("orientation and cell vary smoothly" in line for line in found["choices"])
    z = in_sigmas(found)
    assert len(z) == 42
    print(f"knots: worst {float(z.abs().max()):.2f} sigmas, rms {float(z.square().mean().sqrt()):.2f}")
    assert float(z.abs().max()) < 3  # worst seen 2.55
    crystal = read_expt(tmp_path / "found" / "refined.expt")[0].crystal
    assert crystal is not None
    lengths = np.linalg.norm(np.array(crystal.scan_points), axis=2)
    _, swelling = drifting.drift(torch.linspace(0, 60, 61).double())
    np.testing.assert_allclose(lengths[:, 1], drifting.small.CELL[1] + swelling[:, 1].numpy(), rtol=0, atol=0.004)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_of_60_degrees_that_does_not_drift_is_fitted_as_constant(tmp_path: Path) -> None:
    path = drifting.write(tmp_path / "data", drifts=False)
    found = fit(path, tmp_path / "out", "parameters.scan_varying=[orientation,cell]")
    assert any("orientation and cell are constant through the scan" in line for line in found["choices"])
    rows = {row["name"]: row for row in found["parameters"]}
    assert not any("@" in name for name in rows)
    for name in ("rot_x", "rot_y", "rot_z", "a", "b", "c"):
        row = rows[f"crystal[0].{name}"]
        assert abs(row["value"] - row["start"]) < 4 * row["sigma"]  # the start is the truth


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_on_a_degree_and_a_half_the_crystal_is_constant_and_the_report_says_so(tmp_path: Path) -> None:
    folder = shared("real", "l_cysteine", "sweep4")
    given = ("experiment=l_cysteine", f"data.root={folder}", "detector.parallax=dxtbx")
    asked = "parameters.scan_varying=[orientation,cell]"
    assert main([*given, asked, f"hydra.run.dir={tmp_path / 'out'}", "trainer.progress=lines"]) == 0
    found = json.loads((tmp_path / "out" / "result.json").read_text())
    assert any("constant through the scan" in line and "knot_spacing" in line for line in found["choices"])
    assert "constant through the scan" in (tmp_path / "out" / "report.html").read_text()
    assert not any("@" in row["name"] for row in found["parameters"])
