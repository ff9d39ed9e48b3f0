"""What each rule of the verdict asks of the evidence: a sentence with its numbers, or None."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from refine.settings.thresholds import VerdictThresholds
from refine.verdict.evidence import FitEvidence, Region

_NAMED = 6  # names that a sentence lists


@dataclass(frozen=True)
class Fired:
    """What a rule found."""

    sentence: str
    numbers: Mapping[str, float] = field(default_factory=dict)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _explained(seen: FitEvidence, limit: float) -> Fired | None:
    share = seen.explained / seen.strong if seen.strong else 1.0
    if share >= limit:
        return None
    return Fired(
        f"{seen.explained} of {seen.strong} strong spots lie on the lattice",
        {"explained": seen.explained, "strong": seen.strong, "share": share},
    )


def few_explained(seen: FitEvidence, limits: VerdictThresholds) -> Fired | None:
    """Too few strong spots lie on the lattice for the orientation to be right."""
    return _explained(seen, limits.explained_failed)


def some_explained(seen: FitEvidence, limits: VerdictThresholds) -> Fired | None:
    """Many strong spots do not lie on the lattice."""
    return None if few_explained(seen, limits) else _explained(seen, limits.explained_doubtful)


def bright_unseen(seen: FitEvidence, limits: VerdictThresholds) -> Fired | None:
    """Reflections that the amplitudes make bright lie where no spot is."""
    match = seen.amplitudes
    if match is None or match.bright < limits.correlated_spots or match.seen >= limits.bright_seen * match.bright:
        return None
    return Fired(
        f"{match.seen} of the {match.bright} reflections that the amplitudes make brightest are seen",
        {"seen": match.seen, "bright": match.bright},
    )


def _excess(region: Region) -> float:
    """The rms without the centroids' own errors, in spot widths."""
    return math.sqrt(max(region.rms**2 - region.own**2, 0.0)) / max(region.width, 1e-9)


def _off(seen: FitEvidence, limit: float) -> Fired | None:
    whole = next((region for region in seen.regions if region.name == "all"), None)
    if whole is None or whole.spots == 0 or _excess(whole) <= limit:
        return None
    return Fired(
        f"the spots lie {whole.rms:.2f} px (rms) from their predictions, {_excess(whole):.1f} times their width beyond "
        f"their own errors of {whole.own:.2f} px",
        {"rms_px": whole.rms, "own_px": whole.own, "width_px": whole.width, "in_widths": _excess(whole)},
    )


def far_off(seen: FitEvidence, limits: VerdictThresholds) -> Fired | None:
    """The predictions are off by more than a spot."""
    return _off(seen, limits.rms_failed)


def off(seen: FitEvidence, limits: VerdictThresholds) -> Fired | None:
    """The predictions are off by much of a spot."""
    return None if far_off(seen, limits) else _off(seen, limits.rms_doubtful)


def region_off(seen: FitEvidence, limits: VerdictThresholds) -> Fired | None:
    """A panel or quadrant whose spots lie farther off than the others'."""
    whole = next((region for region in seen.regions if region.name == "all"), None)
    if whole is None or whole.rms == 0:
        return None
    judged = [one for one in seen.regions if one.name != "all" and one.spots >= limits.region_spots]
    bad = [one for one in judged if one.rms > limits.region_rms * whole.rms and _excess(one) > 0]
    if not bad:
        return None
    worst = max(bad, key=lambda one: one.rms)
    return Fired(
        f"{_listed([one.name for one in bad])}: spots lie {worst.rms:.2f} px off, all together {whole.rms:.2f} px",
        {"rms_px": worst.rms, "all_px": whole.rms, "spots": worst.spots},
    )


def not_better(seen: FitEvidence, limits: VerdictThresholds) -> Fired | None:
    """The rms at the end is that of the start, and that was no good one."""
    if seen.rms_start is None or seen.rms_end is None or seen.rms_start <= limits.start_is_good:
        return None
    if seen.rms_end < limits.not_better * seen.rms_start:
        return None
    return Fired(
        f"the spots' rms is {seen.rms_end:.2f} px at the end and was {seen.rms_start:.2f} px at the start",
        {"rms_end_px": seen.rms_end, "rms_start_px": seen.rms_start},
    )


def nothing_refined(seen: FitEvidence, limits: VerdictThresholds) -> Fired | None:
    """Free parameters of the geometry, and none of them moved."""
    free = [parameter.name for parameter in seen.parameters if parameter.geometry]
    if seen.moved or not free:
        return None
    return Fired(f"none of the {len(free)} geometry parameters moved from its start", {"parameters": len(free)})


def ambiguous(seen: FitEvidence, limits: VerdictThresholds) -> Fired | None:
    """Another indexing explains the spots about as well."""
    close = [rival for rival in seen.rivals if not rival.chosen and rival.worse < limits.rival_margin]
    if not close or few_explained(seen, limits):
        return None
    best = min(close, key=lambda rival: rival.worse)
    return Fired(
        f"{best.name} explain the spots as well ({best.explained} spots, rms {best.rms:.2f} px, "
        f"{best.worse:+.1f} in ln odds): nothing decides between them",
        {"explained": best.explained, "rms_px": best.rms, "worse": best.worse, "rivals": len(close)},
    )


def rival_taken(seen: FitEvidence, limits: VerdictThresholds) -> Fired | None:
    """The indexing is not the first search's."""
    taken = [rival for rival in seen.rivals if rival.chosen]
    if not taken:
        return None
    last = taken[-1]
    return Fired(
        f"{last.name} were taken: {last.explained} spots, rms {last.rms:.2f} px", {"explained": last.explained}
    )


def turned(seen: FitEvidence, limits: VerdictThresholds) -> Fired | None:
    """Indices turned by a symmetry of the lattice fit the amplitudes better."""
    match = seen.amplitudes
    if match is None or match.turned is None or match.spots < limits.correlated_spots:
        return None
    name, correlation = match.turned
    gain = (correlation - match.correlation) * math.sqrt(match.spots - 1)
    if gain < limits.turned_margin:
        return None
    return Fired(
        f"indices turned by {name} fit the amplitudes better: correlation {correlation:.2f} instead of "
        f"{match.correlation:.2f} over {match.spots} spots. Reindex data.experiment by {name}",
        {"correlation": match.correlation, "turned": correlation, "spots": match.spots},
    )


def turns(seen: FitEvidence, limits: VerdictThresholds) -> Fired | None:
    """The lattice has symmetries that the crystal has not, and no amplitude tells which indices are right."""
    if not seen.turns or (seen.amplitudes is not None and seen.amplitudes.turned is not None):
        return None
    return Fired(f"indices turned by {_listed(list(seen.turns))} explain the spots as well", {"turns": len(seen.turns)})


def metric(seen: FitEvidence, limits: VerdictThresholds) -> Fired | None:
    """The cell has left the symmetry that it had at the start."""
    if seen.metric is None or seen.metric <= limits.metric:
        return None
    return Fired(
        f"the cell departs by {100 * seen.metric:.2f} % from the lattice symmetry it began with",
        {"departure": seen.metric},
    )


def cell_scale(seen: FitEvidence, limits: VerdictThresholds) -> Fired | None:
    """All lengths of the cell changed together."""
    change = seen.cell_scale
    if change is None or abs(change) <= limits.cell_scale:
        return None
    return Fired(
        f"the whole cell came out {abs(change):.1%} {'larger' if change > 0 else 'smaller'} than given: so may the "
        "wavelength be wrong, or the distance",
        {"change": change},
    )


def amplitudes(seen: FitEvidence, limits: VerdictThresholds) -> Fired | None:
    """The spots' counts do not follow the amplitudes."""
    match = seen.amplitudes
    if match is None or match.spots < limits.correlated_spots:
        return None
    significance = match.correlation * math.sqrt(match.spots - 1)
    if significance >= limits.correlated:
        return None
    return Fired(
        f"the amplitudes are not those of the spots: rank correlation {match.correlation:.2f} over {match.spots} spots",
        {"correlation": match.correlation, "spots": match.spots, "sigmas": significance},
    )


def at_bound(seen: FitEvidence, limits: VerdictThresholds) -> Fired | None:
    """Parameters that ended at a bound."""
    names = [parameter.name for parameter in seen.parameters if parameter.at_bound]
    return Fired(f"at a bound: {_listed(names)}", {"parameters": len(names)}) if names else None


def restraint(seen: FitEvidence, limits: VerdictThresholds) -> Fired | None:
    """Parameters pulled far off their restraints."""
    pulled = [p for p in seen.parameters if p.pull is not None and abs(p.pull) > limits.restraint_pull]
    if not pulled:
        return None
    worst = max(abs(parameter.pull or 0.0) for parameter in pulled)
    return Fired(
        f"pulled off their restraints, by {worst:.1f} of their sigmas: {_listed([p.name for p in pulled])}",
        {"parameters": len(pulled), "most": worst},
    )


def few_spots(seen: FitEvidence, limits: VerdictThresholds) -> Fired | None:
    """Fewer spots than the geometry's parameters need."""
    free = sum(parameter.geometry and parameter.pull is None for parameter in seen.parameters)
    if free == 0 or seen.spots_used >= limits.spots_per_parameter * free:
        return None
    return Fired(
        f"{seen.spots_used} spots hold {free} parameters of the geometry",
        {"spots": seen.spots_used, "parameters": free},
    )


def not_converged(seen: FitEvidence, limits: VerdictThresholds) -> Fired | None:
    """The fit ended before it converged."""
    return None if seen.converged else Fired(f"the fit did not converge: {seen.message}")


def halves(seen: FitEvidence, limits: VerdictThresholds) -> Fired | None:
    """Two halves of the spots differ by more than their sigmas allow."""
    if not seen.halves:
        return None
    square = sum(half.in_sigmas**2 for half in seen.halves) / len(seen.halves)
    if math.sqrt(square) <= limits.halves:
        return None
    worst = max(seen.halves, key=lambda half: abs(half.in_sigmas))
    return Fired(
        f"two halves of the spots differ by {math.sqrt(square):.1f} sigmas (rms over {len(seen.halves)} parameters), "
        f"most in {worst.name}: {abs(worst.in_sigmas):.1f}",
        {"rms_sigmas": math.sqrt(square), "most": abs(worst.in_sigmas), "parameters": len(seen.halves)},
    )


def sublattice(seen: FitEvidence, limits: VerdictThresholds) -> Fired | None:
    """All indices satisfy a condition that the space group does not make."""
    if seen.sublattice is None or seen.sublattice[1] >= limits.sublattice:
        return None
    words, chance = seen.sublattice
    return Fired(f"all spots have {words}, which the space group does not ask for", {"chance": chance})


def moved_far(seen: FitEvidence, limits: VerdictThresholds) -> Fired | None:
    """Parameters that ended far from their starts."""
    far = [p for p in seen.parameters if p.geometry and abs(p.in_spans) > limits.moved]
    if not far:
        return None
    worst = max(abs(parameter.in_spans) for parameter in far)
    return Fired(
        f"moved by up to {worst:.0f} times the error of a usual header: {_listed([p.name for p in far])}",
        {"parameters": len(far), "most": worst},
    )


def assumed(seen: FitEvidence, limits: VerdictThresholds) -> Fired | None:
    """Values that nobody stated and the fit held."""
    return Fired(f"assumed: {_listed(list(seen.assumed))}", {"values": len(seen.assumed)}) if seen.assumed else None
