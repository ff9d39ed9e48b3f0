"""The arrow-shaped system of a joint fit: its solution, its layout, and what scaling leaves alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from refine.least_squares.normal import Arrow, BlockNormal, add_diagonal, assemble, solve_arrow
from tests.refine.whole import dense

SHARED, OWN = 3, (2, 4, 0, 1)  # one block has no parameter of its own
PLACES, WHOLE = ([3, 5], [4, 7, 8, 9], [], [6]), [0, 1, 2]


def blocks(scale: Tensor | None = None) -> list[BlockNormal]:
    """Positive definite matrices as a Jacobian makes them; ``scale`` [10] changes the units of the parameters."""
    rng = torch.Generator().manual_seed(3)
    made = []
    for place in PLACES:
        jacobian = torch.randn(40, SHARED + len(place), generator=rng, dtype=torch.float64)
        jacobian = jacobian if scale is None else jacobian * scale[[*WHOLE, *place]]
        made.append(BlockNormal(jacobian.T @ jacobian, jacobian.T @ torch.ones(40, dtype=torch.float64)))
    return made


def solution(arrow: Arrow) -> Tensor:
    """The step [10] of all parameters."""
    shared, local = solve_arrow(arrow)
    full = torch.zeros(10, dtype=torch.float64)
    full[WHOLE] = shared
    for place, values in zip(PLACES, local, strict=True):
        full[place] = values
    return full


def gradient(arrow: Arrow) -> Tensor:
    full = torch.zeros(10, dtype=torch.float64)
    full[WHOLE] = arrow.shared_gradient
    for place, values in zip(PLACES, arrow.local_gradient, strict=True):
        full[place] = values
    return full


def test_the_shared_part_is_the_sum_over_the_blocks_and_the_rest_is_each_ones_own() -> None:
    given = blocks()
    arrow = assemble(given, SHARED)
    assert arrow.shared.allclose(sum((b.matrix[:3, :3] for b in given), torch.zeros(3, 3)), rtol=1e-14)
    assert [tuple(m.shape) for m in arrow.mixed] == [(3, n) for n in OWN]
    assert all(m.equal(b.matrix[3:, 3:]) for m, b in zip(arrow.local, given, strict=True))


def test_the_dense_matrix_holds_each_block_in_its_place_and_nothing_between_blocks() -> None:
    given = blocks()
    full = dense(assemble(given, SHARED), PLACES, WHOLE, 10)
    expected = torch.zeros(10, 10, dtype=torch.float64)
    for place, block in zip(PLACES, given, strict=True):
        index = torch.tensor([*WHOLE, *place])
        expected[index[:, None], index] += block.matrix
    assert full.allclose(expected, rtol=1e-14)
    assert full.allclose(full.T, rtol=1e-14)
    assert not full[3, 4]
    assert not full[6, 7]


def test_rows_of_parameters_that_no_block_has_stay_empty() -> None:
    full = dense(assemble(blocks(), SHARED), PLACES, WHOLE, 12)
    assert not full[10:].any()
    assert not full[:, 10:].any()


def test_eliminating_the_blocks_gives_the_solution_of_the_whole_system() -> None:
    arrow = assemble(blocks(), SHARED)
    expected = torch.linalg.solve(dense(arrow, PLACES, WHOLE, 10), gradient(arrow))
    assert solution(arrow).allclose(expected, rtol=1e-13)  # worst seen 1.2e-15


def test_blocks_without_shared_parameters_are_solved_one_by_one() -> None:
    given = [BlockNormal(b.matrix[3:, 3:], b.gradient[3:]) for b in blocks()]
    _, local = solve_arrow(assemble(given, 0))
    for step, block in zip(local, given, strict=True):
        assert step.allclose(torch.linalg.solve(block.matrix, block.gradient), rtol=1e-12)


@pytest.mark.parametrize("spread", [3, 8])
def test_units_of_the_parameters_change_the_step_by_the_units_alone(spread: int) -> None:
    """Scaling to a unit diagonal makes the solution blind to units: 16 orders of magnitude between them at the most."""
    scale = torch.logspace(-spread, spread, 10, dtype=torch.float64)
    plain, scaled = solution(assemble(blocks(), SHARED)), solution(assemble(blocks(scale), SHARED))
    assert (scaled * scale).allclose(plain, rtol=1e-13)  # worst seen 3.4e-15


def test_damping_is_added_to_the_diagonal_of_the_whole() -> None:
    arrow = assemble(blocks(), SHARED)
    local = [torch.arange(n, dtype=torch.float64) + 4 for n in OWN]
    more = add_diagonal(arrow, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), local)
    change = dense(more, PLACES, WHOLE, 10) - dense(arrow, PLACES, WHOLE, 10)
    assert change.diagonal().tolist() == pytest.approx([1, 2, 3, 4, 4, 5, 4, 5, 6, 7], abs=1e-12)
    assert not (change - torch.diag(change.diagonal())).any()


def test_a_direction_that_the_data_do_not_see_at_all_does_not_stop_the_rest() -> None:
    """Two columns that are the same: the matrix is singular, and the step in what is determined is right."""
    given = [BlockNormal(b.matrix.clone(), b.gradient.clone()) for b in blocks()]
    matrix = torch.zeros(5, 5, dtype=torch.float64)
    matrix[:3, :3] = torch.eye(3)
    matrix[3:, 3:] = 1.0
    given[0] = BlockNormal(matrix, torch.ones(5, dtype=torch.float64))
    _, local = solve_arrow(assemble(given, SHARED))
    assert float(local[0].sum()) == pytest.approx(1.0, rel=1e-6)  # worst seen 5e-10: the ridge is 1e-9
