"""Rival indexings of a simulated still: a wrong start is set right, a right one is kept, and both are weighed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from refine.fit.indexing_choice import settled
from refine.fit.mistakes import would_fit
from refine.fit.outliers import fitted_blocks
from refine.fit.position_fit import PositionFit
from refine.fit.prepare import prepare
from refine.fit.problem import Problem
from refine.parameters.moved_experiment import moved_experiment
from refine.positions.objective import PositionObjective
from refine.records.journal import Journal
from refine.settings.fit_settings import CrystalSettings, DataSettings, FitSettings, ParameterSettings
from refine.settings.thresholds import AdvancedSettings
from refine.verdict.amplitude_match import agreement, pooled, rank_correlation, shells
from refine.verdict.explained import on_lattice
from refine.verdict.halves import compare_halves
from tests.refine import small


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    folder = tmp_path_factory.mktemp("still")
    path = small.write_stills(folder, 1)
    settings = FitSettings(
        advanced=AdvancedSettings(judge=True, rivals=True),
        data=DataSettings(experiment=str(path), amplitudes=str(folder / "F.hkl")),
        crystal=CrystalSettings(n_cells=small.N_CELLS, mosaic_spread=0.0),
        parameters=ParameterSettings(cell=False, detector_shift=True, fix=("*.rot_z",)),
    )
    return prepare(settings, Journal())


def test_the_right_indices_are_kept_and_every_axis_was_asked(problem: Problem) -> None:
    assert not any(rival.chosen for rival in problem.rivals)
    assert len(problem.rivals) >= 4
    assert min(rival.worse for rival in problem.rivals) > problem.settings.advanced.verdict.rival_margin


def test_indices_shifted_by_one_are_set_right(problem: Problem) -> None:
    (item,) = problem.evidence
    shifted = replace(item, observed=replace(item.observed, hkl=item.observed.hkl + torch.tensor([0, 0, 1])))
    begun = PositionFit([shifted], problem.parameters, (), ran=True)
    after, rivals = settled(begun, problem.settings)
    truth = dict(zip(item.observed.found.tolist(), item.observed.hkl.tolist(), strict=True))
    found = after.evidence[0].observed
    same = [
        truth[place] == hkl
        for place, hkl in zip(found.found.tolist(), found.hkl.tolist(), strict=True)
        if place in truth
    ]
    assert any(rival.chosen for rival in rivals)
    assert len(same) > 0.8 * len(truth)
    assert all(same)


def test_spots_lie_on_the_lattice_of_the_fit_and_not_on_that_of_another(problem: Problem) -> None:
    (item,) = problem.evidence
    experiment = moved_experiment(item.expt, problem.parameters)
    share = float(on_lattice(experiment, item.spots, None).mean())
    with torch.no_grad():
        experiment.crystal.rotation += torch.tensor([7.0, 11.0, 5.0])
    other = float(on_lattice(experiment, item.spots, None).mean())
    assert share > 0.9
    assert other < 0.3


def test_counts_follow_the_amplitudes_of_the_right_indices_alone(problem: Problem) -> None:
    (item,) = problem.evidence
    seen = item.observed
    wrong = replace(seen, hkl=seen.hkl + torch.tensor([1, 0, 0]))
    assert agreement(item.expt.model, seen) > agreement(item.expt.model, wrong) + 1


def test_halves_of_the_spots_agree_within_their_sigmas(problem: Problem) -> None:
    (item,) = problem.evidence
    seen = item.observed.fitted()
    parts = [replace(item, observed=seen[torch.arange(first, len(seen), 2)]) for first in (0, 1)]
    halves = [PositionObjective(fitted_blocks([part], problem.settings)) for part in parts]
    whole, free = problem.positions(fitted=True), list(problem.moved_by_positions)
    found = compare_halves(halves, whole, problem.parameters, free)
    assert {half.name for half in found} <= {problem.parameters.parameters_[i].name for i in free}
    assert found
    assert max(abs(half.in_sigmas) for half in found) < 4
    moved = seen.fast[torch.arange(1, len(seen), 2)] + 2.0
    off = replace(parts[1], observed=replace(parts[1].observed, fast=moved))
    halves = [PositionObjective(fitted_blocks([part], problem.settings)) for part in (parts[0], off)]
    apart = compare_halves(halves, whole, problem.parameters, free)
    assert max(abs(half.in_sigmas) for half in apart) > 4


def test_no_usual_mistake_explains_more_than_the_truth(problem: Problem) -> None:
    """The header is right, so that only undoing nothing much (a wavelength beside the right one) can fit."""
    assert "upside down" not in would_fit(problem)


def test_rank_correlations_by_hand() -> None:
    import numpy as np

    rising = np.arange(60.0)
    assert rank_correlation(rising, rising**3) == pytest.approx(1)
    assert rank_correlation(rising, np.ones(60)) == 0
    assert pooled([rising, rising], [rising, 100 * rising]) == pytest.approx(1)
    assert [shell.spots for shell in shells(rising, rising, 1 + rising)] == [30, 30]
    assert shells(rising, rising, 1 + rising)[0].low == pytest.approx(1)
