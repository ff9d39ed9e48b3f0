"""What is said of a fit: a level, and the findings that lead to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["good", "doubtful", "failed", "not judged"]
Weight = Literal["note", "doubtful", "failed"]  # of a finding: a note changes no level


@dataclass(frozen=True)
class VerdictFinding:
    """One rule that fired: ``sentence`` says it with its numbers, ``reason`` why it matters.

    ``threshold`` names the setting advanced.verdict.NAME that the rule compared with, ``limit`` is its value in
    ``unit``; "" and None where the rule compares with nothing.
    """

    code: str
    level: Weight
    sentence: str
    reason: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    threshold: str = ""
    limit: float | None = None
    unit: str = ""


@dataclass(frozen=True)
class Verdict:
    """``level``: "good"; "doubtful", where a reader must look first; "failed", where the numbers are not to be used;
    "not judged", where nobody asked."""

    level: Level
    findings: tuple[VerdictFinding, ...] = ()

    @property
    def headline(self) -> str:
        """The first line of a summary."""
        if self.level == "not judged":
            return "verdict: not judged (advanced.judge=false)"
        serious = [finding.sentence for finding in self.findings if finding.level == self.level]
        return f"verdict: {self.level}" + (f": {'; '.join(serious)}" if serious else "")
