"""The vector of parameter values, and what it makes of the models' tensors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nbtorch.errors import ConfigError
from refine.parameters import kinds
from refine.parameters.parameter_set import Entry, Parameter, ParameterSet, switch

CELL = torch.tensor([50.0, 50.0, 50.0, 90.0, 90.0, 90.0], dtype=torch.float64)
SHIFT = torch.zeros(2, 3, dtype=torch.float64)


def rows() -> list[Parameter]:
    """Two shared shifts among the cells of two crystals, so that shared and own do not come in one run."""
    cubic = tuple(Entry("crystal.cell", i) for i in range(3))
    return [
        Parameter("crystal[0].a", kinds.CELL_LENGTH, "Å", 50.0, 0.5, cubic, 0, lower=45.0, upper=55.0),
        Parameter("detector.whole.shift_slow", kinds.DETECTOR_SHIFT, "mm", 0.0, 1.5, (Entry("detector.shift", 1),)),
        Parameter("crystal[1].a", kinds.CELL_LENGTH, "Å", 50.0, 0.5, cubic, 1, lower=45.0, upper=55.0),
        Parameter("detector.left.shift_fast", kinds.DETECTOR_SHIFT, "mm", 0.0, 1.5, (Entry("detector.shift", 3, 2.0),)),
        Parameter("crystal[0].alpha", kinds.CELL_ANGLE, "deg", 90.0, 1.0, (Entry("crystal.cell", 3),), 0, free=False),
    ]


def parameter_set() -> ParameterSet:
    return ParameterSet(rows(), [{"crystal.cell": CELL, "detector.shift": SHIFT} for _ in range(2)])


def at(*values: float) -> ParameterSet:
    parameters = parameter_set()
    with torch.no_grad():
        parameters.values.copy_(torch.tensor(values))
    return parameters


def test_one_length_of_a_cubic_cell_moves_three() -> None:
    changed = at(51.0, 0, 50, 0, 90).changes(0)["crystal.cell"]
    assert changed.tolist() == [51, 51, 51, 90, 90, 90]


def test_entries_index_the_flattened_tensor_and_carry_their_coefficient() -> None:
    changed = at(50, 0.25, 50, 0.5, 90).changes(1)["detector.shift"]
    assert changed.tolist() == [[0, 0.25, 0], [1.0, 0, 0]]


def test_a_block_feels_its_own_parameters_and_the_shared_ones_alone() -> None:
    parameters = at(51.0, 0.1, 52.0, 0, 90)
    assert parameters.changes(0)["crystal.cell"][0] == 51.0
    assert parameters.changes(1)["crystal.cell"][0] == 52.0
    assert parameters.changes(0)["detector.shift"].equal(parameters.changes(1)["detector.shift"])


def test_a_held_value_that_is_not_at_its_start_still_counts() -> None:
    parameters = at(50, 0, 50, 0, 91.0)
    free = parameters.values.detach()[parameters.of_block(0)]
    assert parameters.changes(0)["crystal.cell"][3] == 91.0
    assert parameters.changes(0, free)["crystal.cell"][3] == 91.0


def test_given_free_values_stand_in_the_order_of_of_block() -> None:
    parameters = parameter_set()
    free = torch.tensor([0.1, 0.2, 51.0], dtype=torch.float64)  # the shared shifts, then the crystal's own a
    changed = parameters.changes(0, free)
    assert changed["detector.shift"].tolist() == [[0, 0.1, 0], [0.4, 0, 0]]
    assert changed["crystal.cell"].tolist() == [51, 51, 51, 90, 90, 90]
    assert parameters.values.equal(parameters.start)  # nothing moved in place


def test_the_derivative_of_the_tensors_is_their_matrix() -> None:
    parameters = parameter_set()
    free = parameters.values.detach()[parameters.of_block(1)]
    jacobian = torch.func.jacrev(lambda values: parameters.changes(1, values))(free)
    expected_cell, expected_shift = torch.zeros(6, 3).double(), torch.zeros(2, 3, 3).double()
    expected_cell[:3, 2] = 1
    expected_shift[0, 1, 0], expected_shift[1, 0, 1] = 1, 2
    assert jacobian["crystal.cell"].equal(expected_cell)
    assert jacobian["detector.shift"].equal(expected_shift)


def test_parameters_of_a_block_are_the_shared_ones_then_its_own() -> None:
    parameters = parameter_set()
    assert (parameters.of_block(0), parameters.of_block(1)) == ([1, 3, 0], [1, 3, 2])


def test_release_holds_whatever_it_does_not_name() -> None:
    parameters = parameter_set()
    parameters.release({4, 3})
    assert (parameters.free, parameters.shared, parameters.local) == ([3, 4], [3], [[4], []])
    assert (parameters.of_block(0), parameters.of_block(1)) == ([3, 4], [3])


def test_columns_give_infinity_for_what_is_not_set() -> None:
    parameters = ParameterSet(
        [replace(rows()[0], restraint=0.2), *rows()[1:]], [{"crystal.cell": CELL, "detector.shift": SHIFT}] * 2
    )
    assert parameters.column("restraint", [0, 1]).tolist() == [0.2, torch.inf]
    assert parameters.column("span").tolist() == [0.5, 1.5, 0.5, 1.5, 1.0]


def test_values_are_brought_within_their_bounds_and_those_on_one_are_told() -> None:
    parameters = parameter_set()
    clamped = parameters.clamp(torch.tensor([44.0, -9.0, 56.0, 9.0, 90.0], dtype=torch.float64))
    assert clamped.tolist() == [45.0, -9.0, 55.0, 9.0, 90.0]
    assert at(45.0, -9, 54.999, 9, 90).at_bound() == [True, False, False, False, False]


def test_two_parameters_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="two have one name"):
        ParameterSet([rows()[0], rows()[0]], [{"crystal.cell": CELL}])


@pytest.mark.parametrize(
    ("pattern", "hit"),
    [
        ("crystal[0].a", {"crystal[0].a"}),  # brackets are part of a name, not a set of characters
        ("crystal[0].*", {"crystal[0].a", "crystal[0].alpha"}),
        ("crystal[*].a", {"crystal[0].a", "crystal[1].a"}),
        ("*.shift_?*", {"detector.whole.shift_slow", "detector.left.shift_fast"}),
        ("detector.left.*", {"detector.left.shift_fast"}),
        ("*", {row.name for row in rows()}),
    ],
)
def test_a_pattern_switches_those_that_it_names(pattern: str, hit: set[str]) -> None:
    held = switch(rows(), [pattern], [])
    assert {row.name for row in held if not row.free} == hit | {"crystal[0].alpha"}
    freed = switch(switch(rows(), ["*"], []), [], [pattern])
    assert {row.name for row in freed if row.free} == hit
    assert [replace(row, free=True) for row in freed] == [replace(row, free=True) for row in rows()]


def test_free_wins_over_fix() -> None:
    switched = switch(rows(), ["crystal*"], ["crystal[1].a"])
    assert [row.free for row in switched] == [False, True, True, True, False]


@pytest.mark.parametrize("which", ["fix", "free"])
def test_a_pattern_that_names_nothing_is_refused_and_names_are_listed(which: str) -> None:
    given = {"fix": (), "free": ()} | {which: ("crystal[2].a",)}
    with pytest.raises(ConfigError, match=r"'crystal\[2\].a'.*matches none.*crystal\[0\].a, detector.whole"):
        switch(rows(), **given)
