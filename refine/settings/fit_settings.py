"""What a fit is asked to do: one frozen dataclass a config group, with the names the configs use.

The YAML files under configs/ are the defaults that a user reads; these classes check what comes out of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from nbtorch.config import Backend, Precision, Shape
from nbtorch.errors import ConfigError
from refine.settings.geometry_settings import GeometrySettings
from refine.settings.limits import NOT_NEGATIVE, ONE_OR_MORE, POSITIVE, Limit, check, not_empty
from refine.settings.thresholds import AdvancedSettings

ScaleKind = Literal["auto", "spot", "frame"]
ScanVarying = Literal["orientation", "cell"]
Parallax = Literal["layers", "mean", "dxtbx", "none"]


@dataclass(frozen=True)
class DataSettings:
    """Which measurement. ``frames`` None: those the experiment names, looked up beside it.

    Without an ``experiment`` the headers of the frames say the geometry.

    ``holdout`` leaves spots out of the fit and scores them: "none", "fraction" (a seeded draw of ``holdout_fraction``
    of the reflections; each ``holdout_index`` draws others) or "frame" (frame index modulo ``holdout_modulus`` equal to
    ``holdout_index``).
    """

    experiment: str | None = None  # None: the geometry is what the headers of the frames say
    frames: str | None = None
    amplitudes: str = "none"
    column: str | None = None  # of the file of amplitudes; None: the measured one that stands first
    mask: str | None = None
    spots: str | None = None
    frame_range: tuple[int, int] | None = None  # inclusive, counted from 0
    holdout: Literal["none", "fraction", "frame"] = "none"
    holdout_fraction: float = 0.2
    holdout_modulus: int = 3
    holdout_index: int = 0
    dmin: float = 0.0  # Å, 0: as far as the detector reaches
    gain: float | None = None  # ADU a photon; None: from the experiment, or estimated for an integrating detector
    readout_noise: float | None = None  # ADU; None: 0 for a counting detector, else estimated
    still: bool = False  # treat single frames of a scan as stills at mid-oscillation

    def __post_init__(self) -> None:
        limits = {"frame_range": NOT_NEGATIVE, "holdout_fraction": Limit(0, 0.9, above=True)}
        limits |= {"holdout_modulus": Limit(2)}
        check("data", self, limits)
        parts = int(1 / self.holdout_fraction + 1e-9) if self.holdout == "fraction" else self.holdout_modulus
        limits = {"holdout_index": Limit(0, parts - 1)}
        limits |= {"dmin": NOT_NEGATIVE, "gain": POSITIVE, "readout_noise": NOT_NEGATIVE}
        check("data", self, limits)


@dataclass(frozen=True)
class CrystalSettings:
    """Start values that an .expt does not carry. None: estimated from the width of the spots, and said."""

    cell: tuple[float, float, float, float, float, float] | None = None  # Å, degrees, where no .expt has a crystal
    space_group: str | None = None
    n_cells: tuple[float, float, float] | None = None
    mosaic: Literal["isotropic", "anisotropic"] = "isotropic"
    mosaic_spread: float | tuple[float, float, float] | None = None  # degrees; three about a*, c × a* and c
    mosaic_domains: int = 0  # 0: one without mosaic spread, else as many as the data need
    cell_restraint: float | None = None  # relative sigma that ties the cell to the experiment's; None: free

    def __post_init__(self) -> None:
        self._check_symmetry()
        limits = {"cell": POSITIVE, "n_cells": POSITIVE, "mosaic_spread": NOT_NEGATIVE, "mosaic_domains": NOT_NEGATIVE}
        check("crystal", self, limits | {"cell_restraint": POSITIVE})
        if isinstance(self.mosaic_spread, tuple) and self.mosaic == "isotropic":
            raise ConfigError(
                f"crystal.mosaic_spread={list(self.mosaic_spread)}",
                "an isotropic spread is one number",
                "Give one, or crystal.mosaic=anisotropic",
            )

    def _check_symmetry(self) -> None:
        import gemmi

        if self.space_group is not None and gemmi.find_spacegroup_by_name(self.space_group) is None:
            raise ConfigError(
                f"crystal.space_group={self.space_group}", "it is no known space group", "Write it as P43212 or C 1 2 1"
            )


@dataclass(frozen=True)
class BeamSettings:
    """``spectrum``: (offset in Å, weight) pairs around the experiment's wavelength."""

    spectrum: tuple[tuple[float, float], ...] = ((0.0, 1.0),)

    def __post_init__(self) -> None:
        not_empty("beam", self, "spectrum")


@dataclass(frozen=True)
class DetectorSettings:
    """``levels`` of the hierarchy that move as rigid bodies: 0 is the whole detector, 1 its children, …, "panels"."""

    levels: tuple[int | str, ...] = (0,)
    layers: int = 4  # of the sensor, where it has a thickness
    parallax: Parallax = "layers"

    def __post_init__(self) -> None:
        not_empty("detector", self, "levels")
        check("detector", self, {"levels": NOT_NEGATIVE, "layers": ONE_OR_MORE})


@dataclass(frozen=True)
class RenderingSettings:
    """How a shoebox is rendered; see nbtorch.config.RenderSettings."""

    shape: Shape = "gauss_hkl"
    oversample: int | None = None  # None: from the crystal size, at most 3
    phi_steps: int | None = None  # spindle steps a frame; None: from frame width and mosaic spread
    precision: Precision = "double"
    backend: Backend = "auto"

    def __post_init__(self) -> None:
        check("render", self, {"oversample": ONE_OR_MORE, "phi_steps": ONE_OR_MORE})


@dataclass(frozen=True)
class ParameterSettings:
    """Which parameters are free. Each word is a switch; ``fix`` and ``free`` name single ones (shell patterns).

    ``restrain``: name or pattern → sigma, or (target, sigma), in the parameter's unit. ``bounds``: name or pattern →
    (lower, upper), None where there is none. ``tie``: groups of names or patterns that have one value.
    ``scan_varying``: of orientation and cell, those that may be curves in the spindle angle, with a knot about every
    ``knot_spacing`` degrees. ``amplitudes``: |F| of the reflections whose spots are fitted, each restrained to the
    given one by ``amplitude_sigma`` of it; with ``friedel`` mates share one.
    """

    orientation: bool = True
    cell: bool = True
    n_cells: bool = True
    mosaic_spread: bool = False
    detector_shift: bool = False
    detector_rotation: bool = False
    beam_direction: bool = False
    wavelength: bool = False
    spectrum_offset: bool = False
    bandwidth: bool = False
    polarization: bool = False
    scan_varying: tuple[ScanVarying, ...] = ()
    knot_spacing: float = 10.0
    scale: ScaleKind = "auto"
    n_cells_tie: Literal["independent", "size"] = "independent"
    fix: tuple[str, ...] = ()
    free: tuple[str, ...] = ()
    restrain: Mapping[str, float | tuple[float, float]] = field(default_factory=dict)
    bounds: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    tie: tuple[str | tuple[str, ...], ...] = ()
    amplitudes: bool = False
    amplitude_sigma: float | None = 0.1
    friedel: bool = True

    def __post_init__(self) -> None:
        check("parameters", self, {"knot_spacing": POSITIVE, "amplitude_sigma": POSITIVE})
        if self.amplitudes and self.scale == "spot":
            raise ConfigError(
                "parameters.amplitudes=true parameters.scale=spot",
                "a spot's scale and its amplitude are one number",
                "Give parameters.scale=frame, so that every crystal has one scale",
            )
        for name, held in self.restrain.items():
            sigma = held[1] if isinstance(held, tuple) else held
            if sigma <= 0:
                raise ConfigError(
                    f"parameters.restrain: {name}: {list(held) if isinstance(held, tuple) else held}",
                    f"a restraint's sigma must be more than 0, not {sigma:g}",
                    "Give the sigma, or [target, sigma]; parameters.fix holds a value altogether",
                )
        for name, (low, high) in self.bounds.items():
            if low is not None and high is not None and low >= high:
                raise ConfigError(
                    f"parameters.bounds: {name}: [{low:g}, {high:g}]", "no value lies between", "Give [lower, upper]"
                )
        for kind in self.scan_varying:
            if not getattr(self, kind):
                raise ConfigError(
                    f"parameters.scan_varying=[{kind}]", f"parameters.{kind} is false", f"Give parameters.{kind}=true"
                )
        if self.spectrum_offset and self.wavelength:
            raise ConfigError(
                "parameters.spectrum_offset=true parameters.wavelength=true",
                "they are one number: both shift every wavelength alike",
                "Give one of them",
            )


@dataclass(frozen=True)
class LossSettings:
    """``kind`` of the residuals. ``model_error`` is the fraction of a spot's signal by which its shape may be wrong.

    "poisson": counts. "gaussian": gain·model + read-out variance. "robust": as gaussian or poisson by detector, with
    spots that the model does not explain weighted down.
    """

    kind: Literal["auto", "poisson", "gaussian", "robust"] = "auto"
    model_error: float | None = None  # None: estimated from the spots
    background: Literal["auto", "plane", "constant"] = "auto"
    box_half_width: int | None = None  # pixels; None: from the width of the spots
    min_counts: float = 10.0  # of a predicted spot to be worth a shoebox, where amplitudes are known

    def __post_init__(self) -> None:
        check("loss", self, {"model_error": NOT_NEGATIVE, "box_half_width": ONE_OR_MORE, "min_counts": NOT_NEGATIVE})


FEWEST_DRAWINGS = 10


@dataclass(frozen=True)
class SolverSettings:
    """``kind``: lm (Levenberg–Marquardt), lbfgs or adam. A stage has converged when a step lowers the loss by less than
    ``tolerance`` of it, or moves the parameters by less than ``step_tolerance`` of their joint sigma."""

    kind: Literal["lm", "lbfgs", "adam"] = "lm"
    max_iterations: int = 40
    tolerance: float = 3e-6
    step_tolerance: float = 0.02
    learning_rate: float = 0.05  # adam, in units of each parameter's step
    coarse: bool = True  # positions first, then pixels
    coarse_rounds: int = 6
    bootstrap: int = 100  # drawings that check the sandwich's sigmas, where those are the ones to stand by; 0: none

    def __post_init__(self) -> None:
        limits = dict.fromkeys(("max_iterations", "coarse_rounds"), ONE_OR_MORE)
        limits["bootstrap"] = NOT_NEGATIVE
        check("solver", self, limits | dict.fromkeys(("tolerance", "step_tolerance", "learning_rate"), POSITIVE))
        if 0 < self.bootstrap < FEWEST_DRAWINGS:
            raise ConfigError(
                f"solver.bootstrap={self.bootstrap}",
                "so few drawings do not tell a width",
                f"Give {FEWEST_DRAWINGS} or more, or 0 for none",
            )


@dataclass(frozen=True)
class FitSettings:
    """Everything a fit needs to know."""

    data: DataSettings = field(default_factory=DataSettings)
    geometry: GeometrySettings = field(default_factory=GeometrySettings)
    crystal: CrystalSettings = field(default_factory=CrystalSettings)
    beam: BeamSettings = field(default_factory=BeamSettings)
    detector: DetectorSettings = field(default_factory=DetectorSettings)
    render: RenderingSettings = field(default_factory=RenderingSettings)
    parameters: ParameterSettings = field(default_factory=ParameterSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    solver: SolverSettings = field(default_factory=SolverSettings)
    advanced: AdvancedSettings = field(default_factory=AdvancedSettings)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.data.experiment and not self.data.frames:
            raise ConfigError(
                "neither data.experiment nor data.frames",
                "there is nothing to refine",
                "Give data.experiment=start.expt, or data.frames='run/*.cbf' whose headers say the geometry",
            )
        if self.data.experiment and self.geometry.stated():
            raise ConfigError(
                f"geometry.{next(iter(self.geometry.stated()))} with data.experiment",
                "the .expt states the geometry; geometry.* stands in for the headers of frames",
                "Leave one of them out",
            )
        if self.parameters.amplitudes and self.data.amplitudes == "none":
            raise ConfigError(
                "parameters.amplitudes=true",
                "there are no amplitudes to begin with",
                "Give data.amplitudes=FILE, such as F.mtz",
            )
        spread = self.crystal.mosaic_spread
        if self.crystal.mosaic == "anisotropic" and not (self.parameters.mosaic_spread or isinstance(spread, tuple)):
            raise ConfigError(
                "crystal.mosaic=anisotropic",
                "nothing makes its three spreads differ",
                "Give parameters.mosaic_spread=true, or three numbers as crystal.mosaic_spread",
            )
        if len(self.beam.spectrum) < 2 and self.parameters.bandwidth:
            raise ConfigError(
                "parameters.bandwidth=true",
                "a spectrum of one wavelength has no width to refine",
                "Give beam.spectrum=[[offset in Å, weight], …] two entries or more, or beam=cu_kalpha",
            )
