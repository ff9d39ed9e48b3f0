"""The spindle's steps side by side: what each adds to a pixel, from the -trace_all lines of both programs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nbtorch.nanobragg.compare.traces import BOUNDS, Line, tolerance

STEP = 2  # of the indices sample, source, step, domain
#: Shown of each step, for the first sample, source and domain that has it.
SHOWN = ("rot_a_angstroms", "hkl_frac", "F_latt", "F_cell")


@dataclass(frozen=True)
class Step:
    """One spindle step of one program: ``intensity``: Σ|F_cell|²|F_latt|² over samples, sources and domains."""

    intensity: float
    shown: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class StepPair:
    """One step in both programs; None: that program did not list it. ``phi`` in degrees."""

    index: int
    phi: float
    py: Step | None
    c: Step | None
    agrees: bool


def steps_of(lines: Iterable[Line]) -> dict[int, Step]:
    """Every step that -trace_all listed."""
    terms: dict[int, list[float]] = {}
    shown: dict[int, dict[str, tuple[float, ...]]] = {}
    for line in lines:
        if line.index is None:
            continue
        step = line.index[STEP]
        if line.name == "I_term":
            terms.setdefault(step, []).append(line.values[0])
        elif line.name in SHOWN:
            shown.setdefault(step, {}).setdefault(line.name, line.values)
    return {step: Step(math.fsum(values), shown.get(step, {})) for step, values in terms.items()}


def compare_steps(
    py: Iterable[Line], c: Iterable[Line], phis: Sequence[float], dtype: str = "float64"
) -> list[StepPair]:
    """Every step at its angle ``phis`` (degrees), as the Python resolves them."""
    ours, theirs = steps_of(py), steps_of(c)
    bounds, pairs = BOUNDS[dtype], []
    for index, phi in enumerate(phis):
        a, b = ours.get(index), theirs.get(index)
        same = a == b
        if a is not None and b is not None:
            allowed = tolerance("I_term", max(a.intensity, b.intensity), bounds)
            same = abs(a.intensity - b.intensity) <= allowed
        pairs.append(StepPair(index, phi, a, b, same))
    return pairs


def step_lines(pairs: Sequence[StepPair], note: str = "") -> list[str]:
    """The table of per_phi.log; ``note`` says what is missing and why."""
    lines = ["step  phi (deg)        I (Python)               I (C)                    relative    status"]
    for pair in pairs:
        ours, theirs = _intensity(pair.py), _intensity(pair.c)
        relative = f"{abs(ours - theirs) / abs(theirs):.3e}" if theirs and math.isfinite(ours + theirs) else "-"
        status = "agrees" if pair.agrees else "differs"
        status = "not compared" if pair.py is None or pair.c is None else status
        lines.append(f"{pair.index:4d}  {pair.phi:<15.9g}  {ours:<23.15g}  {theirs:<23.15g}  {relative:<10}  {status}")
        for name in SHOWN:
            lines += [
                f"        {program:<6} {name} {' '.join(f'{value:.15g}' for value in step.shown[name])}"
                for program, step in (("Python", pair.py), ("C", pair.c))
                if step is not None and name in step.shown
            ]
    return lines + ([note] if note else [])


def _intensity(step: Step | None) -> float:
    return math.nan if step is None else step.intensity
