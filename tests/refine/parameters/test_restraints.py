"""Restraints, bounds and ties by configuration: what they do to parameters, to a fit, and to who misuses them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nbtorch.errors import ConfigError
from refine.__main__ import main
from refine.conclude.parameter_rows import parameter_rows
from refine.least_squares.levenberg_marquardt import LevenbergMarquardt
from refine.least_squares.restraint_terms import restraint_loss
from refine.least_squares.uncertainty import uncertainty
from refine.parameters.parameter_set import Parameter, ParameterSet
from refine.parameters.physical import at_knots, cell_parameters, mosaic_parameters, orientation_parameters
from refine.parameters.restraints import structured, told_by_positions
from refine.settings.fit_settings import CrystalSettings, DataSettings, FitSettings, ParameterSettings
from refine.settings.request import request_from
from tests.refine import small, tiny
from tests.refine.whole import whole_matrix

FREE = ParameterSettings(cell=True, n_cells=True, orientation=True)


def place_of(parameters: ParameterSet, name: str) -> int:
    """The index of the parameter ``name``, or of the one that it follows."""
    rows = enumerate(parameters.parameters_)
    return next(i for i, row in rows if name in (row.name, *(follower.name for follower in row.follows)))


def rows_of(count: int = 2) -> list[Parameter]:
    return tiny.parameter_rows(tiny.experiments(count), FREE)


def named(rows: list[Parameter], name: str) -> Parameter:
    return next(row for row in rows if row.name == name)


def asked(**changes: Any) -> ParameterSettings:
    return replace(FREE, **changes)


def set_of(settings: ParameterSettings, count: int = 2) -> ParameterSet:
    return ParameterSet(structured(rows_of(count), settings), tiny.start_tensors(tiny.experiments(count)))


def at(parameters: ParameterSet, name: str, value: float) -> ParameterSet:
    with torch.no_grad():
        parameters.values[place_of(parameters, name)] = value
    return parameters


def test_a_restraint_holds_to_the_start_or_to_its_target() -> None:
    rows = structured(rows_of(), asked(restrain={"crystal[0].a": 0.05, "crystal[1].n_b": (11.0, 0.5)}))
    assert (named(rows, "crystal[0].a").restraint, named(rows, "crystal[0].a").target) == (0.05, None)
    assert (named(rows, "crystal[1].n_b").restraint, named(rows, "crystal[1].n_b").target) == (0.5, 11.0)
    assert named(rows, "crystal[1].a").restraint is None


def test_the_last_restraint_that_names_a_parameter_counts() -> None:
    rows = structured(rows_of(), asked(restrain={"*.a": 0.05, "crystal[1].a": 0.01}))
    assert [named(rows, f"crystal[{i}].a").restraint for i in (0, 1)] == [0.05, 0.01]


def test_the_loss_of_a_restraint_is_its_distance_from_the_target_in_sigmas() -> None:
    parameters = set_of(asked(restrain={"crystal[0].n_a": (10.5, 0.25)}))
    index = place_of(parameters, "crystal[0].n_a")
    before, span = restraint_loss(parameters), float(parameters.column("span")[index])
    start = float(parameters.start[index])
    assert before == pytest.approx(((start - 10.5) / 0.25) ** 2)
    moved = restraint_loss(at(parameters, "crystal[0].n_a", 11.0))
    assert moved == pytest.approx((0.5 / 0.25) ** 2 + ((11.0 - start) / span) ** 2)


def test_a_restrained_fit_ends_between_target_and_data_as_their_sigmas_say() -> None:
    """With a target 0.3 σ off and a sigma as small as that of the data, the value ends halfway."""
    expts = tiny.experiments(1)
    free = tiny.simulate(expts, tiny.parameter_set(expts, ["crystal[0].a"]), tiny.parameter_set(expts, []).start)
    objective, parameters = free.objective(), free.start()
    sigma = float(uncertainty(objective, parameters, objective.linearize(parameters)).model[0])
    start = named(list(parameters.parameters_), "crystal[0].a").start
    rows = structured(
        parameters.parameters_, ParameterSettings(restrain={"crystal[0].a": (start + 0.3 * sigma, sigma)})
    )
    held = ParameterSet(rows, tiny.start_tensors(expts))
    solver = LevenbergMarquardt()
    for _ in range(8):
        solver.step(objective, held)
    value = float(held.values.detach()[place_of(held, "crystal[0].a")])
    assert (value - start) / sigma == pytest.approx(0.15, rel=0.01)  # 0.19 % seen: the data are not quite linear
    known = uncertainty(objective, held, objective.linearize(held))
    assert float(known.model[0]) == pytest.approx(sigma / 2**0.5, rel=2e-3)


def test_bounds_replace_those_of_the_program_and_a_start_beyond_begins_on_one() -> None:
    parameters = set_of(asked(bounds={"*.n_a": (11.0, 50.0), "crystal[0].a": (None, 60.0)}))
    index = place_of(parameters, "crystal[0].n_a")
    row = parameters.parameters_[index]
    assert (row.lower, row.upper, float(parameters.values.detach()[index])) == (11.0, 50.0, 11.0)
    assert row.start < 11.0
    assert named(list(parameters.parameters_), "crystal[0].a").upper == 60.0
    assert named(list(parameters.parameters_), "crystal[0].a").lower > 0


def test_a_name_that_follows_by_symmetry_means_what_it_follows() -> None:
    rows = structured(rows_of(1), asked(n_cells_tie="size", restrain={"crystal[0].n_b": (9.0, 0.9)}, free=()))
    assert named(rows, "crystal[0].n_b").target == 9.0  # a parameter of its own
    expts = tiny.experiments(1)
    tied = tiny.parameter_rows(expts, asked(n_cells_tie="size"))
    row = named(structured(tied, asked(restrain={"crystal[0].n_b": (9.0, 0.9)})), "crystal[0].n_a")
    ratio = row.follows[0].ratio
    assert ratio != 1
    assert (row.target, row.restraint) == (pytest.approx(9.0 / ratio), pytest.approx(0.9 / ratio))


def test_tied_parameters_have_one_value_in_every_crystal() -> None:
    parameters = set_of(asked(tie=("*.n_a", ("*.n_b", "*.n_c"))))
    names = [row.name for row in parameters.parameters_]
    assert "crystal[1].n_a" not in names
    assert {"crystal[1].n_b", "crystal[0].n_c", "crystal[1].n_c"}.isdisjoint(names)
    at(at(parameters, "crystal[0].n_a", 12.5), "crystal[0].n_b", 8.5)
    for block in (0, 1):
        assert parameters.changes(block)["crystal.n_cells"].tolist() == pytest.approx([12.5, 8.5, 8.5])


def test_a_tie_begins_at_the_mean_of_the_starts_and_each_is_told_as_given() -> None:
    expts = tiny.experiments(2)
    tensors = tiny.start_tensors(expts)
    tensors[1]["crystal.cell"] = tensors[1]["crystal.cell"] + torch.tensor([0.2, 0, 0, 0, 0, 0])
    rows = [replace(row, start=row.start + 0.2) if row.name == "crystal[1].a" else row for row in rows_of()]
    first = named(rows, "crystal[0].a").start
    parameters = ParameterSet(structured(rows, asked(tie=("*.a",))), tensors)
    for block in (0, 1):
        assert float(parameters.changes(block)["crystal.cell"].detach()[0]) == pytest.approx(first + 0.1)
    told = {row.name: row for row in parameter_rows(parameters, None, explained=True)}
    assert told["crystal[1].a"].tied_to == "crystal[0].a"
    assert told["crystal[1].a"].start == pytest.approx(first + 0.2)
    assert told["crystal[1].a"].value == told["crystal[0].a"].value == pytest.approx(first + 0.1)


def test_what_crystals_share_is_eliminated_last_and_what_one_has_is_its_own() -> None:
    parameters = set_of(asked(tie=("*.a", ("crystal[0].n_a", "crystal[0].n_b"))))
    assert place_of(parameters, "crystal[1].a") in parameters.shared
    assert place_of(parameters, "crystal[0].n_b") in parameters.local[0]


def test_the_normal_matrix_of_a_tie_is_the_sum_over_what_it_ties() -> None:
    """JᵀWJ over (tied, rest) is Cᵀ·H·C with C the map from tied to separate parameters."""
    expts = tiny.experiments(2)
    wanted = [f"crystal[{i}].{name}" for i in (0, 1) for name in ("a", "n_a", "rot_x")]
    apart = tiny.parameter_set(expts, wanted)
    scene = tiny.simulate(expts, apart, apart.start)
    objective = scene.objective()
    tied = ParameterSet(
        structured(apart.parameters_, ParameterSettings(tie=("*.a", "*.n_a"))), tiny.start_tensors(expts)
    )
    for parameters in (apart, tied):
        parameters.parameters_ = tuple(replace(row, span=1e30) for row in parameters.parameters_)
    separate = whole_matrix(objective.linearize(apart).arrow, apart)
    together = whole_matrix(objective.linearize(tied).arrow, tied)
    chain = torch.zeros(len(apart), len(tied), dtype=torch.float64)
    for index, row in enumerate(apart.parameters_):
        chain[index, place_of(tied, row.name)] = 1
    expected = chain.T @ separate @ chain
    free = tied.free
    difference = (together - expected)[free][:, free].abs() / expected[free][:, free].abs().max()
    assert float(difference.max()) < 1e-12  # worst seen 2e-17


def test_a_common_value_is_found_where_each_crystal_alone_would_be_less_sure() -> None:
    expts = tiny.experiments(2)
    wanted = ["crystal[0].a", "crystal[1].a"]
    apart = tiny.parameter_set(expts, wanted)
    truth = tiny.displaced(apart, dict.fromkeys(wanted, 0.05))
    scene = tiny.simulate(expts, apart, truth)
    objective = scene.objective()
    tied = ParameterSet(structured(apart.parameters_, ParameterSettings(tie=("*.a",))), tiny.start_tensors(expts))
    solver = LevenbergMarquardt()
    for _ in range(10):
        solver.step(objective, tied)
    error = float(tied.values.detach()[place_of(tied, "crystal[1].a")]) - float(truth[place_of(apart, "crystal[0].a")])
    known = uncertainty(objective, tied, objective.linearize(tied))
    assert abs(error) < 0.01 * float(known.model[0])
    with torch.no_grad():
        apart.values.copy_(truth)
    alone = uncertainty(objective, apart, objective.linearize(apart)).model
    assert float(known.model[0] ** -2) == pytest.approx(float((alone**-2).sum()), rel=1e-3)


def test_ties_that_overlap_are_one() -> None:
    parameters = set_of(asked(tie=("*.n_a", ("crystal[1].n_a", "crystal[1].n_c"))))
    assert place_of(parameters, "crystal[1].n_c") == place_of(parameters, "crystal[0].n_a")


def test_knots_are_tied_angle_by_angle_and_restrained_in_their_mean() -> None:
    expts = tiny.experiments(2)
    rows = [row for i in (0, 1) for row in at_knots(orientation_parameters(i, free=True), (0.0, 10.0))]
    for i in (0, 1):
        rows += cell_parameters(i, expts[i].crystal, FitSettings(data=DataSettings("none.expt")))
    found = structured(rows, ParameterSettings(tie=("*.rot_x",), restrain={"*.rot_y": 0.1, "*.rot_z@10": 0.1}))
    names = {row.name for row in found}
    assert {"crystal[0].rot_x@0", "crystal[0].rot_x@10"} <= names
    assert "crystal[1].rot_x@0" not in names
    assert named(found, "crystal[0].rot_y@0").restraint == pytest.approx(0.1 * 2**0.5)
    assert named(found, "crystal[0].rot_z@0").restraint is None
    assert named(found, "crystal[0].rot_z@10").restraint == 0.1


def test_positions_hold_what_they_do_not_tell() -> None:
    rows = told_by_positions(structured(rows_of(), asked(free=("*",))))
    held = {row.name.rpartition(".")[2] for row in rows if not row.free}
    assert held == {"n_a", "n_b", "n_c", "scale", "polarization_fraction"}


def test_a_knot_or_a_spread_that_the_spots_may_bring_is_awaited() -> None:
    settings = asked(fix=("crystal[0].rot_x@20",), tie=("*.mosaic_spread",))
    assert structured(rows_of(), settings, ["crystal[0].mosaic_spread"])
    with pytest.raises(ConfigError, match="matches none"):
        structured(rows_of(), settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"restrain": {"crystal[7].a": 0.1}}, r"parameters.restrain: .*'crystal\[7\].a': it matches none"),
        ({"bounds": {"nothing": (0.0, 1.0)}}, "parameters.bounds: .*'nothing': it matches none"),
        ({"tie": ("*.nothing",)}, r"parameters.tie: .*'\*.nothing': it matches none"),
        ({"restrain": {"beam.wavelength": 0.1}}, r"beam.wavelength is held.*parameters.free=\[beam.wavelength\]"),
        ({"bounds": {"beam.wavelength": (0.9, 1.1)}}, "beam.wavelength is held, where it does nothing"),
        ({"bounds": {"crystal[0].a": (100.0, None)}}, r"no value of crystal\[0\].a lies between 100 and"),
        ({"tie": (("crystal[0].a", "crystal[0].n_a"),)}, "their units differ: Å and cells"),
        ({"tie": ("*.n_a",), "fix": ("crystal[1].n_a",)}, r"crystal\[1\].n_a is held and crystal\[0\].n_a is free"),
        ({"tie": (("crystal[0].a", "crystal[0].c"),)}, "they start at 23 and 31 Å: no one value can be meant"),
        ({"tie": ("crystal[0].n_a",)}, r"it names crystal\[0\].n_a alone"),
        ({"tie": ("*.scale",)}, "Give parameters.scale=frame"),
        (
            {"tie": ("*.a",), "restrain": {"crystal[0].a": (23.0, 0.1), "crystal[1].a": (23.1, 0.1)}},
            "different targets",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_reason(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        structured(rows_of(), asked(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"restrain": {"*.a": 0.0}}, r"\*.a: 0.0: a restraint's sigma must be more than 0"),
        ({"restrain": {"*.a": [23.0, -1.0]}}, r"\[23.0, -1.0\]: a restraint's sigma"),
        ({"restrain": {"*.a": "tight"}}, r"parameters.restrain\[\*.a\]=tight: it should be a number"),
        ({"restrain": ["*.a"]}, "names with values"),
        ({"bounds": {"*.a": [25.0, 20.0]}}, r"\[25, 20\]: no value lies between"),
        ({"tie": "*.a"}, "a list"),
    ],
)
def test_numbers_that_say_nothing_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "start.expt").touch()
    given = {"data": {"experiment": str(tmp_path / "start.expt")}, "parameters": changes}
    with pytest.raises(ConfigError, match=message):
        request_from(given)


def test_a_spread_of_all_mosaic_crystals_is_one_parameter() -> None:
    from nbtorch.config import MosaicConfig

    expts = tiny.experiments(2, mosaic=MosaicConfig(0.1, 8))
    rows = rows_of() + [row for i in (0, 1) for row in mosaic_parameters(i, expts[i].crystal, free=True)]
    found = structured(rows, asked(tie=("*.mosaic_spread",)))
    assert [row.name for row in found if "mosaic" in row.name] == ["crystal[0].mosaic_spread"]


COMMAND = ("parameters=all", "parameters.mosaic_spread=false", "crystal.mosaic_spread=0", "crystal.n_cells=[12,11,9]",
           "parameters.fix=[*.rot_normal]", "render.oversample=3", "trainer.progress=none", "trainer.logger=none",
           "parameters.tie=[*.a,*.b,*.c,*.n_a,*.n_b,*.n_c]", "parameters.n_cells_tie=independent",
           "parameters.restrain={crystal[0].a: 0.02, *.b: [27.0, 0.03]}",
           "parameters.bounds={*.n_?: [5, 40]}")  # fmt: skip


def test_a_fit_of_stills_that_share_a_cell_says_so_in_its_results(tmp_path: Path) -> None:
    small.write_stills(tmp_path, 2)
    out = tmp_path / "out"
    given = [f"data.experiment={tmp_path / 'start.expt'}", f"data.amplitudes={tmp_path / 'F.hkl'}"]
    command = [*given, f"hydra.run.dir={out}", *COMMAND]
    assert main([*command, "solver.max_iterations=2"]) == 0
    assert main([*command, "resume=true"]) == 0
    found = json.loads((out / "result.json").read_text())
    rows = {row["name"]: row for row in found["parameters"]}
    assert found["converged"]
    assert rows["crystal[1].a"]["tied_to"] == "crystal[0].a"
    assert rows["crystal[1].a"]["value"] == rows["crystal[0].a"]["value"]
    assert (rows["crystal[0].a"]["restraint_target"], rows["crystal[0].a"]["restraint_sigma"]) == (23.0, 0.02)
    assert (rows["crystal[0].b"]["restraint_target"], rows["crystal[0].b"]["restraint_sigma"]) == (27.0, 0.03)
    assert (rows["crystal[0].n_a"]["lower"], rows["crystal[0].n_a"]["upper"]) == (5, 40)
    assert rows["crystal[0].c"]["restraint_sigma"] is None
    assert rows["crystal[0].rot_x"]["lower"] is None
    for name, true in (("a", 23.0), ("b", 27.0), ("c", 31.0)):
        assert abs(rows[f"crystal[0].{name}"]["value"] - true) < 3 * rows[f"crystal[0].{name}"]["sigma"]
    page = (out / "report.html").read_text()
    assert "restrained to 27 ± 0.03" in page
    assert "follows crystal[0].a" in page


def test_a_cell_restraint_of_tied_crystals_is_one_restraint() -> None:
    settings = FitSettings(data=DataSettings("none.expt"), crystal=CrystalSettings(cell_restraint=0.001))
    expts = tiny.experiments(2)
    rows = [row for i in (0, 1) for row in cell_parameters(i, expts[i].crystal, settings)]
    found = structured(rows, ParameterSettings(tie=("*.a",)))
    assert named(found, "crystal[0].a").restraint == pytest.approx(0.001 * 23.0)
