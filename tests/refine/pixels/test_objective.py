"""The profiled loss, its gradient and its Gauss–Newton matrix, against differences and against the whole problem."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from refine.least_squares.levenberg_marquardt import joint_gradient
from refine.least_squares.restraint_terms import restraint_loss
from refine.parameters.parameter_set import ParameterSet
from refine.pixels.objective import PixelObjective
from refine.pixels.spot_errors import SpotErrors
from tests.refine import tiny
from tests.refine.whole import dense, whole_matrix

FREE = ("detector.*", "crystal[*].rot_*", "crystal[*].n_*", "crystal[*].a")
MOVED = {
    "detector.detector.shift_fast": 0.05,
    "detector.detector.shift_normal": -0.1,
    "detector.detector.rot_slow": 0.1,
    "crystal[0].rot_x": 0.05,
    "crystal[1].rot_z": -0.04,
    "crystal[0].n_a": 0.3,
    "crystal[1].a": 0.02,
}


def scene(*, free_scales: bool = True, gain: float = 1.0, readout: float = 0.0, span: float = 1e6) -> tiny.Tiny:
    """Two crystals on one detector, simulated off the start; spans so wide that headers have no say."""
    expts = tiny.experiments(2)
    free = FREE if free_scales else (*FREE, "crystal[*].scale")
    parameters = tiny.parameter_set(expts, free)
    rows = [replace(row, span=span * row.span) for row in parameters.parameters_]
    wide = ParameterSet(rows, tiny.start_tensors(expts))
    moved = MOVED if free_scales else MOVED | {"crystal[0].scale": 0.1}
    return tiny.simulate(expts, wide, tiny.displaced(wide, moved), brightest=8, gain=gain, readout=readout)


def numerical_gradient(objective: PixelObjective, parameters: ParameterSet, fraction: float = 2e-6) -> Tensor:
    """−½·dL/dθ [T] by central differences at held weights, in the sense of JᵀW(y − µ)."""
    held = objective.linearize(parameters)
    now, slopes = parameters.values.detach().clone(), torch.zeros_like(parameters.start)
    for index in parameters.free:
        step = fraction * parameters.parameters_[index].span / 1e6 * 10
        losses = []
        for sign in (1, -1):
            with torch.no_grad():
                parameters.values.copy_(now)
                parameters.values[index] += sign * step
            losses.append(objective.loss(parameters, held))
        slopes[index] = -0.5 * (losses[0] - losses[1]) / (2 * step)
    with torch.no_grad():
        parameters.values.copy_(now)
    return slopes


def in_sigmas(objective: PixelObjective, parameters: ParameterSet, difference: Tensor) -> Tensor:
    """A difference of gradients [free] in units of the gradient's own sigma, √diag(H)."""
    arrow = objective.linearize(parameters).arrow
    curvature = joint_gradient(arrow, parameters, diagonal=True)
    return (difference / curvature.clamp(min=1e-300).sqrt())[parameters.free].abs()


NOISES = {
    "poisson": {"counting": True},
    "gaussian with read-out noise and gain": {"counting": False},
    "with an error of the shape": {"counting": False, "model_error": 0.2},
    "with errors of single spots": {"counting": False, "model_error": 0.1, "errors": SpotErrors(0.2, 0.1, 0.2)},
}


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("free_scales", [True, False])
def test_the_gradient_is_that_of_the_loss_with_scales_and_backgrounds_at_their_best(
    kind: str, rng: np.random.Generator, *, free_scales: bool
) -> None:
    """The envelope theorem: at the best nuisances, how these change does not change the loss."""
    made = scene(free_scales=free_scales, gain=1.0 if kind == "poisson" else 2.0, readout=3.0 * (kind != "poisson"))
    objective, parameters = made.objective(rng, free_scales=free_scales, **NOISES[kind]), made.start()  # type: ignore[arg-type]
    gradient = joint_gradient(objective.linearize(parameters).arrow, parameters)
    off = in_sigmas(objective, parameters, gradient - numerical_gradient(objective, parameters))
    # worst seen 2.0e-4 sigmas (Poisson, scales free: six rounds of scoring), 2.6e-5 otherwise (of differences)
    assert float(off.max()) < 1e-3
    assert float(in_sigmas(objective, parameters, gradient).max()) > 3


def joint_information(objective: PixelObjective, parameters: ParameterSet) -> Tensor:
    """The Fisher information [T, T] of a fit with every scale and background a parameter of its own, those
    marginalized: H − B·D⁻¹·Bᵀ (Schur), written out box by box."""
    size = len(parameters)
    whole = torch.zeros(size, size, dtype=torch.float64)
    for index, block in enumerate(objective.blocks):
        model, jacobian = block.jacobian(parameters)
        fit = objective.fit_boxes(index, model)
        place = torch.tensor(parameters.of_block(block.index))
        for box in range(len(block.boxes)):
            weight = torch.diag(fit.weight[box])
            geometry = fit.scale[box] * jacobian[box]
            others = torch.cat([model[box][:, None], block.columns[box], fit.errors[box]], dim=1)
            mixed, own = geometry.T @ weight @ others, others.T @ weight @ others
            known = fit.errors.shape[2]  # each is 0 ± 1 beforehand
            own[-known or len(own) :, -known or len(own) :] += torch.eye(known, dtype=torch.float64)
            share = geometry.T @ weight @ geometry - mixed @ torch.linalg.solve(own, mixed.T)
            whole[place[:, None], place] += share
    return whole


@pytest.mark.parametrize("errors", [None, SpotErrors(0.2, 0.1, 0.2)])
def test_the_normal_matrix_is_the_information_with_scales_and_backgrounds_marginalized(
    rng: np.random.Generator, errors: SpotErrors | None
) -> None:
    made = scene()
    objective, parameters = made.objective(rng, errors=errors), made.start()
    found = whole_matrix(objective.linearize(parameters).arrow, parameters)
    expected = joint_information(objective, parameters)
    root = expected.diagonal().clamp(min=1e-300).rsqrt()
    # worst seen 2.1e-9, and 1.1e-7 with errors: the ridge of the small systems
    off = ((found - expected) * root[:, None] * root)[parameters.free][:, parameters.free].abs()
    assert float(off.max()) < (1e-8 if errors is None else 1e-6)


def test_the_scores_of_the_boxes_add_up_to_the_gradient_and_the_matrix(rng: np.random.Generator) -> None:
    made = scene()
    objective, parameters = made.objective(rng), made.start()
    here = objective.linearize(parameters)
    shared = len(parameters.shared)
    total = sum((score.gradient[:, :shared].sum(0) for score in here.scores), torch.zeros(shared))
    assert total.allclose(here.arrow.shared_gradient, rtol=1e-9)
    places = [parameters.local[block.index] for block in objective.blocks]
    full = dense(here.arrow, places, parameters.shared, len(parameters))
    place = torch.tensor(parameters.of_block(1))
    own = here.scores[1].matrices.sum(0)
    assert full[place[shared:, None], place[shared:]].allclose(own[shared:, shared:], rtol=1e-9)


def test_the_loss_of_a_linearization_is_the_loss(rng: np.random.Generator) -> None:
    for free_scales in (True, False):
        made = scene(free_scales=free_scales)
        objective, parameters = made.objective(rng, free_scales=free_scales), made.start()
        here = objective.linearize(parameters)
        assert objective.loss(parameters, here) == pytest.approx(here.loss, rel=1e-12)


def test_the_weight_of_a_box_multiplies_what_it_says(rng: np.random.Generator) -> None:
    made = scene()
    plain, parameters = made.objective(rng), made.start()
    one = plain.linearize(parameters)
    heavy = [torch.full_like(weights, 3.0) for weights in plain.box_weights]
    heavy[0][0] = 0.0
    three = PixelObjective(plain.blocks, plain.noise, heavy, free_scales=True).linearize(parameters)
    expected = 3 * (one.scores[0].gradient - 0)
    expected[0] = 0
    assert three.scores[0].gradient.allclose(expected, rtol=1e-12)
    assert three.scores[1].matrices.allclose(3 * one.scores[1].matrices, rtol=1e-12)
    fit = one.held[0]
    assert three.loss == pytest.approx(3 * (one.loss - float(plain.box_losses(0, fit)[0])), rel=1e-9)


def test_the_expected_loss_at_the_truth_is_one_a_degree_of_freedom(rng: np.random.Generator) -> None:
    """Chi-square with the true noise: a photon count's own, twice (the gain), and the read-out's."""
    made = scene(gain=2.0, readout=3.0)
    losses, count = [], 0
    for _ in range(6):
        objective, parameters = made.objective(rng, counting=False), made.start(made.truth)
        fits = [objective.fit_boxes(i, block.model(parameters)) for i, block in enumerate(objective.blocks)]
        losses.append(sum(float(objective.box_losses(i, fit).sum()) for i, fit in enumerate(fits)))
        count = sum(block.boxes.n_pixels - 2 * len(block.boxes) for block in objective.blocks)
    assert np.mean(losses) / count == pytest.approx(1, abs=5 * (2 / 6 / count) ** 0.5)  # five sigmas


def test_a_restraint_costs_its_square_and_pulls_back() -> None:
    expts = tiny.experiments(1)
    rows = tiny.parameter_set(expts, ["crystal[0].a", "crystal[0].b"]).parameters_
    tied = [replace(row, restraint=0.01) if row.name == "crystal[0].a" else row for row in rows]
    parameters = ParameterSet(tied, tiny.start_tensors(expts))
    with torch.no_grad():
        parameters.values.copy_(tiny.displaced(parameters, {"crystal[0].a": 0.02, "crystal[0].b": 0.54}))
    # two restraint sigmas, 0.02/0.23 of a span of a, and two spans of b
    assert restraint_loss(parameters) == pytest.approx(4 + (0.02 / 0.23) ** 2 + 4)
    made = tiny.simulate(expts, parameters, parameters.start, brightest=6)
    with torch.no_grad():
        parameters.values.copy_(tiny.displaced(parameters, {"crystal[0].a": 0.02}))
    without = ParameterSet(rows, tiny.start_tensors(expts))
    with torch.no_grad():
        without.values.copy_(parameters.values)
    objective = made.objective()
    one, two = (objective.linearize(p).arrow for p in (without, parameters))
    assert (two.local_gradient[0] - one.local_gradient[0]).tolist() == pytest.approx([-0.02 / 1e-4, 0], abs=1e-6)
    assert (two.local[0] - one.local[0]).diagonal().tolist() == pytest.approx([1e4, 0], abs=1e-6)


def test_a_held_parameter_is_not_restrained() -> None:
    expts = tiny.experiments(1)
    rows = [replace(row, restraint=0.01) for row in tiny.parameter_set(expts, ["crystal[0].b"]).parameters_]
    parameters = ParameterSet(rows, tiny.start_tensors(expts))
    with torch.no_grad():
        parameters.values.copy_(tiny.displaced(parameters, {"crystal[0].a": 5.0}))
    assert restraint_loss(parameters) == 0
