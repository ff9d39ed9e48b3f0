"""The scaling chain, a beamline's own geometry with ten spindle steps and 36 × 47 × 29 cells: no factor diverges.

Its twin starts at phi 0, where the original keeps the last step's vectors: it needs -compat nanobragg on both sides.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from nbtorch.nanobragg.cli.trace import main
from nbtorch.nanobragg.compare.traces import Line, parse_trace
from tests.helpers.golden import Case, cases, traces

PIXELS = ((68, 103), (150, 60))
COMPAT = "-compat nanobragg"


def plain(name: str) -> Case:
    """A golden command without the flag that its test would add."""
    case = cases()[name]
    return Case("plain", case.args, case.header, case.printed)


def run(c_program: Path, out: Path, case: Case, pixel: tuple[int, int], *options: str) -> tuple[int, dict[str, Any]]:
    """nb-trace's exit code and its comparison.json."""
    words = ["--case", shlex.join(case.argv()), "--pixel", *map(str, pixel), "--out", str(out)]
    code = main([*words, "--c-bin", str(c_program), *options])
    return code, json.loads((out / "comparison.json").read_text())


@pytest.mark.parametrize("pixel", PIXELS)
@pytest.mark.parametrize("name", ["scaling_chain_pilatus", "scaling_chain_phi0"])
def test_the_chain_does_not_diverge(
    c_program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, pixel: tuple[int, int]
) -> None:
    code, found = run(c_program, tmp_path / "out", cases()[name], pixel)
    assert code == 0
    assert found["first_divergence"] == "none"
    assert "first_divergence: none" in capsys.readouterr().out
    assert found["agree"] == found["compared"] == len(golden_trace(name, pixel))
    (total,) = (factor for factor in found["factors"] if factor["name"] == "I_before_scaling")
    assert total["status"] == "agrees"
    assert total["py"][0] > 0
    # ten products of N = 47 interferences; the rest of a trace is closer: worst seen 6e-12
    assert total["relative"] < 1e-10
    assert [step["agrees"] for step in found["per_phi"]] == [True] * 10


def golden_trace(name: str, pixel: tuple[int, int]) -> list[list[Any]]:
    (found,) = (each["trace"] for each in traces() if (each["case"], each["slow"], each["fast"]) == (name, *pixel))
    return list(found)


@pytest.mark.parametrize("program", ["py", "c"])
def test_either_log_is_the_original_trace(c_program: Path, tmp_path: Path, program: str) -> None:
    name = "scaling_chain_phi0"
    run(c_program, tmp_path / "out", cases()[name], PIXELS[0])
    lines = parse_trace((tmp_path / "out" / f"trace_{program}.log").read_text().splitlines())
    ours = {line.name: line.values for line in lines if line.index is None}
    for factor, expected in golden_trace(name, PIXELS[0]):
        assert ours[factor] == pytest.approx(expected, rel=1e-8, abs=1e-9), factor


@pytest.mark.parametrize("pixel", PIXELS)
def test_without_the_flag_the_twin_diverges_at_the_direct_vectors_and_the_reason_is_said(
    c_program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], pixel: tuple[int, int]
) -> None:
    twin = plain("scaling_chain_phi0")
    code, found = run(c_program, tmp_path / "out", twin, pixel, "--c-flags", COMPAT)
    assert code == 3
    assert found["first_divergence"] == "rot_a_angstroms"
    assert "phi is exactly 0 at step 0" in found["why"]
    assert "phi = 0.09 degrees" in found["why"]
    assert "C ran with -compat nanobragg" in found["why"]
    assert found["why"] in capsys.readouterr().out
    assert [step["agrees"] for step in found["per_phi"]] == [False] + [True] * 9
    text = (tmp_path / "out" / "per_phi.log").read_text()
    assert text.count("differs") == 1


def test_the_same_fault_may_be_on_the_other_side(c_program: Path, tmp_path: Path) -> None:
    code, found = run(c_program, tmp_path / "out", plain("scaling_chain_phi0"), PIXELS[0], f"--py-flags={COMPAT}")
    assert code == 3
    assert "Python ran with -compat nanobragg" in found["why"]


def test_neither_program_keeps_stale_vectors_unless_told_to(c_program: Path, tmp_path: Path) -> None:
    code, found = run(c_program, tmp_path / "out", plain("scaling_chain_phi0"), PIXELS[0])
    assert (code, found["first_divergence"]) == (0, "none")


def test_both_programs_list_every_term_alike(c_program: Path, tmp_path: Path) -> None:
    run(c_program, tmp_path / "out", cases()["everything"], (40, 60))
    logs = [
        parse_trace((tmp_path / "out" / f"trace_{program}.log").read_text().splitlines()) for program in ("py", "c")
    ]
    indexed: list[list[Line]] = [[line for line in log if line.index is not None] for log in logs]
    names = [[(line.name, line.index) for line in log] for log in indexed]
    assert names[0] == names[1]
    assert len(names[0]) == 3 * 4 * 2 * 3 * 18  # layers, sources, steps, domains, lines
    for ours, theirs in zip(*indexed, strict=True):
        assert ours.values == pytest.approx(theirs.values, rel=1e-8, abs=1e-9), ours.name
