"""Every rule fires on the evidence it is for, and on no good fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nbtorch.errors import ConfigError
from refine.records.verdict import Verdict
from refine.settings.thresholds import VerdictThresholds, described
from refine.verdict.evidence import AmplitudeMatch, FitEvidence, Half, ParameterState, Region, Rival, Shell
from refine.verdict.rules import RULES, verdict

ALL = Region("all", 100, 0.15, 0.05, 0.6)
MATCH = AmplitudeMatch(100, 0.7, (Shell(5.0, 2.0, 100, 0.7),), ("k,h,-l", 0.1), 60, 55)
GOOD = FitEvidence(
    converged=True,
    message="converged after 12 iterations",
    strong=110,
    explained=100,
    regions=(ALL, Region("panel 0", 50, 0.16, 0.05, 0.6), Region("panel 1", 4, 3.0, 0.05, 0.6)),
    rms_start=8.0,
    rms_end=0.2,
    rivals=(Rival("indices shifted by (0, 0, 1)", 60, 0.9, 40.0),),
    metric=0.001,
    cell_scale=0.002,
    amplitudes=MATCH,
    parameters=(ParameterState("detector.detector.shift_fast", 1.2), ParameterState("crystal[0].a", 0.1, pull=0.5)),
    spots_used=100,
    halves=(Half("detector.detector.shift_fast", 1.1), Half("crystal[0].a", -0.7)),
    sublattice=("h + k + l even", 0.01),
)
# code → (what fires it, the nearest that does not)
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "few-explained": ({"explained": 32}, {"explained": 34}),
    "some-explained": ({"explained": 65}, {"explained": 67}),
    "bright-unseen": ({"amplitudes": replace(MATCH, seen=29)}, {"amplitudes": replace(MATCH, seen=30)}),
    "far-off": ({"regions": (replace(ALL, rms=1.51),)}, {"regions": (replace(ALL, rms=1.49),)}),
    "off": ({"regions": (replace(ALL, rms=0.46),)}, {"regions": (replace(ALL, rms=0.45),)}),
    "region-off": (
        {"regions": (ALL, Region("panel 0", 9, 0.38, 0.05, 0.6))},
        {"regions": (ALL, Region("panel 0", 9, 0.37, 0.05, 0.6))},
    ),
    "not-better": ({"rms_start": 3.3, "rms_end": 3.0}, {"rms_start": 2.9, "rms_end": 2.9}),
    "nothing-refined": ({"moved": False}, {"moved": False, "parameters": ()}),
    "ambiguous": (
        {"rivals": (Rival("indices shifted by (0, 0, 1)", 99, 0.2, 1.9),)},
        {"rivals": (Rival("indices shifted by (0, 0, 1)", 99, 0.2, 2.0),)},
    ),
    "rival-taken": ({"rivals": (Rival("indices shifted by (0, 0, 1)", 99, 0.2, -9.0, chosen=True),)}, {}),
    "turned": (
        {"amplitudes": replace(MATCH, correlation=0.3, turned=("k,h,-l", 0.61))},
        {"amplitudes": replace(MATCH, correlation=0.3, turned=("k,h,-l", 0.6))},
    ),
    "turns": ({"turns": ("k,h,-l",), "amplitudes": None}, {"turns": ("k,h,-l",)}),
    "metric": ({"metric": 0.0061}, {"metric": 0.0059}),
    "cell-scale": ({"cell_scale": -0.011}, {"cell_scale": -0.009}),
    "amplitudes": (
        {"amplitudes": AmplitudeMatch(101, 0.24)},
        {"amplitudes": AmplitudeMatch(14, 0.0)},
    ),
    "at-bound": ({"parameters": (ParameterState("crystal[0].n_a", 0.1, at_bound=True),)}, {}),
    "restraint": (
        {"parameters": (ParameterState("crystal[0].a", 0.1, pull=-4.1),)},
        {"parameters": (ParameterState("crystal[0].a", 0.1, pull=3.9),)},
    ),
    "few-spots": ({"spots_used": 0}, {"spots_used": 1}),
    "not-converged": ({"converged": False}, {}),
    "halves": ({"halves": (Half("x", 3.1), Half("y", -3.0))}, {"halves": (Half("x", 4.0), Half("y", 1.0))}),
    "sublattice": ({"sublattice": ("h + k + l even", 1e-7)}, {"sublattice": ("h + k + l even", 1e-6)}),
    "moved-far": (
        {"parameters": (ParameterState("crystal[0].rot_x", 8.1),)},
        {"parameters": (ParameterState("crystal[0].rot_x", -7.9),)},
    ),
    "assumed": ({"assumed": ("crystal.mosaic_spread = 0.05°",)}, {}),
}


def codes(found: Verdict) -> set[str]:
    return {finding.code for finding in found.findings}


def test_every_rule_has_a_case() -> None:
    assert set(CASES) == {rule.code for rule in RULES}
    assert len(RULES) == len(CASES)


@pytest.mark.parametrize("code", sorted(CASES))
def test_a_rule_fires_on_its_case_and_sets_the_level(code: str) -> None:
    changes, _ = CASES[code]
    found = verdict(replace(GOOD, **changes))
    (finding,) = [one for one in found.findings if one.code == code]
    rule = next(rule for rule in RULES if rule.code == code)
    assert finding.level == rule.level
    assert finding.sentence
    assert finding.reason == rule.reason
    assert (finding.limit is not None) == bool(rule.threshold)
    assert found.level == ("good" if rule.level == "note" else rule.level)


@pytest.mark.parametrize("code", sorted(CASES))
def test_a_rule_is_silent_just_inside_its_limit(code: str) -> None:
    _, changes = CASES[code]
    assert code not in codes(verdict(replace(GOOD, **changes)))


def test_a_good_fit_has_no_findings() -> None:
    assert verdict(GOOD) == Verdict("good")
    assert verdict(GOOD).headline == "verdict: good"


def test_nothing_known_is_nothing_found() -> None:
    assert verdict(FitEvidence(converged=True)) == Verdict("good")


def test_the_gravest_finding_decides_and_comes_first() -> None:
    found = verdict(replace(GOOD, explained=10, converged=False, assumed=("a = 1",)))
    assert found.level == "failed"
    assert [finding.level for finding in found.findings] == ["failed", "doubtful", "note"]
    assert found.headline == "verdict: failed: 10 of 110 strong spots lie on the lattice"


def test_a_usual_mistake_is_told_of_a_failed_fit_alone() -> None:
    told = "with the beam centre's fast and slow exchanged the model explains 90 spots"
    assert "would-fit" in codes(verdict(replace(GOOD, explained=10, would_fit=told)))
    assert "would-fit" not in codes(verdict(replace(GOOD, would_fit=told)))


def test_a_threshold_that_is_changed_changes_the_verdict() -> None:
    assert verdict(GOOD, VerdictThresholds(explained_doubtful=0.95)).level == "doubtful"
    with pytest.raises(ConfigError, match=r"advanced\.verdict\.bright_seen=2"):
        VerdictThresholds(bright_seen=2.0)


def test_every_rule_names_a_threshold_that_exists_and_every_threshold_says_what_it_is() -> None:
    names = {row.name for row in described()}
    assert {rule.threshold for rule in RULES} - {""} <= names
    assert all(row.meaning and row.source for row in described())
