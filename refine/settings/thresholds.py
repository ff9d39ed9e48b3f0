"""Every limit that decides what a fit is called: its unit, what it means, and where the number comes from."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from refine.settings.limits import NOT_NEGATIVE, Limit, check

_SIMULATED = "by judgement; not yet scored (benchmarks/verdict.py)"
_SHARE = Limit(0, 1)


class Described(NamedTuple):
    """A threshold as the table of the documentation has it."""

    name: str
    default: float
    unit: str
    meaning: str
    source: str


def threshold(default: float, unit: str, meaning: str, source: str) -> Any:
    """A field of :class:`VerdictThresholds`."""
    return field(default=default, metadata={"unit": unit, "meaning": meaning, "source": source})


@dataclass(frozen=True)
class VerdictThresholds:
    """Limits of the rules of the verdict (docs/verdict.md). Each belongs to one rule, or to the search of rivals."""

    explained_failed: float = threshold(
        0.3, "share", "of the strong spots that lie on the lattice: with fewer the fit has failed", _SIMULATED
    )
    explained_doubtful: float = threshold(
        0.6,
        "share",
        "of the strong spots that lie on the lattice: with fewer there may be a second crystal",
        _SIMULATED,
    )
    bright_seen: float = threshold(
        0.5, "share", "of the reflections that the amplitudes make brightest: fewer seen is doubtful", _SIMULATED
    )
    rms_failed: float = threshold(
        2.5, "spot widths", "rms distance from the predictions, the centroids' own errors taken out", _SIMULATED
    )
    rms_doubtful: float = threshold(
        0.75, "spot widths", "the same, from which on the model is not that of the spots", _SIMULATED
    )
    region_rms: float = threshold(
        2.5, "times", "rms of a panel or quadrant over that of all spots", "a region of 8 spots scatters by 1.3 to 1.5"
    )
    region_spots: float = threshold(
        8, "spots", "that a panel or quadrant must have to be judged", "its rms is known to 25 %"
    )
    not_better: float = threshold(
        0.9, "times", "rms at the end over that of the start: above it nothing was gained", "a header's error is pixels"
    )
    start_is_good: float = threshold(
        3.0, "px", "rms at the start up to which there need be no gain", "the reach of the pixels' fit"
    )
    rival_margin: float = threshold(
        2.0, "ln odds", "by which another indexing must be worse to be set aside", "odds of 7 to 1"
    )
    rival_spots: float = threshold(
        500, "spots", "of an experiment, the brightest, that rival indexings are fitted to", "bounds the time"
    )
    witness: float = threshold(
        0.1,
        "",
        "weight of a spot in the odds of an indexing: the errors of a model are alike in all of them",
        "as in the index search",
    )
    stray: float = threshold(4.5, "ln odds", "what a strong spot without an index costs: 3 sigma", "normal errors")
    turned_margin: float = threshold(
        3.0, "sigmas", "by which turned indices must fit the amplitudes better", "one turn in 700 by chance"
    )
    metric: float = threshold(
        0.006,
        "",
        "cell's departure (relative, radians) from the symmetry it began with",
        "a P1 cell of ximg2701: 0.003",
    )
    cell_scale: float = threshold(
        0.01,
        "",
        "relative change of all cell lengths together: the wavelength or the distance is wrong by as much",
        "published cells of one crystal form agree to 0.5 %",
    )
    correlated: float = threshold(
        2.5,
        "sigmas",
        "of the rank correlation of spots and amplitudes: below it they are unrelated",
        "1 in 160 by chance",
    )
    correlated_spots: float = threshold(15, "spots", "that it takes to say so", "the correlation's own error is 0.27")
    restraint_pull: float = threshold(
        4.0, "sigmas", "by which a value may be pulled off its restraint", "1 in 16 000 by chance"
    )
    spots_per_parameter: float = threshold(
        1.0, "spots", "a geometry parameter must have", "6 frames of 15: rms 0.39 px held out where 0.23 is possible"
    )
    halves: float = threshold(
        3.0, "sigmas", "rms difference of two interleaved halves of the spots over its own error", _SIMULATED
    )
    sublattice: float = threshold(
        1e-6, "probability", "by chance, that all indices lie on a part of the lattice", "one run in a million"
    )
    moved: float = threshold(
        8.0,
        "header errors",
        "by which a value may leave its start (1.5 mm, 0.5°, 1 %)",
        "farther than the search looks",
    )

    def __post_init__(self) -> None:
        shares = ("explained_failed", "explained_doubtful", "bright_seen", "sublattice", "witness")
        check("advanced.verdict", self, {item.name: NOT_NEGATIVE for item in fields(self)})
        check("advanced.verdict", self, dict.fromkeys(shares, _SHARE))


_DEFAULT, _TOLD = VerdictThresholds(), ("unit", "meaning", "source")


def described() -> tuple[Described, ...]:
    """Every threshold of the verdict with its unit, meaning and source."""
    return tuple(
        Described(item.name, float(getattr(_DEFAULT, item.name)), *(item.metadata[key] for key in _TOLD))
        for item in fields(VerdictThresholds)
    )


@dataclass(frozen=True)
class AdvancedSettings:
    """What decides inside the fit. ``judge``: judge the fit by the rules of the verdict; ``rivals``: weigh other
    indexings before, which takes up to a minute."""

    judge: bool = True
    rivals: bool = False
    verdict: VerdictThresholds = field(default_factory=VerdictThresholds)
