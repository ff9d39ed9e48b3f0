"""What the verdict looks at: plain values gathered from a fit, so that every rule is tested without one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Region:
    """How the spots of a part of the detector lie: ``name`` "all", "panel 3" or "panel 3, upper left".

    rms: px, of both directions together, divided by √2; own: the part of it that the centroids' counting errors make;
    width: px, the spots' rms extent.
    """

    name: str
    spots: int
    rms: float
    own: float
    width: float


@dataclass(frozen=True)
class Rival:
    """Another indexing that was refitted: ``name`` in words, ``worse`` by so much (ln odds) than the one that is kept.

    ``chosen``: it took the place of the first search's, than which it is better.
    """

    name: str
    explained: int
    rms: float
    worse: float
    chosen: bool = False


@dataclass(frozen=True)
class Shell:
    """Rank correlation of the spots' counts with |F|² between two resolutions (Å), over ``spots`` of them."""

    low: float
    high: float
    spots: int
    correlation: float


@dataclass(frozen=True)
class AmplitudeMatch:
    """How the amplitudes fit the spots: over all, by resolution, and with indices turned by lattice symmetries.

    turned: (operator as a triplet, correlation) of the best of them, None where the lattice has no such symmetry.
    bright: of the ``bright`` brightest predicted reflections ``seen`` lie near a spot.
    """

    spots: int
    correlation: float
    shells: tuple[Shell, ...] = ()
    turned: tuple[str, float] | None = None
    bright: int = 0
    seen: int = 0


@dataclass(frozen=True)
class ParameterState:
    """A free parameter at the end. ``geometry``: it moves spots; in_spans: (value − start)/span; pull: distance from a
    restraint in its sigmas, None without one."""

    name: str
    in_spans: float
    at_bound: bool = False
    pull: float | None = None
    geometry: bool = True


@dataclass(frozen=True)
class Half:
    """(first half − second half) of the spots, over the sigma of that difference."""

    name: str
    in_sigmas: float


@dataclass(frozen=True)
class FitEvidence:
    """Everything that the rules ask. None and empty tuples: not known, and no rule fires over it.

    strong: spots found; explained: those of them that lie on the lattice.
    sublattice: a condition that all indices satisfy, in words, and its probability by chance. cell_scale: mean relative
    change of the cell lengths. metric: departure of the cell from its symmetry, see refine.verdict.lattice.
    assumed: sentences. would_fit: the usual mistake that would explain the spots, in words.
    """

    converged: bool
    message: str = ""
    strong: int = 0
    explained: int = 0
    regions: tuple[Region, ...] = ()
    rms_start: float | None = None
    rms_end: float | None = None
    rivals: tuple[Rival, ...] = ()
    turns: tuple[str, ...] = ()
    metric: float | None = None
    cell_scale: float | None = None
    amplitudes: AmplitudeMatch | None = None
    parameters: tuple[ParameterState, ...] = ()
    spots_used: int = 0
    halves: tuple[Half, ...] = ()
    sublattice: tuple[str, float] | None = None
    assumed: tuple[str, ...] = ()
    moved: bool = True
    would_fit: str = ""
