"""The fit of positions: residuals, their derivatives, and what wrong indices can do to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nbtorch.config import Exposure, ScanConfig
from nbtorch.models import Experiment
from nbtorch.render.excited import excited_reflections
from nbtorch.render.predict import frame_number, predict
from refine.least_squares.levenberg_marquardt import LevenbergMarquardt, joint_gradient
from refine.least_squares.uncertainty import uncertainty
from refine.parameters.parameter_set import ParameterSet
from refine.positions.objective import PositionObjective
from refine.positions.position_block import PositionBlock, Positions, excitation_error, spindle_share
from refine.spots.observations import Observations
from tests.refine import tiny

SCAN = ScanConfig(0.0, 0.5, 8)
FREE = ("detector.*", "crystal[0].rot_*", "crystal[0].a", "crystal[0].b", "crystal[0].c", "beam.tilt_*")
OFF = {
    "detector.detector.shift_fast": 0.3,
    "detector.detector.shift_slow": -0.2,
    "detector.detector.shift_normal": 0.4,
    "detector.detector.rot_fast": 0.2,
    "crystal[0].rot_x": 0.15,
    "crystal[0].rot_y": -0.1,
    "crystal[0].rot_z": 0.1,
}


def observed(hkl: Tensor, panel: Tensor, fast: Tensor, slow: Tensor, frame: Tensor, whole: Tensor) -> Observations:
    n = len(hkl)
    none, width = torch.zeros(n, dtype=torch.bool), torch.ones(n, 3, dtype=torch.float64)
    return Observations(hkl, panel, fast, slow, frame, torch.ones(n), width, whole, none, torch.arange(n))


def moved(expt: Experiment, parameters: ParameterSet) -> Experiment:
    """A second experiment with the parameters' values in it."""
    (twin,) = tiny.experiments()
    state = dict(twin.named_parameters())
    with torch.no_grad():
        for name, value in parameters.changes(0).items():
            if name != "scale":
                state[name].copy_(value)
    return twin


def measured(
    rng: np.random.Generator, *, scan: bool = True, noise: float = 0.1, off: dict[str, float] | None = None
) -> tuple[PositionBlock, ParameterSet, Tensor]:
    """Spots of an experiment that stands off by OFF, as positions see them: (block, parameters at start, truth)."""
    (expt,) = tiny.experiments()
    parameters = tiny.parameter_set([expt], FREE)
    truth = tiny.displaced(parameters, OFF if off is None else off)
    with torch.no_grad():
        parameters.values.copy_(truth)
        real = moved(expt, parameters)
        parameters.values.copy_(parameters.start)
    exposure = Exposure(SCAN.phi_start, SCAN.oscillation * SCAN.n_frames) if scan else Exposure()
    seen = excited_reflections(real, exposure, margin=0.0 if scan else 0.6)
    hkl, panel = torch.as_tensor(seen.hkl), torch.as_tensor(seen.panel)
    with torch.no_grad():
        if scan:
            spot = predict(real, hkl, panel, observed_phi=torch.as_tensor(seen.phi))
            frame = frame_number(spot.phi, SCAN)
        else:
            spot = predict(real, hkl, panel, exposure=exposure)
            frame = torch.full_like(spot.fast, 0.5)
    keep = spot.valid & (frame > 0) & (frame < SCAN.n_frames) if scan else spot.valid
    draw = noise * torch.as_tensor(rng.standard_normal((3, len(hkl))))
    if scan:  # a reflection that grazes the sphere has a long rocking curve, and its centre is known that much worse
        draw[2] /= spindle_share(expt, hkl, torch.as_tensor(seen.phi)).clamp(min=0.05)
    whole = (frame > 1) & (frame < SCAN.n_frames - 1)
    spots = observed(hkl, panel, spot.fast + draw[0], spot.slow + draw[1], frame + draw[2] * scan, whole)[keep]
    return PositionBlock(0, Positions(expt, spots, SCAN if scan else None, exposure, "layers")), parameters, truth


def with_values(parameters: ParameterSet, values: Tensor) -> ParameterSet:
    with torch.no_grad():
        parameters.values.copy_(values)
    return parameters


@pytest.mark.parametrize("scan", [True, False])
def test_without_noise_nothing_is_left_at_the_truth(rng: np.random.Generator, *, scan: bool) -> None:
    block, parameters, truth = measured(rng, scan=scan, noise=0.0)
    assert len(block.target) > 25
    residual, valid = block.residuals(with_values(parameters, truth))
    assert valid.all()
    assert residual[:, :2].abs().max() < 1e-9  # pixels
    if scan:
        assert residual[:, 2].abs().max() < 1e-9  # frames
    assert block.residuals(with_values(parameters, parameters.start)).value[:, :2].abs().mean() > 0.5


def test_the_excitation_error_is_the_distance_from_the_sphere(rng: np.random.Generator) -> None:
    (expt,) = tiny.experiments()
    hkl = torch.tensor([[1, 2, 3], [-4, 0, 2], [0, 0, 0]])
    with torch.no_grad():
        error = excitation_error(expt, hkl, tiny.EXPOSURE)
        stars = torch.linalg.inv(expt.crystal.vectors()[0]).T
    wave = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64) / tiny.WAVELENGTH
    expected = (wave + hkl.double() @ stars).norm(dim=1) - 1 / tiny.WAVELENGTH
    assert error.allclose(expected, atol=1e-14)
    assert float(error[2]) == 0


@pytest.mark.parametrize("scan", [True, False])
def test_every_column_of_the_jacobian_is_the_derivative_of_the_predictions(
    rng: np.random.Generator, *, scan: bool
) -> None:
    block, parameters, _ = measured(rng, scan=scan)
    columns = block.jacobian(parameters)
    assert columns.dtype == torch.float64
    place, now = parameters.of_block(0), parameters.values.detach().clone()
    worst = 0.0
    for column, index in enumerate(place):
        step = 1e-4 * parameters.parameters_[index].span
        total = torch.zeros_like(block.target)
        for multiple, weight in ((-2, 1 / 12), (-1, -2 / 3), (1, 2 / 3), (2, -1 / 12)):
            shifted = now.clone()
            shifted[index] += multiple * step
            total += weight / step * block.predicted(with_values(parameters, shifted).changes(0))[0].detach()
        with_values(parameters, now)
        for kind in range(3):
            size = float(total[:, kind].abs().max())
            if size > 1e-6 * float(columns[:, kind].abs().max()):
                worst = max(worst, float((columns[:, kind, column] - total[:, kind]).abs().max()) / size)
    assert worst < 2e-7  # worst seen 2.0e-8: of the differences


def test_parameters_that_positions_do_not_feel_have_columns_of_zeros(rng: np.random.Generator) -> None:
    block, _, _ = measured(rng)
    (expt,) = tiny.experiments()
    for free in (["crystal[0].n_*"], ["crystal[0].n_a", "crystal[0].rot_x"]):
        parameters = tiny.parameter_set([expt], free)
        columns = block.jacobian(parameters)
        assert columns.shape == (*block.target.shape, len(parameters.free))
        assert columns.dtype == torch.float64
        assert not columns[
            ..., [parameters.parameters_[i].name.startswith("crystal[0].n") for i in parameters.free]
        ].any()


def test_without_free_parameters_there_is_no_column(rng: np.random.Generator) -> None:
    block, parameters, _ = measured(rng)
    parameters.release([])
    assert block.jacobian(parameters).shape == (*block.target.shape, 0)


@pytest.mark.parametrize("scan", [True, False])
def test_the_gradient_is_that_of_the_robust_loss(rng: np.random.Generator, *, scan: bool) -> None:
    block, parameters, _ = measured(rng, scan=scan)
    objective = PositionObjective([block])
    objective.estimate_spread(parameters)
    gradient = joint_gradient(objective.linearize(parameters).arrow, parameters)  # type: ignore[arg-type]
    now, worst = parameters.values.detach().clone(), 0.0
    for index in parameters.free:
        step, losses = 1e-5 * parameters.parameters_[index].span, []
        for sign in (1, -1):
            shifted = now.clone()
            shifted[index] += sign * step
            losses.append(objective.loss(with_values(parameters, shifted)))
        slope = -0.5 * (losses[0] - losses[1]) / (2 * step)
        worst = max(worst, abs(slope - float(gradient[index])) / float(gradient[parameters.free].abs().max()))
    assert worst < 1e-7  # worst seen 1.4e-9


def converge(objective: PositionObjective, parameters: ParameterSet, rounds: int = 4) -> Tensor:
    """What the positions stage does: the spread is estimated anew before each round."""
    for _ in range(rounds):
        objective.estimate_spread(parameters)
        solver = LevenbergMarquardt()
        for _ in range(8):
            step = solver.step(objective, parameters)  # type: ignore[arg-type]
            if not step.accepted or step.move < 0.1:
                break
    return parameters.values.detach().clone()


DETERMINED = ["detector.*.shift_*", "detector.*.rot_fast", "crystal[0].rot_*"]


def wrong_indices(block: PositionBlock, rng: np.random.Generator, fraction: float) -> tuple[PositionBlock, Tensor]:
    """``block`` with a fraction of its spots taken for another reflection that is predicted elsewhere."""
    seen = block.positions.observed
    wrong = torch.as_tensor(rng.random(len(seen)) < fraction)
    swap = torch.as_tensor(rng.permutation(int(wrong.sum())))
    fast, slow = seen.fast.clone(), seen.slow.clone()
    fast[wrong], slow[wrong] = fast[wrong][swap] + 4.0, slow[wrong][swap] - 3.0
    made = observed(seen.hkl, seen.panel, fast, slow, seen.frame, seen.whole)
    return PositionBlock(0, Positions(block.positions.experiment, made, block.positions.scan, block.positions.exposure,
                                      "layers")), wrong  # fmt: skip


@pytest.mark.parametrize("fraction", [0.0, 0.2])
def test_a_fifth_of_wrong_indices_does_not_move_the_answer(rng: np.random.Generator, fraction: float) -> None:
    block, _, truth = measured(rng)
    block, wrong = wrong_indices(block, rng, fraction)
    (expt,) = tiny.experiments()
    parameters = tiny.parameter_set([expt], DETERMINED)
    objective = PositionObjective([block])
    end = converge(objective, parameters)
    residual, _ = block.residuals(parameters)
    rms = residual[~wrong][:, :2].square().mean().sqrt()
    assert float(rms) < 0.13  # pixels, of 0.1 that was put in; seen 0.106 with and without
    sigma = uncertainty(objective, parameters, objective.linearize(parameters)).sandwich  # type: ignore[arg-type]
    assert float(((end - truth)[parameters.free] / sigma).abs().max()) < 4
    assert float(sigma[1]) < 0.05  # mm, along slow


def test_least_squares_would_have_moved(rng: np.random.Generator) -> None:
    """What the robust loss is for: the same spots under squares alone (a spread so wide that none is an outlier)."""
    block, _, _ = measured(rng)
    block, wrong = wrong_indices(block, rng, 0.2)
    (expt,) = tiny.experiments()
    parameters = tiny.parameter_set([expt], DETERMINED)
    objective = PositionObjective([block])
    objective.spread = [torch.full((3,), 1e3, dtype=torch.float64)]
    solver = LevenbergMarquardt()
    for _ in range(10):
        solver.step(objective, parameters)  # type: ignore[arg-type]
    residual, _ = block.residuals(parameters)
    assert float(residual[~wrong][:, :2].square().mean().sqrt()) > 1.0


def test_a_still_is_fitted_too(rng: np.random.Generator) -> None:
    block, _, _ = measured(rng, scan=False)
    (expt,) = tiny.experiments()
    parameters = tiny.parameter_set([expt], DETERMINED)
    converge(PositionObjective([block]), parameters)
    residual, valid = block.residuals(parameters)
    assert valid.all()
    rms = residual[:, :2].square().mean().sqrt()
    assert float(rms) < 0.13  # seen 0.08: 14 of 56 numbers are fitted away


def test_the_spread_is_that_of_the_residuals_and_no_less_than_the_least(rng: np.random.Generator) -> None:
    block, parameters, truth = measured(rng, noise=0.3)
    objective = PositionObjective([block])
    objective.estimate_spread(with_values(parameters, truth))
    assert objective.spread[0].tolist() == pytest.approx([0.3, 0.3, 0.3], rel=0.35)
    assert objective.spread[0][0] == objective.spread[0][1]
    exact, parameters, truth = measured(rng, noise=0.0)
    objective = PositionObjective([exact])
    objective.estimate_spread(with_values(parameters, truth))
    assert all(0.02 < least < 0.2 for least in objective.spread[0].tolist())


def test_a_rocking_curve_cut_by_the_scan_counts_less(rng: np.random.Generator) -> None:
    block, _, _ = measured(rng)
    whole = block.positions.observed.whole
    assert (~whole).any()
    assert block.sharpness[whole][:, :2].eq(1).all()
    assert block.sharpness[whole][:, 2].allclose(block.spindle_share[whole])  # a long rocking curve has a vague centre
    assert block.sharpness[~whole][:, :2].max() < 0.5
    assert (block.sharpness[~whole][:, 2] < 0.5 * block.spindle_share[~whole]).all()
    still, _, _ = measured(rng, scan=False)
    assert still.sharpness.eq(1).all()


def test_the_spindle_share_is_how_fast_a_reflection_crosses_the_sphere(rng: np.random.Generator) -> None:
    """dε/dφ = ζ·|s₁ × s₀|·λ (Kabsch 2010), by a difference of the excitation error over two hundredths of a degree."""
    block, _, _ = measured(rng, noise=0.0, off={})
    expt, seen = block.positions.experiment, block.positions.observed
    phi = SCAN.phi_start + SCAN.oscillation * seen.frame
    share = spindle_share(expt, seen.hkl, phi)
    with torch.no_grad():
        stars = torch.linalg.inv(expt.crystal.vectors()[0]).T
        for i in range(0, len(seen), 7):
            ends = [excitation_error(expt, seen.hkl[i : i + 1], Exposure(float(phi[i]) + by)) for by in (0.01, -0.01)]
            speed = abs(float(ends[0] - ends[1])) / np.radians(0.02)
            angle = np.radians(float(phi[i]))
            turn = torch.as_tensor(tiny.rotation((angle, 0.0, 0.0)))
            outgoing = turn @ (seen.hkl[i].double() @ stars) + torch.tensor([0.0, 0.0, -1.0]) / tiny.WAVELENGTH
            across = torch.linalg.cross(outgoing, torch.tensor([0.0, 0.0, -1.0]).double()).norm()
            assert float(share[i]) == pytest.approx(speed / float(across), rel=1e-4)


def test_rms_is_over_the_spots_of_all_experiments(rng: np.random.Generator) -> None:
    block, parameters, truth = measured(rng, noise=0.0)
    seen = block.positions.observed
    shifted = observed(seen.hkl, seen.panel, seen.fast + 0.3, seen.slow - 0.4, seen.frame, seen.whole)
    other = PositionBlock(0, Positions(block.positions.experiment, shifted, SCAN, block.positions.exposure, "layers"))
    with_values(parameters, truth)
    assert PositionObjective([other]).rms(parameters) == pytest.approx((0.3, 0.4), abs=1e-6)
    assert PositionObjective([block, other]).rms(parameters) == pytest.approx((0.3 / 2**0.5, 0.4 / 2**0.5), abs=1e-6)
