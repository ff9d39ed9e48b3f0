"""Spots that are not quite their model: shifts and widths of their own, known beforehand to be small."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from refine.pixels.losses import Noise
from refine.pixels.nuisance import Effects, project, solve_boxes
from refine.pixels.spot_errors import SpotErrors, error_columns

SPREAD = SpotErrors(0.3, 0.5, 0.2)
FRAMES, SIDE = 5, 13


def place() -> Tensor:
    """fast, slow, frame [1, Q, 3] of a box of 5 frames."""
    frame, slow, fast = np.mgrid[:FRAMES, :SIDE, :SIDE].reshape(3, -1).astype(float)
    return torch.as_tensor(np.stack([fast, slow, frame], axis=1) + 0.5)[None]


def spot(centre: tuple[float, float, float] = (6.3, 6.8, 2.4), across: float = 1.3, along: float = 0.9) -> Tensor:
    """A Gaussian spot [1, Q] of rms ``across`` pixels and ``along`` frames."""
    away = (place() - torch.tensor(centre, dtype=torch.float64)) / torch.tensor([across, across, along])
    return 400 * torch.exp(-0.5 * (away**2).sum(-1))


def test_the_columns_are_the_derivatives_of_a_gaussian_spot() -> None:
    columns, step = error_columns(spot(), place()), 1e-4
    moved = [
        (spot((6.3 + step, 6.8, 2.4)) - spot((6.3 - step, 6.8, 2.4))) / 2 / step,
        (spot((6.3, 6.8 + step, 2.4)) - spot((6.3, 6.8 - step, 2.4))) / 2 / step,
        (spot((6.3, 6.8, 2.4 + step)) - spot((6.3, 6.8, 2.4 - step))) / 2 / step,
    ]
    for column, expected in enumerate(moved):
        off = (columns[..., column] - expected).abs().max() / expected.abs().max()
        assert float(off) < 0.08  # worst seen 0.043 (frame): moments of a box that cuts the tails
    # broader, with the same counts: the peak falls as the flanks rise
    for column, (across, along) in ((3, (1.3, 0.0)), (4, (0.0, 0.9))):
        wide, thin = (spot(across=1.3 + sign * step * across, along=0.9 + sign * step * along) for sign in (1, -1))
        expected = (wide / wide.sum() - thin / thin.sum()) * spot().sum() / 2 / step
        off = (columns[..., column] - expected).abs().max() / expected.abs().max()
        assert float(off) < 0.08  # worst seen 0.039 (frame)


def test_each_column_has_its_own_spread() -> None:
    assert SPREAD.sigmas == (0.3, 0.3, 0.5, 0.2, 0.2)  # fast, slow, frame; width across and along


def test_a_spot_on_one_frame_has_no_frame_to_be_late_by() -> None:
    here = place()[:, : SIDE**2]
    signal = torch.exp(-0.5 * ((here[..., :2] - 6.5) ** 2).sum(-1))
    columns = error_columns(signal, here)
    assert not columns[..., 2].any()
    assert not columns[..., 4].any()
    assert columns[..., [0, 1, 3]].abs().amax((0, 1)).min() > 0


def test_a_box_without_a_spot_has_no_errors_and_no_nan() -> None:
    columns = error_columns(torch.zeros(1, SIDE**2 * FRAMES, dtype=torch.float64), place())
    assert not columns.any()


def solved(counts: Tensor, effects: Effects | None, rounds: int = 12) -> tuple[Tensor, Tensor]:
    """(total, penalty) of one box of constant background, read out with a noise of 5."""
    noise = Noise(torch.zeros(1, 1).double(), torch.full((1, 1), 5.0).double(), counting=False)
    columns = torch.ones(1, counts.shape[1], 1, dtype=torch.float64)
    fit = solve_boxes(spot(), columns, counts, counts > -1e9, noise, free_scale=True, effects=effects, rounds=rounds)
    return fit.total, fit.penalty


def test_the_errors_are_those_of_penalized_least_squares(rng: np.random.Generator) -> None:
    """Henderson's equations: (XᵀX/σ² + diag(0, 0, 1 …))·x = Xᵀy/σ², written out."""
    counts = spot((6.5, 6.8, 2.4)) + 10 + 5 * torch.as_tensor(rng.standard_normal(spot().shape))
    total, penalty = solved(counts, Effects(SPREAD, place()))
    plain, _ = solved(counts, None)
    scale = float(((counts - 10) * spot()).sum() / (spot() ** 2).sum())
    for _ in range(12):
        effects = error_columns(scale * spot(), place())[0] * torch.tensor(SPREAD.sigmas, dtype=torch.float64)
        design = torch.cat([spot()[0, :, None], torch.ones(spot().shape[1], 1), effects], dim=1)
        prior = torch.diag(torch.tensor([0.0, 0, 1, 1, 1, 1, 1], dtype=torch.float64))
        best = torch.linalg.solve(design.T @ design / 25 + prior, design.T @ counts[0] / 25)
        scale = float(best[0])
    assert total[0].allclose(design @ best, rtol=1e-6, atol=1e-4)
    assert float(penalty) == pytest.approx(float((best[2:] ** 2).sum()), rel=1e-5)
    assert float(((counts - total) ** 2).sum()) < float(((counts - plain) ** 2).sum())


def test_a_shifted_spot_is_followed_about_as_far_as_it_went(rng: np.random.Generator) -> None:
    counts = spot((6.3 + 0.3, 6.8, 2.4)) + 10 + 5 * torch.as_tensor(rng.standard_normal(spot().shape))
    _, at_place = solved(spot() + 10, Effects(SPREAD, place()))
    _, penalty = solved(counts, Effects(SPREAD, place()))
    assert float(at_place) < 1e-6
    assert float(penalty) == pytest.approx(1.0, abs=0.3)  # one σ off, and nothing else


def test_no_freedom_is_no_error(rng: np.random.Generator) -> None:
    counts = spot((6.6, 6.8, 2.4)) + 10 + 5 * torch.as_tensor(rng.standard_normal(spot().shape))
    tight, _ = solved(counts, Effects(SpotErrors(1e-9, 1e-9, 1e-9), place()))
    none, _ = solved(counts, None)
    assert tight.allclose(none, atol=1e-4)


def test_what_is_known_beforehand_takes_less_away() -> None:
    """Between nothing (σ = 0) and everything (σ → ∞), by the Schur complement of the normal matrix with its prior."""
    weight = torch.full((1, spot().shape[1]), 0.04, dtype=torch.float64)
    jacobian = error_columns(spot(), place())[..., :2]
    size = (jacobian**2 * weight[..., None]).sum(1)
    left = []
    for sigma in (1e-6, 0.02, 1e3):
        known = jacobian * sigma
        across = project(known, weight, jacobian, 2)
        # with the prior the Gauss–Newton matrix is Jᵀ·W·(J − explained): neither a projection nor symmetric by itself
        share = (jacobian * weight[..., None]).transpose(1, 2) @ across
        mixed = (known * weight[..., None]).transpose(1, 2) @ jacobian
        own = (known * weight[..., None]).transpose(1, 2) @ known + torch.eye(2, dtype=torch.float64)
        whole = (jacobian * weight[..., None]).transpose(1, 2) @ jacobian
        expected = whole - mixed.transpose(1, 2) @ torch.linalg.solve(own, mixed)
        assert float(((share - expected) / size.sum()).abs().max()) < 1e-9  # worst seen 8e-11: the ridge
        left.append(float(share[0, 0, 0] / size[0, 0]))
    assert left[0] == pytest.approx(1, abs=1e-6)
    assert 0.1 < left[1] < 0.99
    assert left[2] < 1e-4
