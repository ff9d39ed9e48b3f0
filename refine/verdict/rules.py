"""The verdict: small rules as data over :class:`~refine.verdict.evidence.FitEvidence`.

A rule looks at one thing, compares it with one threshold, and says what it found in one sentence with its numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

from refine.records.verdict import Level, Verdict, VerdictFinding, Weight
from refine.settings.thresholds import VerdictThresholds
from refine.verdict import checks
from refine.verdict.checks import Fired
from refine.verdict.evidence import FitEvidence

Check = Callable[[FitEvidence, VerdictThresholds], Fired | None]


@dataclass(frozen=True)
class Rule:
    """``look`` says what is wrong with the evidence, or None. ``threshold``: the name of the limit it compares with."""

    code: str
    level: Weight
    threshold: str
    reason: str
    look: Check


RULES: tuple[Rule, ...] = (
    Rule("few-explained", "failed", "explained_failed", "indices by chance explain about as many spots",
         checks.few_explained),
    Rule("some-explained", "doubtful", "explained_doubtful",
         "a second crystal, a wrong centring or a wrong orientation leaves spots over", checks.some_explained),
    Rule("bright-unseen", "doubtful", "bright_seen", "what the model makes bright must be there", checks.bright_unseen),
    Rule("far-off", "failed", "rms_failed", "spots this far from their predictions may be other reflections",
         checks.far_off),
    Rule("off", "doubtful", "rms_doubtful", "the model's geometry is not that of the spots", checks.off),
    Rule("region-off", "doubtful", "region_rms", "a part of the detector may have moved against the others",
         checks.region_off),
    Rule("not-better", "failed", "not_better", "the fit did not bring the predictions to the spots", checks.not_better),
    Rule("nothing-refined", "failed", "", "the geometry is the one that was given", checks.nothing_refined),
    Rule("ambiguous", "failed", "rival_margin", "another indexing gives another geometry", checks.ambiguous),
    Rule("rival-taken", "note", "rival_margin", "the first search had found other indices", checks.rival_taken),
    Rule("turned", "failed", "turned_margin", "the lattice has a symmetry that the crystal has not", checks.turned),
    Rule("turns", "note", "", "without amplitudes nothing tells them apart; the geometry is the same", checks.turns),
    Rule("metric", "doubtful", "metric", "wrong indices distort a cell", checks.metric),
    Rule("cell-scale", "doubtful", "cell_scale", "a wrong wavelength or distance unit scales the cell",
         checks.cell_scale),
    Rule("amplitudes", "doubtful", "correlated", "amplitudes of another crystal or in another setting mislead a fit",
         checks.amplitudes),
    Rule("at-bound", "doubtful", "", "at a bound a sigma means nothing", checks.at_bound),
    Rule("restraint", "doubtful", "restraint_pull", "spots and restraint contradict each other", checks.restraint),
    Rule("few-spots", "doubtful", "spots_per_parameter", "with so few spots a small rms says little", checks.few_spots),
    Rule("not-converged", "doubtful", "", "the values are those of the last iteration", checks.not_converged),
    Rule("halves", "doubtful", "halves", "the quoted sigmas are smaller than the scatter", checks.halves),
    Rule("sublattice", "doubtful", "sublattice", "the cell is too large, or the space group lacks a centring",
         checks.sublattice),
    Rule("moved-far", "doubtful", "moved", "headers are seldom this wrong", checks.moved_far),
    Rule("assumed", "note", "", "nobody stated them and the fit held them", checks.assumed),
)  # fmt: skip
_ORDER: Mapping[Weight, int] = {"failed": 0, "doubtful": 1, "note": 2}


def verdict(evidence: FitEvidence, thresholds: VerdictThresholds | None = None) -> Verdict:
    """What ``evidence`` amounts to: the level of its gravest finding, the findings gravest first."""
    limits = thresholds or VerdictThresholds()
    fired = [finding for rule in RULES if (finding := _applied(rule, evidence, limits)) is not None]
    fired.sort(key=lambda finding: _ORDER[finding.level])
    level: Level = "good"
    if fired and fired[0].level != "note":
        level = fired[0].level
    if level == "failed" and evidence.would_fit:
        fired.append(VerdictFinding("would-fit", "note", evidence.would_fit, "a usual mistake of headers"))
    return Verdict(level, tuple(fired))


def _applied(rule: Rule, evidence: FitEvidence, limits: VerdictThresholds) -> VerdictFinding | None:
    found = rule.look(evidence, limits)
    if found is None:
        return None
    limit, unit = None, ""
    if rule.threshold:
        limit = float(getattr(limits, rule.threshold))
        unit = next(item.metadata["unit"] for item in fields(limits) if item.name == rule.threshold)
    return VerdictFinding(
        rule.code, rule.level, found.sentence, rule.reason, found.numbers, rule.threshold, limit, unit
    )
