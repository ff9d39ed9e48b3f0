"""Comparing two traces: what counts as agreement, where they first part, and why."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace

import pytest

from nbtorch.nanobragg.compare.reasons import RULES, Facts, Side, why
from nbtorch.nanobragg.compare.spindle import compare_steps, step_lines
from nbtorch.nanobragg.compare.trace_report import COLUMNS, TraceReport, as_csv, as_json, as_text
from nbtorch.nanobragg.compare.traces import Line, compare_traces, first_divergence, parse_trace
from tests.helpers.golden import traces


def lines(*rows: tuple[str, float]) -> list[Line]:
    return [Line(name, None, (value,)) for name, value in rows]


def test_both_prefixes_vectors_and_indices_are_read_and_other_lines_are_not() -> None:
    text = ["unit cell: 1 2 3", "TRACE_PY: a 1 2 3", "TRACE_C: I_term[0,1,2,3] 1e-3", "TRACE_C: b inf"]
    assert parse_trace(text) == [
        Line("a", None, (1, 2, 3)),
        Line("I_term", (0, 1, 2, 3), (1e-3,)),
        Line("b", None, (math.inf,)),
    ]
    with pytest.raises(ValueError, match="not a trace line"):
        parse_trace(["TRACE_C: "])
    with pytest.raises(ValueError, match="could not convert"):
        parse_trace(["TRACE_C: name value"])


def test_every_golden_trace_agrees_with_itself_and_not_with_a_changed_digit() -> None:
    for trace in traces():
        golden = [Line(name, None, tuple(map(float, values))) for name, values in trace["trace"]]
        assert first_divergence(compare_traces(golden, golden)) is None
        for position in (0, len(golden) // 2, len(golden) - 1):
            line = golden[position]
            if not any(line.values):
                continue
            changed = list(golden)
            changed[position] = Line(line.name, None, tuple(value * (1 + 3e-7) for value in line.values))
            found = first_divergence(compare_traces(changed, golden))
            assert found is not None
            assert found.name == line.name


@pytest.mark.parametrize(
    ("name", "value", "inside", "outside"),
    [
        ("R_distance_meters", 0.1, 0.9e-11, 1.1e-11),
        ("hkl_frac", 0.01, 0.9e-10, 1.1e-10),  # of an index, not of a small one
        ("F_latt", 100.0, 0.9e-6, 1.1e-6),
        ("F_latt", 1e-6, 0.9e-10, 1.1e-10),  # between two zeros
        ("I_before_scaling", 5.0, 4.5e-8, 5.5e-8),
        ("scattering_vec_A_inv", 0.0, 0.09, 0.11),  # the direct beam
        ("floatimage_accumulated", 1.0, 1.2e-7, 1.4e-7),
    ],
)
def test_each_kind_of_factor_has_its_own_tolerance(name: str, value: float, inside: float, outside: float) -> None:
    for difference, status in ((inside, "agrees"), (outside, "differs")):
        (found,) = compare_traces(lines((name, value + difference)), lines((name, value)))
        assert found.status == status


def test_float32_is_held_to_its_own_bounds() -> None:
    ours, theirs = lines(("R_distance_meters", 0.1 + 5e-8)), lines(("R_distance_meters", 0.1))
    assert first_divergence(compare_traces(ours, theirs)) is not None
    assert first_divergence(compare_traces(ours, theirs, "float32")) is None


def test_samples_are_counted_and_the_first_divergence_is_the_first_printed() -> None:
    rows = [("pix0_vector_meters", 1.0), ("F_cell", 5.0), ("pix0_vector_meters", 1.0), ("F_cell", 6.0)]
    ours = lines(*rows, ("I_before_scaling", 2.0))
    theirs = lines(*rows[:3], ("F_cell", 7.0), ("I_before_scaling", 3.0))
    factors = compare_traces(ours, theirs)
    assert [factor.sample for factor in factors] == [0, 0, 1, 1, None]
    found = first_divergence(factors)
    assert found is not None
    assert (found.name, found.sample) == ("F_cell", 1)
    assert found.absolute == 1.0
    assert found.relative == pytest.approx(1 / 7)


def test_what_only_one_program_printed_is_a_divergence_and_two_nan_are_not() -> None:
    ours = lines(("pix0_vector_meters", 1.0), ("F_cell", 5.0), ("I_before_scaling", math.nan))
    theirs = lines(("pix0_vector_meters", 1.0), ("F_latt", 5.0), ("I_before_scaling", math.nan))
    status = {factor.name: factor.status for factor in compare_traces(ours, theirs)}
    assert status == {
        "pix0_vector_meters": "agrees",
        "F_cell": "only Python",
        "F_latt": "only C",
        "I_before_scaling": "agrees",
    }
    (found,) = compare_traces(lines(("polar", math.nan)), lines(("polar", 1.0)))
    assert found.status == "differs"
    (found,) = compare_traces([Line("fdet_vec", None, (1.0, 0.0))], [Line("fdet_vec", None, (1.0, 0.0, 0.0))])
    assert found.status == "differs"


PLAIN = Facts(Side("Python"), Side("C"))
SPLIT = {
    "stale vectors": (replace(PLAIN, c=Side("C", original=True), phis=(-1.0, 0.0)), "hkl_frac", "at step 1"),
    "origin": (replace(PLAIN, c=Side("C", original=True), origin_given=True), "pix0_vector_meters", "-pix0_vector"),
    "pivot": (replace(PLAIN, py=Side("Python", original=True), pivot_given=True), "pix0_vector_meters", "-pivot wins"),
    "substring": (replace(PLAIN, foreign=True, twotheta_axis=True), "fdet_vec", "matches parts of flags"),
    "cell": (replace(PLAIN, py=Side("Python", exact_cell=True), triclinic=True), "rot_a_angstroms", "-exact_cell"),
    "midpoint": (replace(PLAIN, c=Side("C", phi_midpoint=True)), "rot_a_angstroms", "half a step"),
    "corrections": (replace(PLAIN, c=Side("C", exact_corrections=True)), "I_before_scaling", "weights each term"),
    "interpolation": (replace(PLAIN, foreign=True, tricubic=True), "F_cell", "switches itself off"),
    "float32": (replace(PLAIN, dtype="float32"), "F_latt", "float32"),
}


@pytest.mark.parametrize("case", SPLIT.values(), ids=SPLIT)
def test_each_known_difference_is_named_where_it_applies_and_nowhere_else(case: tuple[Facts, str, str]) -> None:
    facts, name, said = case
    assert said in why(name, facts)
    assert said not in why(name, PLAIN)
    if facts.dtype != "float32":
        assert said not in why("fluence_photons_per_m2", facts)


def test_every_rule_is_tried_above() -> None:
    used = {rule for facts, name, _ in SPLIT.values() for rule in RULES if rule.applies(facts)}
    assert used == set(RULES)


def test_without_a_known_reason_the_factor_is_explained_and_one_sided_flags_are_listed() -> None:
    said = why("capture_fraction", replace(PLAIN, only_c=("-detector_abs", "300")))
    assert said == (
        "capture_fraction is made of -detector_abs, -detector_thick and -detector_thicksteps. "
        "Given to C alone: -detector_abs 300."
    )
    assert "follows from the lines above it" in why("obliquity_factor", PLAIN)


def test_a_single_step_at_phi_zero_has_no_stale_vectors() -> None:
    assert replace(PLAIN, phis=(0.0,)).zero_step is None
    assert replace(PLAIN, phis=(0.0, 1.0)).zero_step == 0


def terms(*intensities: tuple[int, float]) -> list[Line]:
    return [Line("I_term", (0, 0, step, 0), (value,)) for step, value in intensities]


def test_spindle_steps_are_summed_and_compared_one_by_one() -> None:
    ours = [*terms((0, 1.0), (0, 2.0), (1, 5.0)), Line("F_latt", (0, 0, 1, 0), (4.0,))]
    pairs = compare_steps(ours, terms((0, 3.0), (1, 5.1)), (0.0, 0.5))
    assert [pair.agrees for pair in pairs] == [True, False]
    assert pairs[0].py is not None
    assert pairs[0].py.intensity == 3.0
    text = "\n".join(step_lines(pairs, "a note"))
    assert text.count("agrees") == text.count("differs") == 1
    assert "F_latt 4" in text
    assert text.endswith("a note")


def test_a_step_that_one_program_does_not_list_is_not_called_equal() -> None:
    (pair,) = compare_steps(terms((0, 1.0)), [], (0.0,))
    assert not pair.agrees
    assert "not compared" in "\n".join(step_lines([pair]))


def report(*factors: tuple[str, float, float]) -> TraceReport:
    ours, theirs = (lines(*((row[0], row[column]) for row in factors)) for column in (1, 2))
    return TraceReport(3, 4, {"py": ["a"], "c": ["b"]}, compare_traces(ours, theirs), [], "because")


def test_the_three_reports_say_the_same() -> None:
    found = report(("polar", 1.0, 1.0), ("steps", 4.0, 2.0))
    content = as_json(found)
    assert content["first_divergence"] == "steps"
    assert content["why"] == "because"
    assert content["factors"][1]["absolute"] == 2.0
    assert "* steps" in "\n".join(as_text(found))
    rows = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert list(rows[0]) == list(COLUMNS)
    assert [row["status"] for row in rows] == ["agrees", "differs"]
    assert float(rows[1]["relative"]) == 1.0


def test_numbers_that_are_not_finite_are_still_json() -> None:
    content = as_json(report(("polar", math.nan, math.inf)))
    assert json.loads(json.dumps(content, allow_nan=False))["factors"][0]["py"] == ["nan"]
