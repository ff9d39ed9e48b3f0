"""Every line of every golden trace, in the original's order."""

from __future__ import annotations

import math
import re

import pytest

from nbtorch.nanobragg.cli.nanobragg import main
from tests.helpers.golden import cases, traces

VECTOR = 1e-10  # of the vector's norm; worst seen 5e-14: the scattering vector of triclinic_misset
INTENSITY = 1e-8  # relative; worst seen 7e-11: tilted_detector, on the flank of a zero of F_latt
LOOSE = ("F_latt", "F_latt_a", "F_latt_b", "F_latt_c", "I_before_scaling", "I_pixel_final")
FLOAT32 = 1.2e-7  # one rounding of a float32


def trace(
    name: str, slow: int, fast: int, capsys: pytest.CaptureFixture[str], *more: str
) -> list[tuple[str, list[float]]]:
    """The lines that the command prints for one pixel."""
    assert main(cases()[name].argv("-trace_pixel", str(slow), str(fast), *more)) == 0
    lines = [line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.startswith("TRACE_PY: ")]
    return [(words[0], [float(word) for word in words[1:]]) for words in lines]


def bound(name: str, golden: list[float]) -> float:
    """How far a line may lie from the original's."""
    norm = math.hypot(*golden)
    if name == "hkl_frac":
        return VECTOR * max(1.0, norm)
    if name == "floatimage_accumulated":
        return FLOAT32 * norm
    return (INTENSITY if name in LOOSE else VECTOR) * norm


@pytest.mark.parametrize("index", range(len(traces())), ids=lambda i: f"{traces()[i]['case']}-{i}")
def test_every_trace_line_agrees(index: int, capsys: pytest.CaptureFixture[str]) -> None:
    golden = traces()[index]
    ours = trace(golden["case"], golden["slow"], golden["fast"], capsys)
    assert [name for name, _ in ours] == [name for name, _ in golden["trace"]]
    for (name, values), (_, expected) in zip(ours, golden["trace"], strict=True):
        assert len(values) == len(expected), name
        difference = math.hypot(*(a - b for a, b in zip(values, expected, strict=True)))
        assert difference <= bound(name, expected), (name, values, expected)


def test_without_the_compat_flag_the_trace_from_phi_zero_differs(capsys: pytest.CaptureFixture[str]) -> None:
    golden = next(t for t in traces() if t["case"] == "phi_from_zero")
    argv = cases()["phi_from_zero"].argv("-trace_pixel", str(golden["slow"]), str(golden["fast"]))
    argv = [word for word in argv if word not in ("-compat", "nanobragg")]
    assert main(argv) == 0
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if line.startswith("TRACE_PY: rot_a_angstroms"))
    expected = next(values for name, values in golden["trace"] if name == "rot_a_angstroms")
    assert math.hypot(*(float(a) - b for a, b in zip(line.split()[2:], expected, strict=True))) > 0.1


def test_the_traced_pixel_is_the_pixel_of_the_image(capsys: pytest.CaptureFixture[str]) -> None:
    lines = dict(trace("oversample3", 45, 60, capsys, "-printout_pixel", "60", "45"))
    assert main(cases()["oversample3"].argv("-printout_pixel", "60", "45")) == 0
    printed = re.search(r"^pixel 60 45 (\S+)$", capsys.readouterr().out, re.MULTILINE)
    assert printed is not None
    assert float(printed.group(1)) == pytest.approx(lines["floatimage_accumulated"][0], rel=1e-8)


def test_trace_all_lists_every_source_step_and_domain_and_their_sum(capsys: pytest.CaptureFixture[str]) -> None:
    case = "everything"  # 3 layers, 4 sources, 2 steps, 3 domains
    lines = trace(case, 40, 60, capsys, "-trace_all")
    terms = {name: values[0] for name, values in lines if name.startswith("I_term[")}
    assert len(terms) == 3 * 4 * 2 * 3
    assert f"I_term[{2},{3},{1},{2}]" in terms
    plain = dict(lines)
    background = 2.57**2 * plain["r_e_sqr"][0] * plain["fluence_photons_per_m2"][0]
    background *= 2e-6**3 * 1e6 * 6.02214179e23 / 18  # 2 µm of water
    assert sum(terms.values()) + background == pytest.approx(plain["I_before_scaling"][0], rel=1e-12)


def test_a_pixel_outside_the_detector_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(cases()["simple_cubic"].argv("-trace_pixel", "128", "0")) == 2
    assert "outside the detector" in capsys.readouterr().err
