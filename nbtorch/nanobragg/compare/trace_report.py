"""A compared trace for people (text), spreadsheets (CSV) and programs (JSON)."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nbtorch.nanobragg.compare.spindle import StepPair
from nbtorch.nanobragg.compare.traces import Factor, first_divergence

COLUMNS = ("name", "sample", "py", "c", "absolute", "relative", "tolerance", "status")


@dataclass(frozen=True)
class TraceReport:
    """A comparison of one pixel. ``commands``: what each program was given; ``why`` is empty without divergence."""

    slow: int
    fast: int
    commands: dict[str, list[str]]
    factors: Sequence[Factor]
    steps: Sequence[StepPair]
    why: str

    @property
    def first(self) -> Factor | None:
        """The first factor that does not agree."""
        return first_divergence(self.factors)


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: a number that is not finite becomes its name."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


def as_json(report: TraceReport) -> dict[str, Any]:
    """What comparison.json holds."""
    first = report.first
    worst = max((each.absolute / each.tolerance for each in report.factors if each.tolerance), default=0.0)
    content = {
        "pixel": {"slow": report.slow, "fast": report.fast},
        "commands": report.commands,
        "first_divergence": "none" if first is None else first.name,
        "first_divergence_sample": None if first is None else first.sample,
        "why": report.why,
        "agree": sum(each.status == "agrees" for each in report.factors),
        "compared": len(report.factors),
        "worst_of_tolerance": worst,
        "factors": [asdict(each) for each in report.factors],
        "per_phi": [
            {
                "step": pair.index,
                "phi": pair.phi,
                "py": None if pair.py is None else pair.py.intensity,
                "c": None if pair.c is None else pair.c.intensity,
                "agrees": pair.agrees,
            }
            for pair in report.steps
        ],
    }
    return dict(plain(content))


def verdict(report: TraceReport) -> list[str]:
    """One line, or, where the programs part, which factor and why."""
    first = report.first
    if first is None:
        return ["first_divergence: none"]
    where = "" if first.sample is None else f" (sample {first.sample})"
    return [f"first_divergence: {first.name}{where}", f"why: {report.why}"]


def as_text(report: TraceReport) -> list[str]:
    """What comparison.txt holds."""
    lines = [f"pixel: slow {report.slow}, fast {report.fast}", *verdict(report), ""]
    sample: int | None = -1
    for each in report.factors:
        if each.sample != sample:
            sample = each.sample
            lines.append("the pixel" if sample is None else f"sample {sample}")
        mark = " " if each.status == "agrees" else "*"
        lines.append(
            f"{mark} {each.name:<24} {each.status:<12} absolute {each.absolute:.3e}  relative {each.relative:.3e}  "
            f"tolerance {each.tolerance:.1e}"
        )
        lines += [f"      {program:<6} {_digits(values)}" for program, values in (("Python", each.py), ("C", each.c))]
    return lines


def as_csv(report: TraceReport) -> str:
    """What comparison.csv holds: one row a factor, vectors as numbers with blanks between."""
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for each in report.factors:
        sample = "" if each.sample is None else each.sample
        numbers = (each.absolute, each.relative, each.tolerance)
        rows.writerow((each.name, sample, _digits(each.py), _digits(each.c), *map(repr, numbers), each.status))
    return text.getvalue()


def _digits(values: Sequence[float]) -> str:
    return " ".join(f"{value:.15g}" for value in values) or "-"
