"""What an outcome makes us warn of: how the fit ended, bounds, residuals that are not noise, frames left out."""

from __future__ import annotations

from collections.abc import Iterator

from refine.records.journal import JournalEntry
from refine.records.outcome import Outcome

SIGMA_Z_LIMIT = 1.3  # above it the residuals hold more than counting noise, and the warning says so


def remarks(outcome: Outcome, stopped_by: str) -> list[JournalEntry]:
    """The warnings that ``outcome`` and the signal that stopped the fit (else "") give cause for."""
    return [*_how_it_ended(outcome, stopped_by), *_bounds(outcome), *_residuals(outcome), *_frames(outcome)]


def _how_it_ended(outcome: Outcome, stopped_by: str) -> Iterator[JournalEntry]:
    if stopped_by:
        said = f"The fit was stopped by {stopped_by} before it converged: these are partial results."
        yield JournalEntry("stopped", said, "warning", {"signal": stopped_by})
    elif not outcome.converged and outcome.verdict.level != "failed":
        yield JournalEntry("not_converged", f"The fit did not converge: {outcome.message}", "warning")


def _bounds(outcome: Outcome) -> Iterator[JournalEntry]:
    least = sum(row.at_bound for row in outcome.amplitudes)
    if least:
        said = f"{least} amplitudes are at their least value, where a sigma means nothing: look at their spots."
        yield JournalEntry("amplitudes_at_bound", said, "warning", {"amplitudes": least})
    names = [row.name for row in outcome.parameters if row.at_bound]
    if names:
        said = f"At a bound, where a sigma means nothing: {', '.join(names)}."
        yield JournalEntry("parameters_at_bound", said, "warning", {"parameters": names})


def _residuals(outcome: Outcome) -> Iterator[JournalEntry]:
    spread = outcome.goodness.sigma_z
    if spread is not None and spread > SIGMA_Z_LIMIT:
        said = (
            f"The residuals are not noise alone: their spread is {spread:.2f} times what counting explains. "
            "Look at the worst spots before you trust more digits than the sandwich sigmas give."
        )
        yield JournalEntry("residuals_not_noise", said, "warning", {"sigma_z": spread})


def _frames(outcome: Outcome) -> Iterator[JournalEntry]:
    lost, frames = sum(not frame.ok for frame in outcome.frames), len(outcome.frames)
    if lost:
        said = f"{lost} of {frames} frames were left out; the table of frames says why."
        yield JournalEntry("frames_left_out", said, "warning", {"left_out": lost, "frames": frames})
