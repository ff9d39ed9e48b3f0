"""What a user states: frozen dataclasses that validate and derive nothing.

Lengths are mm, cell and wavelength Å, angles degrees. Directions are in the lab frame of the file or
convention they came from; nothing here assumes which way the beam travels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from nbtorch.checks import Vec3, across, choice, direction, positive
from nbtorch.errors import ConfigError, GeometryError

Mat3 = tuple[Vec3, Vec3, Vec3]
Shape = Literal["square", "round", "gauss", "tophat", "gauss_hkl"]
Interpolation = Literal["nearest", "tricubic"]
Backend = Literal["auto", "reference", "native", "triton"]
Precision = Literal["auto", "double", "fast"]
Mode = Literal["exact", "cached", "running"]
Averaging = Literal["sampled", "closed"]
PhiSampling = Literal["midpoint", "left"]
CellConstruction = Literal["exact", "nanobragg"]

IDENTITY: Mat3 = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True)
class PanelConfig:
    """One flat panel. ``origin`` is the outer corner of pixel (0, 0) in mm, axes are lab directions.

    ``normal`` defaults to unit(fast × slow). ``attenuation_length`` is 1/µ in mm (inf: no sensor). ``mask`` holds
    half-open rectangles (fast0, slow0, fast1, slow1) of pixels that were not measured.
    Raises GeometryError for axes of no length or parallel axes, ConfigError for sizes that are not positive.
    """

    fast_axis: Vec3
    slow_axis: Vec3
    origin: Vec3
    pixel_size: tuple[float, float]  # mm, (fast, slow)
    size: tuple[int, int]  # pixels, (fast, slow)
    name: str = "panel"
    normal: Vec3 | None = None
    thickness: float = 0.0  # mm
    attenuation_length: float = math.inf  # mm
    material: str = ""
    trusted_range: tuple[float, float] = (-math.inf, math.inf)
    gain: float = 1.0
    pedestal: float = 0.0
    mask: tuple[tuple[int, int, int, int], ...] = ()
    raw_image_offset: tuple[int, int] = (0, 0)  # pixels (fast, slow): where the panel starts in an image it shares

    def __post_init__(self) -> None:
        direction(f"fast_axis of panel {self.name}", self.fast_axis)
        direction(f"slow_axis of panel {self.name}", self.slow_axis)
        f, s = self.fast_axis, self.slow_axis
        cross = (f[1] * s[2] - f[2] * s[1], f[2] * s[0] - f[0] * s[2], f[0] * s[1] - f[1] * s[0])
        if math.hypot(*cross) < 1e-6 * math.hypot(*f) * math.hypot(*s):
            raise GeometryError(
                f"panel {self.name}", "its fast and slow axes are parallel", "Give two different directions"
            )
        for value in (*self.pixel_size, *self.size):
            positive(f"pixel size or count of panel {self.name}", value)
        positive(f"thickness of panel {self.name}", self.thickness, zero=True)
        if not self.attenuation_length > 0:
            given = f"attenuation_length={self.attenuation_length} of panel {self.name}"
            raise ConfigError(given, "it must be more than zero; inf is no sensor", "Change attenuation_length")


@dataclass(frozen=True)
class PanelGroup:
    """A node of the detector hierarchy: a rigid body made of ``panels`` (indices) and of its ``children``."""

    name: str
    panels: tuple[int, ...] = ()
    children: tuple[PanelGroup, ...] = ()

    def all_panels(self) -> tuple[int, ...]:
        """Indices of every panel in this group and below."""
        below = (index for child in self.children for index in child.all_panels())
        return tuple(sorted((*self.panels, *below)))

    def walk(self) -> Iterator[tuple[int, PanelGroup]]:
        """(depth, group) of this group and every group below it, root first."""
        yield 0, self
        for child in self.children:
            for depth, group in child.walk():
                yield depth + 1, group


@dataclass(frozen=True)
class DetectorConfig:
    """Panels and how they are grouped. ``layers`` slices the sensor; ``curved`` bends it around the sample.

    ``curved_distance`` (mm) is the radius it is bent to, by default where the beam meets the panel's plane.
    """

    panels: tuple[PanelConfig, ...]
    hierarchy: PanelGroup | None = None
    layers: int = 1
    curved: bool = False
    point_pixel: bool = False
    layer_step: float | None = None  # mm; None: thickness / layers
    curved_distance: float | None = None  # nanoBragg's own differs from the default on a 2θ arm

    def __post_init__(self) -> None:
        if not self.panels:
            raise ConfigError("a detector", "it has no panel", "Give at least one panel")
        positive("layers", self.layers)
        if self.layer_step is not None:
            positive("layer_step", self.layer_step)
        if self.curved_distance is not None and not self.curved:
            raise ConfigError(
                "curved_distance of a flat detector", "nothing is bent to it", "Set curved, or leave it out"
            )
        bare = [p.name for p in self.panels if not (p.thickness > 0 and math.isfinite(p.attenuation_length))]
        if bare and (self.layers > 1 or self.layer_step is not None):
            # without a sensor every layer would capture all the light, and so count it `layers` times
            raise ConfigError(
                f"layers={self.layers}, layer_step={self.layer_step}",
                f"panel {bare[0]} has no sensor to slice (thickness or attenuation_length is missing)",
                "Take one layer, or give the sensor",
            )


@dataclass(frozen=True)
class SourceConfig:
    """One point source: ``direction`` from the sample to the source, wavelength in Å, relative weight."""

    direction: Vec3
    wavelength: float
    weight: float = 1.0

    def __post_init__(self) -> None:
        direction("source direction", self.direction)
        positive("source wavelength", self.wavelength)


@dataclass(frozen=True)
class BeamConfig:
    """The incident beam. ``direction`` is the direction of travel, ``polarization_axis`` the E vector.

    ``kahn_factor`` K is in [-1, 1]; None switches the polarization factor off (nanoBragg's -nopolar).
    ``spectrum`` holds (wavelength offset in Å, weight); ``divergence`` holds (horizontal, vertical) in mrad with a
    weight; sources are their product, unless ``sources`` gives them one by one: ``wavelength`` is then nominal.
    Raises GeometryError for a polarization axis along the beam, ConfigError for values out of range.
    """

    wavelength: float
    direction: Vec3 = (1.0, 0.0, 0.0)
    polarization_axis: Vec3 = (0.0, 0.0, 1.0)
    kahn_factor: float | None = 0.0
    fluence: float = 125932015286227086360700780544.0  # photons / m²
    spectrum: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    divergence: tuple[tuple[float, float, float], ...] = ((0.0, 0.0, 1.0),)
    sources: tuple[SourceConfig, ...] = ()

    def __post_init__(self) -> None:
        positive("wavelength", self.wavelength)
        positive("fluence", self.fluence, zero=True)
        direction("beam direction", self.direction)
        direction("polarization axis", self.polarization_axis)
        for travel in (self.direction, *(source.direction for source in self.sources)):
            across("polarization axis", self.polarization_axis, travel)
        if self.sources and (self.spectrum, self.divergence) != (((0.0, 1.0),), ((0.0, 0.0, 1.0),)):
            raise ConfigError(
                "sources with a spectrum or a divergence", "sources are explicit", "Give one or the other"
            )
        if self.kahn_factor is not None and not -1.0 <= self.kahn_factor <= 1.0:
            raise ConfigError(f"kahn_factor={self.kahn_factor}", "it lies outside -1 … 1", "Use 2·fraction − 1")


@dataclass(frozen=True)
class GoniometerConfig:
    """R(phi) = setting · rotation(axis, phi) · fixed, applied to column vectors in the lab frame."""

    axis: Vec3 = (0.0, 0.0, 1.0)
    fixed_rotation: Mat3 = IDENTITY
    setting_rotation: Mat3 = IDENTITY

    def __post_init__(self) -> None:
        direction("spindle axis", self.axis)


@dataclass(frozen=True)
class Exposure:
    """The spindle range of one image: ``steps`` positions over phi_start … phi_start + oscillation (degrees).

    ``sampling`` "left" puts step j at phi_start + j·step (nanoBragg), "midpoint" at j + ½ (the fit's default).
    ``reuse_stale_at_zero`` computes a step at phi exactly 0 at the angle of the step before it, as nanoBragg does.
    """

    phi_start: float = 0.0
    oscillation: float = 0.0
    steps: int = 1
    sampling: PhiSampling = "midpoint"
    reuse_stale_at_zero: bool = False

    def __post_init__(self) -> None:
        choice("phi sampling", self.sampling, ("midpoint", "left"))
        positive("spindle steps", self.steps)


@dataclass(frozen=True)
class ScanConfig:
    """A rotation scan: frame f (counted from 0) covers phi_start + f·oscillation … + oscillation (degrees)."""

    phi_start: float
    oscillation: float
    n_frames: int
    first_image: int = 1  # the number that the first frame has in its file name

    def exposure(self, frame: int, steps: int = 1) -> Exposure:
        """The exposure of frame ``frame`` (from 0) in ``steps`` midpoint steps."""
        return Exposure(self.phi_start + frame * self.oscillation, self.oscillation, steps)


@dataclass(frozen=True)
class MosaicConfig:
    """``domains`` orientations within ``spread`` degrees.

    "antithetic" pairs ±v in the crystal frame (zero mean; the fit's); "nanobragg" is the original's set for ``seed``,
    applied after the spindle. A spread of three numbers is anisotropic: about a*, c × a* and c, which are at right
    angles and fixed in the crystal (docs/physics.md §3.3); it is for the antithetic set alone.
    """

    spread: float | Vec3 = 0.0
    domains: int = 1
    kind: Literal["antithetic", "nanobragg"] = "antithetic"
    seed: int = -12345678

    @property
    def anisotropic(self) -> bool:
        """Whether the spread has three numbers."""
        return isinstance(self.spread, tuple)

    def __post_init__(self) -> None:
        spreads = self.spread if isinstance(self.spread, tuple) else (self.spread,)
        for spread in spreads:
            positive("mosaic spread", spread, zero=True)
        positive("mosaic domains", self.domains)
        choice("mosaic kind", self.kind, ("antithetic", "nanobragg"))
        if len(spreads) not in (1, 3):
            raise ConfigError(f"mosaic spread {self.spread}", "it has neither one number nor three", "Give 1 or 3")
        if max(spreads) > 0 and self.domains == 1:
            raise ConfigError(f"mosaic spread {self.spread}", "one domain cannot spread", "Take two domains or more")
        if self.anisotropic and self.kind != "antithetic":
            raise ConfigError(
                f"mosaic spread {self.spread} of the nanobragg set", "that set is isotropic", "Use kind antithetic"
            )
        if self.kind == "antithetic" and self.seed != MosaicConfig.seed:
            raise ConfigError(f"mosaic seed {self.seed}", "the antithetic set draws nothing", "Leave the seed out")


@dataclass(frozen=True)
class CrystalConfig:
    """The crystal at goniometer zero.

    ``cell`` a b c (Å) α β γ (degrees); ``orientation`` U turns the cell's standard setting (a* along x, b* in the xy
    plane) into the lab; ``misset`` are rotations about lab x, then y, then z, applied after U (degrees).
    ``n_cells`` is the crystal size in unit cells along a, b, c; ``fudge`` multiplies ρ² of every shape but square.
    Raises GeometryError for a cell of no volume.
    """

    cell: tuple[float, float, float, float, float, float]
    orientation: Mat3 = IDENTITY
    misset: Vec3 = (0.0, 0.0, 0.0)
    n_cells: Vec3 = (1.0, 1.0, 1.0)
    shape: Shape = "square"
    fudge: float = 1.0
    mosaic: MosaicConfig = field(default_factory=MosaicConfig)
    goniometer: GoniometerConfig = field(default_factory=GoniometerConfig)
    construction: CellConstruction = "exact"
    space_group: str = "P 1"
    # dxtbx scan-varying models: real-space A matrices (rows a, b, c) at the scan points, empty when constant
    scan_points: tuple[Mat3, ...] = ()
    # spindle angles (degrees, rising) at which a crystal that drifts during its scan has a rotation and a cell of its
    # own, joined by natural cubic splines; empty when constant
    knots: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        a, b, c, *angles = self.cell
        for length in (a, b, c):
            positive("cell length", length)
        ca, cb, cg = (math.cos(math.radians(angle)) for angle in angles)
        volume_squared = 1 - ca * ca - cb * cb - cg * cg + 2 * ca * cb * cg
        if not math.isfinite(volume_squared) or volume_squared < 1e-12:
            raise GeometryError(
                f"cell {' '.join(f'{x:g}' for x in self.cell)}", "it encloses no volume", "Check the three angles"
            )
        choice("shape", self.shape, ("square", "round", "gauss", "tophat", "gauss_hkl"))
        choice("cell construction", self.construction, ("exact", "nanobragg"))
        for n in self.n_cells:
            positive("n_cells", n)
        if len(self.knots) == 1 or any(not b - a > 1e-6 for a, b in pairwise(self.knots)):
            raise ConfigError(f"knots={self.knots}", "a curve needs two angles or more, rising", "Change knots")


@dataclass(frozen=True)
class LatticeSettings:
    """How the lattice sum is computed. Shape, interpolation, default_F and dmin change the answer; the rest the cost.

    ``precision``: "double" keeps every step in float64, "fast" uses float32 lanes around float64 anchors, "auto"
    follows the dtype of the inputs. ``culling`` skips contributions under that fraction of the peak, in the compact
    shapes only; 0 switches it off.
    """

    shape: Shape = "square"
    interpolation: Interpolation = "nearest"
    default_F: float = 0.0
    dmin: float = 0.0  # Å
    precision: Precision = "auto"
    culling: float = 1e-10
    backend: Backend = "auto"

    def __post_init__(self) -> None:
        choice("shape", self.shape, ("square", "round", "gauss", "tophat", "gauss_hkl"))
        choice("interpolation", self.interpolation, ("nearest", "tricubic"))
        choice("precision", self.precision, ("auto", "double", "fast"))
        choice("backend", self.backend, ("auto", "reference", "native", "triton"))


@dataclass(frozen=True)
class RenderSettings:
    """How samples become pixels.

    ``mode`` decides how capture, polarization and solid angle enter (docs/physics.md §1.1); the three ``running_*``
    flags belong to mode "running". ``oversample`` None chooses from the crystal size. ``water`` is the size (mm) of a
    cube of water in the beam. ``block_bytes`` bounds the memory of a block of samples; it never changes a value.
    ``averaging`` "closed" takes the mean over spreads as one Gaussian (docs/closed_form.md): ``relinearize`` None lets
    the spreads decide whether it is linearized once more, ``pixel_box`` averages over the pixel, in ``oversample``
    sub-pixels or more where spots are narrow; without it the sub-pixels are points.
    """

    mode: Mode = "exact"
    averaging: Averaging = "sampled"
    relinearize: bool | None = None
    pixel_box: bool = True
    oversample: int | None = 1
    running_thick: bool = False
    running_polar: bool = False
    running_omega: bool = False
    interpolation: Interpolation = "nearest"
    dmin: float = 0.0
    water: float = 0.0
    precision: Precision = "auto"
    culling: float = 1e-10
    backend: Backend = "auto"
    block_bytes: int = 256 * 2**20

    def __post_init__(self) -> None:
        choice("mode", self.mode, ("exact", "cached", "running"))
        choice("averaging", self.averaging, ("sampled", "closed"))
        if self.averaging == "sampled" and (self.relinearize is not None or not self.pixel_box):
            raise ConfigError(
                "relinearize or pixel_box with averaging='sampled'",
                "they belong to the closed form",
                'Use averaging="closed", or leave them out',
            )
        choice("interpolation", self.interpolation, ("nearest", "tricubic"))
        choice("precision", self.precision, ("auto", "double", "fast"))
        choice("backend", self.backend, ("auto", "reference", "native", "triton"))
        for name in ("dmin", "water", "culling"):
            positive(name, getattr(self, name), zero=True)
        positive("block_bytes", self.block_bytes)
        if self.oversample is not None:
            positive("oversample", self.oversample)
        if self.mode != "running" and (self.running_thick or self.running_polar or self.running_omega):
            raise ConfigError(
                f"running_* with mode={self.mode!r}", "only the running sum has them", 'Use mode="running"'
            )
