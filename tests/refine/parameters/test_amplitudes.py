"""Amplitudes as parameters: who shares one, whose derivative a pixel holds, what tells them from scales, the file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pytest
import torch

from nbtorch.config import CrystalConfig, MosaicConfig
from nbtorch.errors import ConfigError
from nbtorch.io import read_amplitudes
from nbtorch.models import Experiment, StructureFactors
from nbtorch.models.detector import root_group
from refine.__main__ import main
from refine.conclude.amplitude_rows import split, without_amplitudes
from refine.conclude.parameter_rows import parameter_rows
from refine.fit.shoebox_choice import hold_dark_amplitudes
from refine.least_squares.levenberg_marquardt import LevenbergMarquardt, joint_gradient
from refine.least_squares.restraint_terms import restrained, restraint_loss
from refine.least_squares.uncertainty import uncertainty
from refine.parameters.amplitudes import (
    amplitude_parameters,
    indices_in,
    name_of,
    representative,
    told_from_scales,
    with_scale_held,
)
from refine.parameters.kinds import AMPLITUDE
from refine.parameters.parameter_set import ParameterSet, switch
from refine.pixels.objective import PixelObjective
from refine.records.outcome import AmplitudeRow, Correlation
from refine.report.amplitude_results import summary, write_mtz
from refine.scene.rigid_groups import chosen_groups
from refine.scene.shared_amplitudes import mates, shared_values
from refine.settings.fit_settings import DataSettings, FitSettings, ParameterSettings
from tests.refine import small, tiny
from tests.refine.fake import outcome

GROUPS = ["P 1", "P 1 2 1", "P 2 2 2", "P 4", "P 4 2 2", "R 3 :H", "P 6", "I 2 3", "C 1 2 1"]
ON = ParameterSettings(amplitudes=True, scale="frame")


def indices(reach: int = 4) -> np.ndarray:
    grid = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    return np.asarray(grid[(grid != 0).any(1)])


@pytest.mark.parametrize("friedel", [True, False])
@pytest.mark.parametrize("name", GROUPS)
def test_reflections_share_an_amplitude_as_the_asymmetric_unit_says(name: str, friedel: bool) -> None:
    hkl = indices()
    group = mates(hkl, name, friedel=friedel)
    names = representative(hkl, name, friedel=friedel)
    assert len(set(names)) == group.max() + 1
    assert len(set(zip(names, group.tolist(), strict=True))) == group.max() + 1


def test_friedel_mates_of_an_acentric_reflection_alone_may_differ() -> None:
    hkl = np.array([[1, 2, 3], [-1, -2, -3], [-1, -2, 3], [0, 2, 3], [0, -2, -3]])
    tied, free = mates(hkl, "P 2 2 2", friedel=True), mates(hkl, "P 2 2 2", friedel=False)
    assert len(set(tied[:3].tolist())) == 1
    assert free[0] == free[2] != free[1]
    assert free[3] == free[4]  # centric


def test_mates_take_their_mean_and_it_is_said_where_they_differ() -> None:
    hkl, values = np.array([[2, 1, 3], [-1, 2, 3], [1, 1, 1]]), np.array([90.0, 110.0, 50.0])
    group, mean, note = shared_values(hkl, values, {"P 4"}, friedel=True)
    assert group[0] == group[1] != group[2]
    assert mean.tolist() == [100.0, 100.0, 50.0]
    assert "by up to 10 %" in note[0].sentence
    assert shared_values(hkl[1:], values[1:], {"P 4"}, friedel=True)[2] == []
    with pytest.raises(ConfigError, match="different space groups: P 1, P 4"):
        shared_values(hkl, values, {"P 4", "P 1"}, friedel=True)


def factors_of(space_group: str, friedel: bool = True) -> StructureFactors:
    hkl = indices(12)
    group = mates(hkl, space_group, friedel=friedel)
    values = np.sqrt(np.random.default_rng(5).exponential(1.0, group.max() + 1))[group]
    return StructureFactors(hkl, tiny.AMPLITUDE * values, group=group)


def test_the_name_of_an_amplitude_holds_its_indices() -> None:
    for hkl in [(1, 2, 3), (-11, 0, 4)]:
        assert indices_in(name_of(*hkl)) == hkl


def experiments_of(count: int = 1, panels: int = 1, **changes: Any) -> list[Experiment]:
    groups = chosen_groups(root_group(tiny.detector_config(panels)), panels, (0, 1) if panels > 1 else (0,))
    factors = factors_of("P 2 2 2")
    expts = tiny.experiments(count, panels=panels, groups=groups, **changes)
    for expt in expts:
        expt.structure_factors = factors
    return expts


def made(
    expts: list[Experiment], free: tuple[str, ...], settings: ParameterSettings = ON
) -> tuple[PixelObjective, Any]:
    """The objective of ``expts`` at the truth with all their amplitudes free, one scale each; its simulation."""
    seen = torch.as_tensor(np.concatenate([tiny.plan(expt).hkl for expt in expts]))
    rows = switch(switch(tiny.parameter_rows(expts), ["*"], free), [], [])
    rows += amplitude_parameters(expts[0].structure_factors, seen, "P 2 2 2", settings)
    parameters = ParameterSet(rows, tiny.start_tensors(expts))
    scene = tiny.simulate(expts, parameters, parameters.start)
    objective = scene.objective(free_scales=False)
    hold_dark_amplitudes(objective.blocks, parameters)
    return objective, scene


def test_a_parameter_begins_at_the_amplitude_given_and_stays_above_zero() -> None:
    factors = factors_of("P 2 2 2")
    seen = torch.tensor([[1, 2, 3], [-1, -2, 3], [2, 2, 2], [40, 0, 0]])
    rows = amplitude_parameters(factors, seen, "P 2 2 2", ON)
    assert [row.name for row in rows] == sorted(["F[1,2,3]", "F[2,2,2]"], key=[r.name for r in rows].index)
    for row in rows:
        assert row.start == float(factors.amplitudes.detach()[row.entries[0].index])
        assert (row.lower, row.restraint) == (pytest.approx(0.01 * row.start), pytest.approx(0.1 * row.start))
        assert row.block is None
    loose = amplitude_parameters(factors, seen, "P 2 2 2", replace(ON, amplitude_sigma=None))
    assert all(row.restraint is None for row in loose)


@pytest.mark.parametrize("panels", [1, 2])
@pytest.mark.parametrize("mosaic", [MosaicConfig(), MosaicConfig(0.3, 5)])
def test_few_columns_make_the_jacobian_of_forward_mode(panels: int, mosaic: MosaicConfig) -> None:
    objective, scene = made(experiments_of(2, panels, mosaic=mosaic), ("detector.*", "crystal[*].rot_*", "*.scale"))
    parameters = scene.start()
    amplitudes = [i for i in parameters.free if parameters.parameters_[i].kind == AMPLITUDE]
    for block in objective.blocks:
        _, few = block.panel_columns(parameters)
        assert few.own is not None
        assert few.own.shape[1] < len(amplitudes) / 4
        spots, columns = block.jacobian(parameters)
        expected_spots, expected = block.forward_mode(parameters)
        assert spots.allclose(expected_spots, rtol=1e-12)
        off, size = (columns - expected).abs().amax((0, 1)), expected.abs().amax((0, 1))
        own = torch.tensor([index in amplitudes for index in parameters.of_block(block.index)])
        assert float((off / size)[~own].nan_to_num().max()) < 1e-9  # as tests/refine/pixels/test_jacobian.py
        # what shines less than 1e-8 of a whole spot counts as dark; worst seen 1.2e-14
        assert float(off[own].max() / size[own].max()) < 1e-11
        assert bool((size[own] > 1e-3 * size[own].max()).sum() > 10)


def test_the_derivative_by_amplitudes_is_that_of_finite_differences() -> None:
    objective, scene = made(experiments_of(), ("*.scale",))
    parameters, block = scene.start(), objective.blocks[0]
    place = [i for i in parameters.free if parameters.parameters_[i].kind == AMPLITUDE][:6]
    values = parameters.values.detach()[place].clone().requires_grad_(True)

    def spots(free: torch.Tensor) -> torch.Tensor:
        return block.render(parameters.changes(block.index, free, place)).sum(1)

    assert torch.autograd.gradcheck(spots, (values,), eps=1e-5, atol=1e-7, rtol=1e-6)


def test_sums_and_leverage_of_few_columns_are_those_of_all() -> None:
    objective, scene = made(experiments_of(2), ("detector.*", "crystal[*].rot_*", "*.scale"))
    parameters = scene.start()
    for score in objective.linearize(parameters).scores:
        matrix, gradient = score.total()
        assert matrix.allclose(score.matrices.sum(0), rtol=1e-12, atol=1e-12 * float(matrix.abs().max()))
        assert gradient.allclose(score.gradient.sum(0), rtol=1e-11, atol=1e-11 * float(gradient.abs().max()))
        span = parameters.column("span", parameters.of_block(0))
        covariance = torch.linalg.inv(matrix + torch.diag(span**-2))
        found = score._replace(few_gradient=score.without_leverage(covariance, 0.95)).gradient
        system = torch.eye(len(covariance)).double() - 0.95 * score.matrices @ covariance
        expected = torch.linalg.solve(system, score.gradient[..., None])[..., 0]
        assert found.allclose(expected, rtol=1e-7, atol=1e-9 * float(expected.abs().max()))


def test_an_amplitude_that_shines_in_no_box_is_held() -> None:
    expts = experiments_of()
    seen = torch.as_tensor(np.concatenate([tiny.plan(expts[0]).hkl, [[11, 11, 11]]]))
    rows = [*tiny.parameter_rows(expts), *amplitude_parameters(expts[0].structure_factors, seen, "P 2 2 2", ON)]
    parameters = ParameterSet(rows, tiny.start_tensors(expts))
    objective = tiny.simulate(expts, parameters, parameters.start).objective(free_scales=False)
    hold_dark_amplitudes(objective.blocks, parameters)
    names = {parameters.parameters_[i].name for i in parameters.free if parameters.parameters_[i].kind == AMPLITUDE}
    assert names
    assert "F[11,11,11]" not in names


def test_amplitudes_off_by_their_sigma_come_back_with_errors_as_they_say() -> None:
    expts = experiments_of(3)
    objective, scene = made(expts, ("*.scale",))
    rng = np.random.default_rng(8)
    parameters = scene.start()
    off = [i for i in parameters.free if parameters.parameters_[i].kind == AMPLITUDE]
    truth = parameters.start.clone()
    rows = list(parameters.parameters_)
    moved = torch.as_tensor(np.exp(0.1 * rng.standard_normal(len(off))))
    for place, factor in zip(off, moved.tolist(), strict=True):
        row = rows[place]
        # what is given is off, the models' tensors are the truth
        entries = tuple(replace(entry, offset=row.start * (factor - 1)) for entry in row.entries)
        given = row.start * factor
        rows[place] = replace(row, start=given, entries=entries, restraint=0.1 * given, lower=0.01 * given)
    fit = ParameterSet(rows, tiny.start_tensors(expts))
    fit.release(parameters.free)
    noisy = tiny.with_counts(objective, scene.counts(rng))
    solver = LevenbergMarquardt()
    for _ in range(12):
        solver.step(noisy, fit)
    known = uncertainty(noisy, fit, noisy.linearize(fit))
    place = [fit.free.index(i) for i in off]
    z = (fit.values.detach() - truth)[off] / known.model[place]
    assert known.undetermined == ()
    assert float(z.abs().max()) < 4
    assert 0.7 < float((z**2).mean()) < 1.35  # 1 ± 0.2 of 50 amplitudes; 0.84 seen


def test_a_restraint_in_proportion_pulls_as_its_loss_falls() -> None:
    _, scene = made(experiments_of(), ("*.scale",))
    parameters = scene.start()
    index = next(i for i in parameters.free if parameters.parameters_[i].kind == AMPLITUDE)
    start, losses = float(parameters.start[index]), []
    for factor in (1.3 - 1e-5, 1.3, 1.3 + 1e-5):
        with torch.no_grad():
            parameters.values[index] = factor * start
        losses.append(restraint_loss(parameters))
    assert losses[1] == pytest.approx((np.log(1.3) / 0.1) ** 2 + (0.3 / 0.5) ** 2, rel=1e-9)
    with torch.no_grad():
        parameters.values[index] = 1.3 * start
    objective = scene.objective(free_scales=False)
    arrow = objective.linearize(parameters).arrow
    empty = arrow._replace(
        shared=0 * arrow.shared,
        shared_gradient=0 * arrow.shared_gradient,
        local=tuple(0 * m for m in arrow.local),
        local_gradient=tuple(0 * g for g in arrow.local_gradient),
    )
    pull = float(joint_gradient(restrained(empty, parameters), parameters)[index])
    assert pull == pytest.approx(-(losses[2] - losses[0]) / (4e-5 * start), rel=1e-6)


def test_without_restraints_one_scale_is_held_and_that_is_said() -> None:
    expts = experiments_of(2)
    seen = torch.as_tensor(tiny.plan(expts[0]).hkl)
    loose = replace(ON, amplitude_sigma=None)
    scales = [replace(row, free=True) for row in tiny.parameter_rows(expts) if row.name.endswith("scale")]

    def rows(settings: ParameterSettings) -> list[Any]:
        return [*scales, *amplitude_parameters(expts[0].structure_factors, seen, "P 2 2 2", settings)]

    held = with_scale_held(rows(loose))
    assert [row.name for row in held if not row.free] == ["crystal[0].scale"]
    assert "crystal[0].scale held" in told_from_scales(held)[0].sentence
    assert with_scale_held(rows(ON)) == rows(ON)
    assert "the restraints of" in told_from_scales(rows(ON))[0].sentence
    fixed = switch(rows(loose), ["crystal[1].scale"], [])
    assert with_scale_held(fixed) == fixed


def test_amplitudes_and_scales_that_nothing_holds_are_named_undetermined() -> None:
    objective, scene = made(experiments_of(2), ("*.scale",), replace(ON, amplitude_sigma=None))
    parameters = scene.start()
    known = uncertainty(objective, parameters, objective.linearize(parameters))
    assert any("larger amplitudes as well as larger scales" in row.reason for row in known.undetermined)


@pytest.mark.parametrize(
    ("flags", "data", "message"),
    [
        ({"amplitudes": True, "scale": "spot"}, {}, "a spot's scale and its amplitude are one number"),
        ({"amplitudes": True}, {"amplitudes": "none"}, "there are no amplitudes to begin with"),
        ({"amplitudes": True, "amplitude_sigma": 0.0}, {}, "parameters.amplitude_sigma=0.0: it must be more than 0"),
    ],
)
def test_what_cannot_be_refined_is_refused(flags: dict[str, Any], data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FitSettings(
            data=DataSettings("a.expt", **({"amplitudes": "F.mtz"} | data)), parameters=ParameterSettings(**flags)
        )


CRYSTAL = CrystalConfig((23.0, 27.0, 31.0, 90, 90, 90), space_group="P 2 2 2")
ROWS = (
    AmplitudeRow(1, 2, 3, "both", 90.0, 100.0, 2.0, 1.0),
    AmplitudeRow(0, 2, 3, "both", 55.0, 50.0, None),
)


def test_the_file_holds_amplitudes_and_sigmas_and_reads_back(tmp_path: Path) -> None:
    write_mtz(tmp_path / "amplitudes.mtz", ROWS, CRYSTAL)
    mtz = gemmi.read_mtz_file(str(tmp_path / "amplitudes.mtz"))
    assert [(c.label, c.type) for c in mtz.columns] == [*zip("HKL", "HHH", strict=True), ("F", "F"), ("SIGF", "Q")]
    table = np.array(mtz)
    assert table[:, :4].tolist() == [[0, 2, 3, 50], [1, 2, 3, 100]]
    assert np.isnan(table[0, 4])
    assert table[1, 4] == 2
    read = read_amplitudes(tmp_path / "amplitudes.mtz")
    assert read.n_unique == 2
    assert read.space_group == "P 2 2 2"
    assert sorted(set(read.F.tolist())) == [50.0, 100.0]


def test_mates_of_their_own_stand_in_columns_of_their_own(tmp_path: Path) -> None:
    rows = (
        replace(ROWS[0], side="plus"),
        AmplitudeRow(-1, -2, -3, "minus", 90.0, 80.0, 3.0),
        ROWS[1],
        AmplitudeRow(-2, -2, -3, "minus", 9.0, 8.0, 1.0),
    )
    write_mtz(tmp_path / "amplitudes.mtz", rows, CRYSTAL)
    mtz = gemmi.read_mtz_file(str(tmp_path / "amplitudes.mtz"))
    assert [c.label for c in mtz.columns[3:]] == ["F(+)", "SIGF(+)", "F(-)", "SIGF(-)"]
    expected = [[0, 2, 3, 50, np.nan, 50, np.nan], [1, 2, 3, 100, 2, 80, 3], [2, 2, 3, np.nan, np.nan, 8, 1]]
    assert np.array(mtz).tolist() == pytest.approx(np.array(expected), nan_ok=True)


def test_hundreds_of_amplitudes_do_not_fill_the_tables_of_parameters() -> None:
    objective, scene = made(experiments_of(), ("*.scale",))
    parameters = scene.start()
    rows = parameter_rows(parameters, uncertainty(objective, parameters, objective.linearize(parameters)), True)
    others, amplitudes = split(rows, CRYSTAL, friedel=True)
    assert len(amplitudes) > 10
    assert not any(row.kind == AMPLITUDE.name for row in others)
    assert {row.side for row in amplitudes} == {"both"}
    found = summary(replace(outcome(), amplitudes=amplitudes), "amplitudes.mtz")
    assert found is not None
    assert (found["refined"], len(found["largest_changes"])) == (len(amplitudes), 10)
    name = next(row.name for row in parameters.parameters_ if row.kind == AMPLITUDE)
    whole = Correlation(("a", name, "b"), np.arange(9.0).reshape(3, 3), (("a", name, 1),))
    table = without_amplitudes(whole, parameters)
    assert (table.names, table.matrix.tolist(), table.degenerate) == (("a", "b"), [[0, 2], [6, 8]], ())


FIT = ("parameters=all", "parameters.cell=false", "parameters.mosaic_spread=false", "crystal.mosaic_spread=0",
       "parameters.fix=[*.rot_normal]", "crystal.n_cells=[12,11,9]", "render.oversample=3",
       "parameters.amplitudes=true", "trainer.progress=none", "trainer.logger=none")  # fmt: skip


def disturbed(folder: Path) -> dict[tuple[int, ...], float]:
    """Write F_off.hkl, where the amplitudes of F.hkl are off by 8 %, mates alike; the true ones."""
    table = np.loadtxt(folder / "F.hkl")
    unique, place = np.unique(np.abs(table[:, :3]), axis=0, return_inverse=True)
    off = np.exp(0.08 * np.random.default_rng(3).standard_normal(len(unique)))[place.ravel()]
    np.savetxt(folder / "F_off.hkl", np.column_stack([table[:, :3], off * table[:, 3]]), fmt="%d %d %d %.4f")
    return {tuple(int(abs(i)) for i in row[:3]): float(row[3]) for row in table}


def test_stills_tell_amplitudes_that_were_given_wrongly_and_a_broken_off_fit_too(tmp_path: Path) -> None:
    small.write_stills(tmp_path, 4)
    true = disturbed(tmp_path)
    given = [f"data.experiment={tmp_path / 'start.expt'}", f"data.amplitudes={tmp_path / 'F_off.hkl'}", *FIT]
    assert main([*given, f"hydra.run.dir={tmp_path / 'whole'}"]) == 0
    assert main([*given, f"hydra.run.dir={tmp_path / 'out'}", "solver.max_iterations=3"]) == 0
    assert main([*given, f"hydra.run.dir={tmp_path / 'out'}", "resume=true"]) == 0
    whole, found = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "out"))
    for key in ("parameters", "amplitudes", "history", "choices"):
        assert found[key] == whole[key]
    assert (tmp_path / "out" / "amplitudes.mtz").read_bytes() == (tmp_path / "whole" / "amplitudes.mtz").read_bytes()
    assert found["converged"]
    assert found["history"][-1]["stage"] == "frame"
    assert 0.9 < found["goodness"]["reduced_chi_square"] < 1.1
    assert not any(row["name"].startswith("F[") for row in found["parameters"])
    rows = np.array(gemmi.read_mtz_file(str(tmp_path / "out" / "amplitudes.mtz")))
    assert len(rows) == found["amplitudes"]["refined"] > 100
    truth = np.array([true[int(abs(h)), int(abs(k)), int(abs(l))] for h, k, l in rows[:, :3]])  # noqa: E741
    z = (rows[:, 3] - truth) / rows[:, 4]
    assert np.abs(z).max() < 4  # of 138; 2.5 seen
    assert 0.6 < (z**2).mean() < 1.5  # 0.84 seen: what all have in common counts in each
    assert np.std(rows[:, 3] / truth) < 0.05  # 0.031 seen; given: 0.08
    positions = {row["name"]: row for row in found["parameters"] if row["free"]}
    for name, value in small.truth(4).items():
        if name in positions:
            assert abs(positions[name]["value"] - value) < 4 * positions[name]["sigma"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "amplitudes were refined" in page
