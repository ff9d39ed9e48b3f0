"""Where a fit of pixels stands, and what is decided about it: plain values, which a checkpoint can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from refine.records.journal import JournalEntry

_LOOSE_TOLERANCE = 3e-3  # of a stage that another follows
_ROBUST_TOLERANCE = 1e-4  # of a loss that is no likelihood


@dataclass(frozen=True)
class Stage:
    """What a stage fits."""

    name: str
    free_scales: bool = True
    model_error: float = 0.0
    predicted: bool = False  # boxes on predicted reflections rather than on observed spots
    oversample: int | None = None  # sub-pixels a side; None: by the width of the spots
    sampled: bool = False  # whether the pixels have been asked how they were sampled
    errors: tuple[float, float, float] | None = None  # of single spots: see refine.pixels.spot_errors.SpotErrors
    loose: bool = False  # whether it may end before it has quite converged, because another is to follow
    weighed_anew: bool = False  # whether a robust stage has the weights of a model that is a robust stage's

    def tolerance(self, asked: float) -> float:
        """The relative gain of a step below which the stage has converged, where the user asks for ``asked``."""
        return max(asked, _LOOSE_TOLERANCE if self.loose else 0.0 if self.errors is None else _ROBUST_TOLERANCE)


@dataclass(frozen=True, eq=False)
class State:
    """A ``stage`` at the ``values`` [T] of all parameters, of which those at ``free`` move.

    ``left_out``: the experiments without pixels to fit, though with spots, and why; ``iterations`` of this stage so
    far.
    """

    stage: Stage
    values: Tensor
    free: tuple[int, ...] = ()
    left_out: Mapping[int, str] = field(default_factory=dict)
    iterations: int = 0


@dataclass(frozen=True, eq=False)
class Decision:
    """What follows: a ``stage`` that begins at ``values`` [T] and moves the parameters at ``free``; and the ``reason``.

    Of a stage that begins, ``free`` are those that it moves where their pixels can be read. ``stage`` None: the fit
    has ended. ``by_positions``: with the geometry of the fit of positions.
    """

    stage: Stage | None
    values: Tensor
    free: tuple[int, ...]
    reason: tuple[JournalEntry, ...] = ()
    by_positions: bool = False


class Quality(Protocol):
    """How well a state explains the data: measured when it is asked for, on copies that alone are moved by it."""

    @property
    def z2(self) -> float:
        """Mean squared residual of the pixels under spots, in units of their noise."""
        ...

    @property
    def scales(self) -> tuple[float, dict[int, float]]:
        """Median relative scatter of the spots' scales, and their median in each experiment (none: no strong spot)."""
        ...

    @property
    def losses_by_sampling(self) -> dict[int, float]:
        """The loss of each number of sub-pixels a side after a short fit; infinite where it explains no pixels."""
        ...

    def rms(self, values: Tensor) -> float:
        """rms distance (pixels) of the spots that the fit may see from their predictions at ``values`` [T]."""
        ...

    def spread(self, values: Tensor) -> tuple[float, float]:
        """By how much single spots are off their predictions at ``values`` [T]: pixels, and frames."""
        ...

    def shape_error(self, decision: Decision) -> float:
        """The relative error of the spots' shapes where the stage of ``decision`` begins."""
        ...
