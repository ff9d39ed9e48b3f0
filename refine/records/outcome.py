"""What a fit found: plain frozen records, filled by the numerical core, read by everything that reports.

Pixels count from the outer corner of pixel (0, 0), fast then slow; "start" is the geometry given, "end" the
refined one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nbtorch.config import BeamConfig, CrystalConfig, DetectorConfig
from refine.records.journal import JournalEntry
from refine.records.model_value import ModelValue
from refine.records.pictures import FramePicture, SpotBox
from refine.records.verdict import Verdict

Pair = tuple[float, float]  # fast, slow
Array = NDArray[np.float64]
Side = Literal["both", "plus", "minus"]


@dataclass(frozen=True)
class ParameterRow:
    """One parameter, free or not, in its public ``unit`` ("mm", "deg", "Å", "").

    ``sigma`` is the one we stand by (None: fixed, or not determined), ``sigma_model`` what the Fisher information alone
    says; ``sigma_bootstrap`` checks a sandwich sigma. ``tied_to`` names the parameter that it follows.
    ``restraint_sigma`` holds it to ``restraint_target`` (None: nothing does); ``lower`` and ``upper`` are its bounds
    (None: none). Of a spread, which is fitted as its square, ``interval`` (68 %) counts; one that may be 0 has no
    ``sigma`` but an ``upper_limit`` (95 %). ``kind`` is the word for what it is ("mosaic spread"), ``owner`` whose:
    "detector", "beam", "crystal" or "amplitudes".
    """

    name: str
    unit: str
    start: float
    value: float
    sigma: float | None = None
    sigma_model: float | None = None
    free: bool = True
    at_bound: bool = False
    tied_to: str | None = None
    sigma_bootstrap: float | None = None
    lower: float | None = None
    upper: float | None = None
    restraint_target: float | None = None
    restraint_sigma: float | None = None
    interval: Pair | None = None
    upper_limit: float | None = None
    kind: str = ""
    owner: str = ""


@dataclass(frozen=True)
class AmplitudeRow:
    """A refined amplitude, in the scale of the file given: of a reflection and its Friedel mate ("both"), or of one.

    Of a "minus" (h k l) is the mate, whose negative lies in the asymmetric unit.
    """

    h: int
    k: int
    l: int  # noqa: E741 - the third Miller index has no other name
    side: Side
    start: float
    value: float
    sigma: float | None = None
    sigma_model: float | None = None
    at_bound: bool = False


@dataclass(frozen=True)
class Undetermined:
    """A direction of parameter space that the data do not fix: ``combination`` in words, and the ``reason``."""

    combination: str
    reason: str


@dataclass(frozen=True)
class SpotRow:
    """One reflection on one panel, over all frames it touches.

    ``experiment`` is the number of its entry in the experiment list. Positions in pixels; ``frame`` is where its counts
    are centred in its scan (from 0: the middle of the first frame is 0.5) or, for a still, the experiment's number.
    ``counts`` is what was found above the background. What its shoebox says: ``scale`` multiplies the spot rendered
    with the amplitude given; ``intensity`` is its light, in counts, that this makes in the box; ``background`` counts a
    pixel; ``chi_square`` the mean squared residual of the pixels under it, in units of their noise. ``radial_px`` and
    ``tangential_px`` are observed − predicted at the end, seen from the beam; ``d`` in Å. None: not known, as the boxes
    of spots that the fit did not see. ``reason`` says why a spot was not ``used``, else "".
    """

    experiment: int
    frame: float
    panel: int
    h: int
    k: int
    l: int  # noqa: E741 - the third Miller index has no other name
    observed_fast_px: float | None
    observed_slow_px: float | None
    observed_frame: float | None
    start_fast_px: float
    start_slow_px: float
    end_fast_px: float
    end_slow_px: float
    counts: float
    scale: float | None = None
    scale_sigma: float | None = None
    intensity: float | None = None
    intensity_sigma: float | None = None
    background: float | None = None
    chi_square: float | None = None
    radial_px: float | None = None
    tangential_px: float | None = None
    d: float | None = None
    used: bool = True
    heldout: bool = False
    reason: str = ""


@dataclass(frozen=True)
class FrameRow:
    """One frame and how it fared. ``index`` counts all frames, ``frame`` those of its ``experiment``, both from 0.

    ``scale`` is the crystal's where its spots have one, else the median of the spots' own. ``ok`` False: it was left
    out, and ``message`` says why.
    """

    index: int
    path: str
    n_spots: int
    rms_px: float | None
    scale: float | None
    ok: bool = True
    message: str = ""
    experiment: int = 0
    frame: int = 0


@dataclass(frozen=True, eq=False)
class Correlation:
    """Correlation ``matrix`` [n, n] of the free parameters ``names`` [n], and the pairs too close to tell apart.

    Where there are many parameters it is of those that all crystals share, and ``crystals`` holds those of each.
    """

    names: tuple[str, ...]
    matrix: Array
    degenerate: tuple[tuple[str, str, float], ...] = ()
    crystals: tuple[Correlation, ...] = ()


@dataclass(frozen=True)
class Goodness:
    """How well the model explains the pixels.

    ``sigma_z`` is the spread of z over pixels (1 where only counting noise is left), ``histogram_z`` counts of z
    between ``edges_z``. ``radial_px`` and ``tangential_px`` are rms residuals of the used spots about the beam.
    """

    reduced_chi_square: float | None = None
    sigma_z: float | None = None
    edges_z: tuple[float, ...] = ()
    histogram_z: tuple[float, ...] = ()
    radial_px: float | None = None
    tangential_px: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Iteration:
    """One step of the solver. ``stage`` is "positions" or "pixels"; ``step_sigma`` the largest move in sigmas."""

    iteration: int
    stage: str
    loss: float
    rms_fast_px: float | None = None
    rms_slow_px: float | None = None
    damping: float | None = None
    step_sigma: float | None = None


@dataclass(frozen=True)
class Share:
    """What one process did of a fit: the crystals whose spots it rendered, and its processor time."""

    crystals: tuple[int, ...]
    solve_cpu_s: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """The whole result of a fit.

    ``detectors``, ``beams`` and ``crystals`` are keyed by their index in the experiment list, as
    :class:`nbtorch.io.ExptUpdates` takes them. ``journal`` is what the run said, chose, assumed and warned of.
    ``model`` is every value that the model needs, with where it comes from.
    ``spot_boxes`` are sorted by their chi-square. ``weakest`` is the least determined direction of those that are.
    ``solve_cpu_s`` is the processor time of all processes, ``processes`` that of each.
    """

    parameters: tuple[ParameterRow, ...]
    undetermined: tuple[Undetermined, ...]
    correlation: Correlation | None
    converged: bool
    message: str
    history: tuple[Iteration, ...]
    spots: tuple[SpotRow, ...]
    frames: tuple[FrameRow, ...]
    goodness: Goodness
    detector_start: DetectorConfig
    detector_end: DetectorConfig
    detectors: Mapping[int, DetectorConfig]
    beams: Mapping[int, BeamConfig]
    crystals: Mapping[int, CrystalConfig]
    rms_start_px: Pair | None
    rms_end_px: Pair | None
    rms_heldout_px: Pair | None
    solve_wall_s: float
    solve_cpu_s: float
    journal: tuple[JournalEntry, ...] = ()
    processes: tuple[Share, ...] = ()
    weakest: Undetermined | None = None
    amplitudes: tuple[AmplitudeRow, ...] = ()
    frame_pictures: tuple[FramePicture, ...] = ()
    spot_boxes: tuple[SpotBox, ...] = ()
    model: tuple[ModelValue, ...] = ()
    verdict: Verdict = Verdict("good")  # noqa: RUF009 - frozen

    @property
    def n_used(self) -> int:
        """Spots that the fit used."""
        return sum(spot.used for spot in self.spots)

    @property
    def n_rejected(self) -> int:
        """Spots that were neither used nor held out."""
        return sum(not spot.used and not spot.heldout for spot in self.spots)
