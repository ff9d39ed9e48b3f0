"""What a fit prints when it ends: start → end ± sigma, and where the results are."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from refine.records.outcome import Outcome, ParameterRow
from refine.records.run_folder import AMPLITUDES, REPORT, RunFolder
from refine.report import numbers
from refine.report.amplitude_results import sentence
from refine.report.result import Finding, change_in_sigmas

MAX_ROWS = 40  # of free parameters; a fit of many crystals has hundreds, and the report shows them all
PIPE_WIDTH = 120


def print_summary(finding: Finding, folder: RunFolder, console: Console | None = None) -> None:
    """Print the summary of ``finding`` to the terminal, or plainly to a pipe."""
    console = console or Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    console.print(finding.outcome.verdict.headline, markup=False, highlight=False, soft_wrap=True)
    console.print(parameter_table(finding))
    for line in lines(finding):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"report: {(folder / REPORT).absolute()}", markup=False, highlight=False, soft_wrap=True)


def parameter_table(finding: Finding) -> Table:
    """The free parameters; with a truth, how far from it each one ended."""
    truth = {row.name: row for row in finding.truth}
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("parameter")
    for name in ("start", "end ± sigma", "unit", "moved, σ", *(("truth", "error, σ") if truth else ())):
        table.add_column(name, justify="left" if name == "unit" else "right")
    shown = sorted((row for row in finding.outcome.parameters if row.free and row.tied_to is None), key=_crystal_last)
    for row in shown[:MAX_ROWS]:
        cells = [row.name.replace("[", r"\["), numbers.fixed(row.start, row.sigma), _end(row), row.unit]
        cells.append(numbers.signed(change_in_sigmas(row)))
        if truth:
            known = truth.get(row.name)
            cells += (
                ["", ""] if known is None else [numbers.fixed(known.truth, row.sigma), numbers.signed(known.in_sigmas)]
            )
        table.add_row(*cells)
    if len(shown) > MAX_ROWS:
        table.caption = f"… and {len(shown) - MAX_ROWS} more in the report"
    return table


def _crystal_last(row: ParameterRow) -> bool:
    """What all frames share comes first."""
    return row.owner == "crystal"


def _end(row: ParameterRow) -> str:
    text = numbers.with_sigma(row.value, row.sigma)
    if row.at_bound:
        return f"{text} (at a bound)"
    if row.upper_limit is not None:
        return f"< {row.upper_limit:.2g} (95 %)"
    if not numbers.usable(row.sigma):
        return f"{text} (not determined)"
    return text if row.restraint_sigma is None else f"{text} (restrained)"


def lines(finding: Finding) -> list[str]:
    """Everything below the table, one sentence a line."""
    outcome = finding.outcome
    text = [state_line(outcome), *finding_lines(outcome), spot_line(outcome)]
    text += [f"not determined by the data: {row.combination} ({row.reason})" for row in outcome.undetermined]
    amplitudes = sentence(outcome, AMPLITUDES)
    if amplitudes is not None:
        text.append(amplitudes)
    if outcome.weakest is not None:
        text.append(f"least determined of what is: {outcome.weakest.combination} ({outcome.weakest.reason})")
    told = {row.sentence for row in outcome.verdict.findings}
    return text + [f"warning: {warning}" for warning in finding.warnings if warning not in told]


def state_line(outcome: Outcome) -> str:
    """How the solver ended. A fit that failed has not converged, whatever the solver says of its steps."""
    if outcome.converged:
        return f"converged: {outcome.message}"
    return f"NOT converged: {'the verdict is failed' if outcome.verdict.level == 'failed' else outcome.message}"


def finding_lines(outcome: Outcome) -> list[str]:
    """What the verdict found, with the reasons; graver things first."""
    return [f"{row.level}: {row.sentence} ({row.reason})" for row in outcome.verdict.findings]


def spot_line(outcome: Outcome) -> str:
    """Spots and their rms, fast / slow."""
    start, end = numbers.pair(outcome.rms_start_px), numbers.pair(outcome.rms_end_px)
    text = f"{outcome.n_used} spots, rms (fast / slow) {start} px → {end} px"
    if outcome.rms_heldout_px is not None:
        text += f", on spots left out {numbers.pair(outcome.rms_heldout_px)} px"
    return f"{text}; solved in {numbers.seconds(outcome.solve_wall_s)}"
