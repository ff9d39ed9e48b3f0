"""Covariances and undetermined directions by blocks against the same made of whole matrices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from refine.least_squares.arrow_inverse import (
    BlockInverse,
    count_below,
    inverse,
    inverse_with,
    lowest,
    rescaled,
    shifted,
    times,
)
from refine.least_squares.normal import Arrow, BlockNormal, assemble

SHARED, OWN = 4, (3, 5, 0, 2, 6, 4, 5, 3, 4, 6)
SIZE = SHARED + sum(OWN)


def arrow(*, lost: bool = False) -> Arrow:
    """Information of ten blocks; ``lost``: without two directions, one of a block's own and one over all blocks."""
    draw = torch.Generator().manual_seed(3)
    blocks = []
    for own in OWN:
        columns = torch.randn(40, SHARED + own, generator=draw, dtype=torch.float64)
        if lost and own:
            columns[:, SHARED] = -columns[:, 0]  # the first of each block makes up for it
        if lost and own == 2:
            columns[:, SHARED + 1] = 0
        blocks.append(BlockNormal(columns.T @ columns, columns.sum(0)))
    return assemble(blocks, SHARED)


def whole(given: Arrow) -> Tensor:
    return times(given, torch.eye(SIZE, dtype=torch.float64))


def test_the_inverse_is_that_of_the_whole_matrix() -> None:
    found, expected = inverse(arrow()), torch.linalg.inv(whole(arrow()))
    assert found.matrix().allclose(expected, rtol=1e-10, atol=1e-14)
    assert found.diagonal().allclose(expected.diagonal(), rtol=1e-10)
    for number in range(len(OWN)):
        rows, part = found.block(number)
        assert len(rows) == SHARED + OWN[number]
        assert part.allclose(expected[rows][:, rows], rtol=1e-10, atol=1e-14)
    columns = torch.arange(2.0 * SIZE, dtype=torch.float64).reshape(SIZE, 2)
    assert found.times(columns).allclose(expected @ columns, rtol=1e-9)


def test_scaling_and_shifting_are_those_of_the_whole_matrix() -> None:
    by = torch.linspace(0.1, 30, SIZE, dtype=torch.float64)
    assert whole(rescaled(arrow(), by)).allclose(whole(arrow()) * by[:, None] * by, rtol=1e-14)
    assert whole(shifted(arrow(), by)).allclose(whole(arrow()) + torch.diag(by), rtol=1e-14)
    assert inverse(arrow()).scaled(by).matrix().allclose(inverse(arrow()).matrix() * by[:, None] * by, rtol=1e-14)


@pytest.mark.parametrize("limit", [1e-3, 4.0, 20.0, 40.0])
@pytest.mark.parametrize("lost", [False, True])
def test_eigenvalues_below_a_limit_are_counted_without_finding_them(limit: float, *, lost: bool) -> None:
    values = torch.linalg.eigvalsh(whole(arrow(lost=lost)))
    assert count_below(arrow(lost=lost), limit) == int((values < limit).sum())


def test_directions_without_information_are_found() -> None:
    given = arrow(lost=True)
    values, vectors = lowest(given, 4.0)
    every = torch.linalg.eigvalsh(whole(given))
    assert 3 * len(values) < SIZE  # else all of them are made
    assert values.shape == (int((every < 4).sum()) + 1,)
    assert values.allclose(every[: len(values)], rtol=1e-9, atol=1e-11)
    assert (whole(given) @ vectors).allclose(vectors * values, atol=1e-9)  # worst seen 1e-12
    assert (vectors.T @ vectors).allclose(torch.eye(len(values)).double(), atol=1e-12)


def covariances(given: Arrow) -> tuple[BlockInverse, Tensor]:
    """What is known where two directions have a sigma of one instead of none: by blocks, and by all eigenvectors."""
    values, vectors = lowest(given, 4.0)
    lost = values < 4.0
    found = inverse_with(given, values[lost], vectors[:, lost], values[lost].clamp(min=1.0))
    every, turn = torch.linalg.eigh(whole(given))
    return found, (turn / every.clamp(min=1.0)) @ turn.T


@pytest.mark.parametrize("lost", [False, True])
def test_the_covariance_with_undetermined_directions_is_that_of_the_whole_matrix(*, lost: bool) -> None:
    found, expected = covariances(arrow(lost=lost))
    assert found.matrix().allclose(expected, rtol=1e-9, atol=1e-11)
    assert found.diagonal().allclose(expected.diagonal(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("lost", [False, True])
def test_the_sandwich_is_that_of_whole_matrices(*, lost: bool) -> None:
    found, expected = covariances(arrow(lost=lost))
    middle = shifted(arrow(), torch.linspace(1, 5, SIZE, dtype=torch.float64))
    assert found.around(middle).allclose((expected @ whole(middle) @ expected).diagonal(), rtol=1e-9, atol=1e-10)
