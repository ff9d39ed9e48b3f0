"""Scales and backgrounds of boxes, against solutions of every box by itself with other means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import optimize
from torch import Tensor

from refine.pixels.losses import Noise, deviance
from refine.pixels.nuisance import BoxFit, project, solve_boxes, solve_nearby

BOXES, SIDE = 6, 9


def grid() -> tuple[Tensor, Tensor]:
    """fast, slow [Q] about the centre of a box."""
    slow, fast = np.mgrid[-4:5, -4:5].reshape(2, -1).astype(float)
    return torch.as_tensor(fast), torch.as_tensor(slow)


def spots() -> Tensor:
    """Rendered spots [B, Q] of different widths and heights, in units of their own."""
    fast, slow = grid()
    width = torch.linspace(0.8, 1.8, BOXES, dtype=torch.float64)[:, None]
    return torch.logspace(-3, 5, BOXES, dtype=torch.float64)[:, None] * torch.exp(-(fast**2 + slow**2) / 2 / width**2)


def plane() -> Tensor:
    """Background design [B, Q, 3]."""
    fast, slow = grid()
    return torch.stack([torch.ones_like(fast), fast / 4, slow / 4], dim=-1).expand(BOXES, -1, 3)


def noise(gain: float = 1.0, readout: float = 0.0, **more: object) -> Noise:
    def column(value: float) -> Tensor:
        return torch.full((BOXES, 1), value, dtype=torch.float64)

    return Noise(column(gain), column(readout), **more)  # type: ignore[arg-type]


def measured(rng: np.random.Generator, signal: float = 300.0, background: float = 5.0) -> tuple[Tensor, Tensor]:
    """Counts and validity [B, Q]: a spot of ``signal`` photons on a tilted background, a few pixels masked."""
    spot = spots()
    mean = signal * spot / spot.sum(1, keepdim=True) + background * (1 + 0.2 * plane()[..., 1] - 0.3 * plane()[..., 2])
    valid = torch.as_tensor(rng.random(mean.shape) > 0.05)
    return torch.where(valid, torch.as_tensor(rng.poisson(mean.numpy()).astype(float)), 0), valid


def test_with_a_known_variance_it_is_the_weighted_least_squares_solution(rng: np.random.Generator) -> None:
    counts, valid = measured(rng)
    fit = solve_boxes(spots(), plane(), counts, valid, noise(gain=0.0, readout=3.0), free_scale=True)
    for box in range(BOXES):
        use = valid[box]
        design = torch.cat([spots()[box, use, None], plane()[box, use]], dim=1).numpy()
        size = np.abs(design).max(0)
        expected = np.linalg.lstsq(design / size, counts[box, use].numpy(), rcond=None)[0] / size
        sigma = np.sqrt(np.linalg.inv((design / size).T @ (design / size)).diagonal()) / size * 3.0
        found = np.array([float(fit.scale[box]), *fit.background[box].tolist()])
        assert (np.abs(found - expected) / sigma).max() < 2e-8  # worst seen 3.1e-9 sigmas: the ridge
        assert float(fit.scale_sigma[box]) == pytest.approx(sigma[0], rel=1e-9)  # worst seen 1.5e-10


def poisson_best(model: np.ndarray, columns: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Scale and background [1 + C] of the largest Poisson likelihood of one box, by Nelder–Mead and BFGS."""
    size = np.array([model.max(), 1, 1, 1])
    design = np.column_stack([model, columns]) / size

    def loss(x: np.ndarray) -> float:
        mean = np.maximum(design @ x, 1e-9)
        return float((mean - counts * np.log(mean)).sum())

    def slope(x: np.ndarray) -> np.ndarray:
        mean = np.maximum(design @ x, 1e-9)
        return np.asarray(design.T @ (1 - counts / mean))

    start = np.array([max(counts.max() - np.median(counts), 1.0), max(np.median(counts), 0.5), 0, 0])
    rough = optimize.minimize(loss, start, method="Nelder-Mead", options={"maxiter": 2000}).x
    return np.asarray(optimize.minimize(loss, rough, jac=slope, method="BFGS", options={"gtol": 1e-9}).x / size)


def test_with_counting_noise_it_is_the_maximum_of_the_likelihood(rng: np.random.Generator) -> None:
    counts, valid = measured(rng)
    fit = solve_boxes(spots(), plane(), counts, valid, noise(), free_scale=True)
    for box in range(BOXES):
        use = valid[box].numpy()
        best = poisson_best(spots()[box].numpy()[use], plane()[box].numpy()[use], counts[box].numpy()[use])
        off = abs(float(fit.scale[box]) - best[0]) / float(fit.scale_sigma[box])
        assert off < 5e-4  # worst seen 5.5e-5 of a sigma: six rounds of Fisher scoring
        assert fit.background[box].numpy() == pytest.approx(best[1:], abs=1e-3)  # worst seen 1.1e-4 of 5 counts


def test_more_rounds_come_closer_to_the_maximum(rng: np.random.Generator) -> None:
    counts, valid = measured(rng)

    def loss(rounds: int) -> float:
        fit = solve_boxes(spots(), plane(), counts, valid, noise(), free_scale=True, rounds=rounds)
        return float(deviance(counts, fit.total)[valid].sum())

    losses = [loss(rounds) for rounds in (1, 2, 6, 40)]
    assert losses == sorted(losses, reverse=True)
    assert losses[2] - losses[3] < 1e-5  # worst seen 1.4e-7
    assert losses[0] - losses[3] > 0.1


def test_scatter_of_the_scale_is_its_sigma(rng: np.random.Generator) -> None:
    z = []
    for _ in range(60):
        counts, valid = measured(rng)
        fit = solve_boxes(spots(), plane(), counts, valid, noise(), free_scale=True)
        z.append((fit.scale * spots().sum(1) - 300) / (fit.scale_sigma * spots().sum(1)))
    scatter = torch.cat(z)
    assert float(scatter.std()) == pytest.approx(1, abs=4 / (2 * 360) ** 0.5)  # four sigmas of 360 draws; seen 1.04
    assert abs(float(scatter.mean())) < 4 / 360**0.5


def hole(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A background with a dip where the spot should be."""
    dip = spots() / spots().amax(1, keepdim=True)
    return torch.as_tensor(rng.poisson((20 - 15 * dip).numpy()).astype(float)), torch.ones(BOXES, SIDE**2).bool()


def test_a_scale_that_the_data_want_negative_is_zero_and_the_background_alone_is_fitted(
    rng: np.random.Generator,
) -> None:
    counts, valid = hole(rng)
    known = noise(gain=0.0, readout=3.0)
    fit = solve_boxes(spots(), plane(), counts, valid, known, free_scale=True)
    alone = solve_boxes(torch.zeros_like(counts), plane(), counts, valid, known, free_scale=False)
    assert not fit.scale.any()
    assert not fit.signal.any()
    assert fit.background.allclose(alone.background, rtol=1e-12)


def test_the_model_is_positive_wherever_the_background_would_not_be() -> None:
    """One count in a corner: the best plane is negative in the opposite one, where no photon can be expected then."""
    counts = torch.zeros(BOXES, SIDE**2, dtype=torch.float64)
    counts[:, :3] = 4.0
    fit = solve_boxes(spots(), plane(), counts, counts >= 0, noise(), free_scale=True)
    assert float((plane() @ fit.background[..., None]).min()) < 0
    assert float(fit.total.min()) > 0
    assert torch.isfinite(fit.weight).all()


def test_a_box_without_a_single_count_has_a_finite_fit() -> None:
    counts = torch.zeros(BOXES, SIDE**2, dtype=torch.float64)
    fit = solve_boxes(spots(), plane(), counts, counts >= 0, noise(), free_scale=True)
    assert all(torch.isfinite(value).all() for value in fit)
    assert float(fit.total.min()) > 0
    assert float(fit.signal.max()) < 1e-6


def test_a_scale_that_is_held_is_one_and_the_background_takes_what_is_left(rng: np.random.Generator) -> None:
    counts, valid = measured(rng)
    model = 300 * spots() / spots().sum(1, keepdim=True)
    fit = solve_boxes(model, plane(), counts, valid, noise(gain=0.0, readout=3.0), free_scale=False)
    assert fit.scale.tolist() == [1.0] * BOXES
    assert fit.signal.equal(model)
    for box in range(BOXES):
        use = valid[box]
        expected = torch.linalg.lstsq(plane()[box, use], (counts - model)[box, use][:, None]).solution[:, 0]
        assert fit.background[box].allclose(expected, rtol=1e-8)  # worst seen 1.3e-10


def test_masked_pixels_have_no_weight_and_no_say(rng: np.random.Generator) -> None:
    counts, valid = measured(rng)
    spoiled = torch.where(valid, counts, 1e6)
    one, two = (solve_boxes(spots(), plane(), c, valid, noise(), free_scale=True) for c in (counts, spoiled))
    assert one.scale.equal(two.scale)
    assert one.background.equal(two.background)
    assert not one.weight[~valid].any()


def test_the_units_of_the_rendered_spot_do_not_matter(rng: np.random.Generator) -> None:
    counts, valid = measured(rng)
    plain = solve_boxes(spots(), plane(), counts, valid, noise(), free_scale=True)
    scaled = solve_boxes(1e9 * spots(), plane(), counts, valid, noise(), free_scale=True)
    assert (1e9 * scaled.scale).allclose(plain.scale, rtol=1e-12)  # worst seen 1.6e-15
    assert scaled.total.allclose(plain.total, rtol=1e-12)


def test_gain_and_read_out_noise_weigh_the_pixels(rng: np.random.Generator) -> None:
    counts, valid = measured(rng)
    fit = solve_boxes(spots(), plane(), 2 * counts, valid, noise(gain=2.0, readout=3.0), free_scale=True)
    expected = 1 / (2 * fit.total + 9)
    # the weights are those of the round before the last
    assert fit.weight[valid].allclose(expected[valid], rtol=1e-4)  # worst seen 7.6e-6


def columns_of(fit: BoxFit) -> Tensor:
    return torch.cat([fit.signal[..., None], plane()], dim=-1)


def test_what_is_projected_is_orthogonal_to_scale_and_background_under_the_weights(rng: np.random.Generator) -> None:
    counts, valid = measured(rng)
    fit = solve_boxes(spots(), plane(), counts, valid, noise(), free_scale=True)
    jacobian = torch.as_tensor(rng.standard_normal((BOXES, SIDE**2, 5)))
    columns = columns_of(fit)
    across = project(columns, fit.weight, jacobian)
    weighted = columns * fit.weight[..., None]
    inner = weighted.transpose(1, 2) @ across
    size = weighted.transpose(1, 2).abs() @ jacobian.abs()
    assert float((inner.abs() / size).max()) < 1e-9  # worst seen 6e-11: the ridge
    assert project(columns, fit.weight, across).allclose(across, atol=2e-9)  # worst seen 1.8e-10


def test_a_column_of_the_nuisances_themselves_vanishes(rng: np.random.Generator) -> None:
    counts, valid = measured(rng)
    fit = solve_boxes(spots(), plane(), counts, valid, noise(), free_scale=True)
    columns = columns_of(fit)
    left = project(columns, fit.weight, columns) / columns.abs().amax(1, keepdim=True)
    assert float(left.abs().max()) < 2e-9  # worst seen 2.5e-10


def test_a_spot_that_does_not_reach_its_box_takes_nothing_away(rng: np.random.Generator) -> None:
    jacobian = torch.as_tensor(rng.standard_normal((BOXES, SIDE**2, 2)))
    weight = torch.ones(BOXES, SIDE**2, dtype=torch.float64)
    with_nothing = torch.cat([torch.zeros(BOXES, SIDE**2, 1), plane()], dim=-1)
    assert project(with_nothing, weight, jacobian).allclose(project(plane(), weight, jacobian), rtol=1e-12, atol=1e-14)


def test_from_a_fit_close_by_three_rounds_do_as_well_as_six_from_nothing(rng: np.random.Generator) -> None:
    counts, valid = measured(rng)
    fast, slow = grid()
    moved = spots() * torch.exp(0.01 * (fast + slow))  # by about a hundredth of a pixel
    near = solve_boxes(moved, plane(), counts, valid, noise(), free_scale=True)
    fits = [
        solve_nearby(spots(), plane(), counts, noise(), near, free_scale=True),
        *(solve_boxes(spots(), plane(), counts, valid, noise(), free_scale=True, rounds=n) for n in (3, 40)),
    ]
    nearby, three, best = (float(deviance(counts, fit.total)[valid].sum()) for fit in fits)
    assert nearby - best < 1e-5  # as six rounds from nothing, above
    assert nearby < three
    assert torch.equal(fits[0].weight > 0, valid)
