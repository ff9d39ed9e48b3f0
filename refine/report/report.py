"""report.html: one self-contained page that shows what the fit did and how far to trust it."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from nbtorch.io.atomic import write_text
from refine.records.outcome import Outcome, ParameterRow
from refine.records.run_folder import AMPLITUDES, REPORT, RunFolder
from refine.report import numbers
from refine.report.amplitude_results import largest, sentence
from refine.report.embedded import embedded
from refine.report.page_data import page_data
from refine.report.restraint_words import described
from refine.report.result import Finding, change_in_sigmas
from refine.settings.paths import template_dir

TEMPLATE = "report.html.j2"
NO_REASON = "no reason was given"
# The page's scripts, in the order in which they are read: each uses what those before it made.
SCRIPTS = ("core", "chart", "charts", "viewer", "layers", "spot", "table", "solid", "report")


def write_report(finding: Finding, folder: RunFolder) -> None:
    """Write the report of ``finding`` into ``folder``."""
    write_text(folder / REPORT, render(finding), overwrite=True)


def render(finding: Finding) -> str:
    """The page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(template_dir()),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "pair": numbers.pair,
        "seconds": numbers.seconds,
        "size": numbers.size,
        "minus": numbers.minus,
    }
    return environment.get_template(TEMPLATE).render(context(finding))


def context(finding: Finding) -> dict[str, Any]:
    """Everything that the template shows."""
    outcome = finding.outcome
    rejected = [spot for spot in outcome.spots if not spot.used and not spot.heldout]
    return {
        "finding": finding,
        "outcome": outcome,
        "record": finding.record,
        "verdict": verdict(finding),
        "remarks": [text for text in finding.warnings if text not in _found(outcome)],
        "tiles": tiles(outcome),
        "parameters": [parameter(row) for row in outcome.parameters if row.free or row.tied_to],
        "resampled": any(row.sigma_bootstrap is not None for row in outcome.parameters),
        "amplitudes": amplitudes(outcome),
        "model": model(outcome),
        "held": [parameter(row) for row in outcome.parameters if not row.free and not row.tied_to],
        "truth": [
            {
                "name": row.name,
                "unit": row.unit,
                "start": numbers.fixed(row.start, row.sigma),
                "found": numbers.with_sigma(row.value, row.sigma),
                "truth": numbers.fixed(row.truth, row.sigma),
                "in_sigmas": numbers.signed(row.in_sigmas),
            }
            for row in finding.truth
        ],
        "reasons": Counter(kind_of(spot.reason) for spot in rejected).most_common(),
        "rejected": len(rejected),
        "packed": embedded(page_data(outcome)),
        "scripts": [f"page/{name}.js" for name in SCRIPTS],
    }


def verdict(finding: Finding) -> dict[str, str]:
    """The state of the fit in a word, a colour class and a sentence."""
    outcome = finding.outcome
    if finding.stopped_by:
        word, kind = f"Stopped by {finding.stopped_by}", "bad"
    elif outcome.verdict.level == "failed":
        word, kind = "Failed", "bad"
    elif not outcome.converged:
        word, kind = "Did not converge", "bad"
    elif outcome.verdict.level == "doubtful":
        word, kind = "Doubtful", "fair"
    else:
        word, kind = ("Converged, with remarks", "fair") if finding.warnings else ("Converged", "good")
    serious = [row for row in outcome.verdict.findings if row.level == outcome.verdict.level]
    sentence = "; ".join(row.sentence for row in serious) if serious else outcome.message
    return {"word": word, "kind": kind, "sentence": sentence}


def _found(outcome: Outcome) -> set[str]:
    """What the verdict's own list says."""
    return {row.sentence for row in outcome.verdict.findings}


def tiles(outcome: Outcome) -> list[tuple[str, str, str]]:
    """(number, what it is, small print) of the row of figures at the top."""
    start, end = numbers.combined(outcome.rms_start_px), numbers.combined(outcome.rms_end_px)
    shown = [
        (
            "—" if end is None else f"{end:.3f}{numbers.THIN}px",
            "spot rms",
            "" if start is None else f"from {start:.2f}{numbers.THIN}px at the start",
        )
    ]
    heldout = numbers.combined(outcome.rms_heldout_px)
    if heldout is not None:
        left_out = sum(spot.heldout for spot in outcome.spots)
        shown.append(
            (f"{heldout:.3f}{numbers.THIN}px", "on spots left out", f"{left_out} spots that the fit never saw")
        )
    shown.append((str(outcome.n_used), "spots used", f"{outcome.n_rejected} rejected"))
    chi = outcome.goodness.reduced_chi_square
    if chi is not None:
        shown.append((f"{chi:.2f}", "reduced χ²", "1 where only counting noise is left"))
    shown.append(
        (numbers.seconds(outcome.solve_wall_s), "to solve", f"{numbers.seconds(outcome.solve_cpu_s)} of processor time")
    )
    return shown


def parameter(row: ParameterRow) -> dict[str, Any]:
    """A row of the parameter table."""
    moved = change_in_sigmas(row)
    state = f"follows {row.tied_to}" if row.tied_to else "held"
    if row.free and not row.tied_to:
        state = "at a bound" if row.at_bound else described(row) if numbers.usable(row.sigma) else "not determined"
    return {
        "name": row.name,
        "unit": row.unit,
        "start": numbers.fixed(row.start, row.sigma),
        "value": numbers.fixed(row.value, row.sigma),
        "sigma": f"{row.sigma:.2g}" if numbers.usable(row.sigma) else "—",
        "sigma_model": f"{row.sigma_model:.2g}" if numbers.usable(row.sigma_model) else "—",
        "sigma_bootstrap": f"{row.sigma_bootstrap:.2g}" if numbers.usable(row.sigma_bootstrap) else "—",
        "change": numbers.minus(f"{row.value - row.start:+.4g}") if row.value != row.start else "0",
        "in_sigmas": numbers.signed(moved),
        "bar": 0.0 if moved is None else float(np.clip(np.log10(1 + abs(moved)) / 3, 0, 1)),
        "state": state,
    }


def model(outcome: Outcome) -> list[dict[str, Any]]:
    """The values of the model by where they come from; what the fit refined last, since it has a table of its own."""
    titles = {
        "stated": "Stated: by the .expt or by you",
        "assumed": "Assumed: nobody stated it, and no data told",
        "estimated": "Estimated from the data, and not refined",
        "fitted": "Fitted",
    }
    rows = [
        {"origin": row.origin, "name": row.name, "value": shown(row.value), "unit": row.unit, "source": row.source}
        for row in outcome.model
    ]
    groups = [{"title": title, "rows": [r for r in rows if r["origin"] == origin]} for origin, title in titles.items()]
    return [group for group in groups if group["rows"]]


def shown(value: object) -> str:
    """A value of the model as text: numbers to six digits."""
    if isinstance(value, (list, tuple)):
        return ", ".join(shown(item) for item in value) or "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return numbers.fixed(float(value), None)
    return "—" if value is None else str(value)


def amplitudes(outcome: Outcome) -> dict[str, Any] | None:
    """What is said of refined amplitudes, and those that moved most; None where there are none."""
    told = sentence(outcome, AMPLITUDES)
    if told is None:
        return None
    mark = {"both": "", "plus": " (+)", "minus": " (−)"}
    rows = [
        {
            "name": numbers.minus(f"{row.h} {row.k} {row.l}") + mark[row.side],
            "start": numbers.fixed(row.start, row.sigma),
            "value": numbers.fixed(row.value, row.sigma),
            "sigma": f"{row.sigma:.2g}" if numbers.usable(row.sigma) else "—",
        }
        for row in largest(outcome.amplitudes)
    ]
    return {"sentence": told, "rows": rows}


def kind_of(reason: str) -> str:
    """A reason without its numbers, so that alike ones count together."""
    return re.sub(r"\d[\d.]*", "…", reason) or NO_REASON
