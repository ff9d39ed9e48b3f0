"""The closed form of an experiment: its tensors, and what its spreads ask for. docs/closed_form.md.

Every decision looks at the whole detector, never at the pixels that are rendered: full frame, ROI and shoeboxes agree.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nbtorch.config import Exposure, RenderSettings
from nbtorch.errors import ConfigError
from nbtorch.functional import profile
from nbtorch.functional.profile import BOX_VARIANCE, Covariances, Linear, Place
from nbtorch.functional.rotation import unit
from nbtorch.kernels.profile_reference import ProfileSettings, ProfileTensors, place_covariance
from nbtorch.kernels.reference import PanelFrames
from nbtorch.models.crystal import spindle_angles
from nbtorch.models.experiment import Experiment
from nbtorch.models.spreads import Spreads
from nbtorch.units import DEGREES, MILLIRADIANS

CLOSED_SHAPES = ("gauss", "gauss_hkl")
PIECE = 1.0  # degrees: a longer spindle range is cut into pieces, each linearized on its own
REACH = 5.0  # rms widths: a reflection farther away has less than 4e-6 of its peak
CUT = 1e-8  # of a reflection's peak: the C kernel leaves terms below it out, unless culling is off
RELINEARIZE_ABOVE = 1e-3  # second order of the shifts, in rms widths of a spot; the error of the peak is about half
SUBPIXEL = 0.8  # rms widths of a spot: a wider sub-pixel is not taken as its variance
MOST_SUBPIXELS = 32  # along one axis
MOST_REFLECTIONS = 4096  # that are summed in one sample
_PROBES = 3  # places along each edge of a panel that decisions look at


class Closed(NamedTuple):
    """The closed form of one exposure, and the sub-pixels it takes."""

    tensors: ProfileTensors
    settings: ProfileSettings
    oversample: int


def require_closed(experiment: Experiment, settings: RenderSettings) -> None:
    """Raises ConfigError where ``experiment`` has no closed form under ``settings``."""
    crystal, detector = experiment.crystal.config, experiment.detector.config
    coupled = experiment.spreads is not None and crystal.shape != "gauss_hkl"
    refusals = (
        (
            crystal.shape not in CLOSED_SHAPES,
            f"shape={crystal.shape!r}",
            "only a Gaussian has one",
            "gauss_hkl or gauss",
        ),
        (settings.mode != "exact", f"mode={settings.mode!r}", "parity modes sum samples", 'mode="exact"'),
        (settings.interpolation != "nearest", "interpolation='tricubic'", "F must be one number a spot", "nearest"),
        (detector.curved, "a curved detector", "its pixels are not moved along two axes", "flat panels"),
        (crystal.mosaic.kind != "antithetic", "nanoBragg's mosaic set", "it is not normal", 'kind="antithetic"'),
        (experiment.exposure.reuse_stale_at_zero, "reuse_stale_at_zero", "it belongs to steps", "leave it out"),
        (
            coupled and bool((experiment.spreads.coupling != 0).any()),  # type: ignore[union-attr]
            f"coupling of shape={crystal.shape!r}",
            "its metric is not made of N",
            "gauss_hkl",
        ),
    )
    for refused, given, why, instead in refusals:
        if refused:
            raise ConfigError(f"{given} with averaging='closed'", why, f"Use {instead}, or averaging='sampled'")
    _require_values(experiment)


def _require_values(experiment: Experiment) -> None:
    """Raises ConfigError for N below 1, and for a variance that is negative or not finite."""
    crystal, spreads = experiment.crystal, experiment.spreads
    if not bool((crystal.n_cells.detach() >= 1).all()):
        given = [round(n, 4) for n in crystal.n_cells.tolist()]
        raise ConfigError(f"n_cells={given} with averaging='closed'", "a crystal has one cell or more", "Raise n_cells")
    if not bool(torch.isfinite(crystal.mosaic_spread.detach()).all()):
        raise ConfigError("mosaic_spread", "it is not finite", "Change mosaic_spread")
    if spreads is None:
        return
    for name in ("mosaic", "bandwidth", "divergence", "cell", "point_spread"):
        value = getattr(spreads, name).detach()
        if not bool((torch.isfinite(value) & (value >= 0)).all()):
            raise ConfigError(f"variance {name}={value.tolist()}", "it is negative or not finite", f"Bound {name} at 0")


def closed(experiment: Experiment, settings: RenderSettings, exposure: Exposure) -> Closed:
    """The closed form of ``exposure``. Raises ConfigError where there is none; see :func:`require_closed`."""
    require_closed(experiment, settings)
    tensors, span = profile_tensors(experiment, exposure)
    choices = ProfileSettings(
        span=span,
        default_F=experiment.structure_factors.default_F,
        dmin=settings.dmin,
        culling=settings.culling,
        cut=max(settings.culling, CUT) if settings.culling else 0.0,
        backend=settings.backend,
    )
    with torch.no_grad():
        needs = _needs(experiment, tensors, span)
        oversample = settings.oversample or 1
        if settings.pixel_box:
            oversample = max(oversample, _subpixels(needs.width))
    if settings.pixel_box:
        tensors = tensors._replace(pixel=tensors.pixel + BOX_VARIANCE / oversample**2)
    iterated = needs.bent > RELINEARIZE_ABOVE if settings.relinearize is None else settings.relinearize
    choices = replace(
        choices, reach=_reach(REACH * needs.rms + needs.swept), iterated=iterated, **_limits(needs, settings.culling)
    )
    return Closed(tensors, choices, oversample)


def _limits(needs: _Needs, culling: float) -> dict[str, Any]:
    """Beyond what offset a reflection has less than ``culling`` of its peak; nowhere where that is 0."""
    if culling == 0:
        return {}
    rms = math.sqrt(-2 * math.log(min(culling, 0.1)))
    extent = (rms * needs.rms + needs.swept).tolist()
    return {"extent": (extent[0], extent[1], extent[2]), "radial": rms * needs.radial}


def profile_tensors(experiment: Experiment, exposure: Exposure) -> tuple[ProfileTensors, float]:
    """The tensors of ``exposure``, without the pixel's box, and the span (radians) of a piece of its spindle range."""
    crystal, beam = experiment.crystal, experiment.beam
    spreads = experiment.spreads or _no_spreads(experiment)
    count = max(math.ceil(abs(exposure.oscillation) / PIECE - 1e-9), exposure.steps if crystal.drifts else 1, 1)
    pieces = Exposure(exposure.phi_start, exposure.oscillation, count)
    direct, reciprocal = crystal.vectors()
    there = crystal.vectors_at(spindle_angles(pieces, crystal.cell))[0] if crystal.drifts else direct
    turn = crystal.spindle_rotations(pieces)
    axes = crystal.lab_rotation()
    along = turn @ axes
    incident, wavelength, _ = beam.sources()
    mosaic = (crystal.mosaic_spread**2 + spreads.mosaic) * DEGREES**2
    metric, peak = _metric(experiment, spreads, reciprocal)
    intrinsic = profile.reflection_covariance(metric)
    own = direct @ axes @ spreads.covariance_matrix() @ (direct @ axes).transpose(-1, -2)
    lines = len(wavelength) if beam.config.sources else len(beam.config.spectrum)
    tensors = ProfileTensors(
        wavelength=wavelength,
        bandwidth=spreads.of_sources(len(wavelength), lines),
        divergence=_divergence(experiment, incident, spreads.divergence * MILLIRADIANS**2),
        basis=there @ turn.transpose(-1, -2),
        mosaic=along * mosaic @ along.transpose(-1, -2),
        spindle=crystal.setting_rotation @ unit(crystal.spindle_axis),
        intrinsic=intrinsic + own,
        cell=spreads.cell,
        pixel=spreads.point_spread,
        scale=peak * torch.sqrt(profile.inverse_and_determinant(intrinsic)[1]),
        table=experiment.structure_factors.table(),
    )
    return tensors, exposure.oscillation / count * DEGREES


def _no_spreads(experiment: Experiment) -> Spreads:
    like = experiment.crystal.cell
    return Spreads(dtype=like.dtype, device=like.device).requires_grad_(False)


def _metric(experiment: Experiment, spreads: Spreads, reciprocal: Tensor) -> tuple[Tensor, Tensor]:
    """The metric [3, 3] of ρ², and the peak [] of F_latt²: det(N)², N with its off-diagonal."""
    crystal = experiment.crystal
    if crystal.config.shape != "gauss_hkl":
        return crystal.metric(reciprocal), crystal.n_cells.prod() ** 2
    ab, ac, bc = spreads.coupling.unbind()
    none = torch.zeros_like(ab)
    off = torch.stack([torch.stack([none, ab, ac]), torch.stack([ab, none, bc]), torch.stack([ac, bc, none])])
    cells = torch.diag(crystal.n_cells) + off
    determinant = profile.inverse_and_determinant(cells)[1]
    if not bool(determinant.detach() > 0) or not bool(cells.detach()[0, 0] * cells.detach()[1, 1] > ab.detach() ** 2):
        raise ConfigError(
            f"coupling={spreads.coupling.tolist()}", f"N with it is not positive: {cells.tolist()}", "Make it smaller"
        )
    return crystal.config.fudge * (cells @ cells), determinant**2


def _divergence(experiment: Experiment, incident: Tensor, variance: Tensor) -> Tensor:
    """Covariance [S, 3, 3] (rad²) of directions ``incident`` [S, 3] whose two angles have ``variance`` [2] (rad²).

    As sources are turned (docs/physics.md §4): the vertical angle about the polarization vector, the horizontal one
    about unit(beam × polarization).
    """
    polarization = unit(experiment.beam.polarization_axis)
    axis = incident if experiment.beam.config.sources else unit(experiment.beam.direction).expand_as(incident)
    about = unit(torch.linalg.cross(axis, polarization.expand_as(axis)))
    columns = torch.stack(
        [torch.linalg.cross(about, incident), torch.linalg.cross(polarization.expand_as(incident), incident)], dim=-1
    )
    return columns * variance @ columns.transpose(-1, -2)


class _Needs(NamedTuple):
    """What the detector's probes say, the largest of each. rms: [3] of δ, swept: [3] half a piece's, radial: rms (Å⁻¹).

    width: of the narrowest spot (pixels). bent: second order of the shifts (rms widths).
    """

    rms: Tensor
    swept: Tensor
    radial: float
    width: float
    bent: float


def _probes(experiment: Experiment) -> tuple[Tensor, Tensor]:
    """Places [Q, 3] (mm) all over the detector, and the panel [Q] of each."""
    detector = experiment.detector
    frames = detector.frames()
    size = torch.tensor([panel.size for panel in detector.config.panels]).to(frames) * detector.pixel_size
    steps = torch.linspace(0, 1, _PROBES, dtype=frames.dtype, device=frames.device)
    grid = torch.cartesian_prod(steps, steps)
    places = frames[:, None, 3] + (grid[None] * size[:, None]) @ frames[:, :2]
    panel = torch.arange(len(frames), device=frames.device).repeat_interleave(len(grid))
    return places.flatten(0, 1), panel


def _needs(experiment: Experiment, tensors: ProfileTensors, span: float) -> _Needs:
    """How far reflections reach, how narrow spots are and how far from linear the shifts are."""
    places, panel = _probes(experiment)
    incident = experiment.beam.sources()[0]
    place = Place(
        places[:, None, None],
        incident[:, None],
        tensors.wavelength[:, None],
        tensors.basis,
        tensors.spindle,
    )
    panels = experiment.detector.panel_frames()
    steps = panels.frame[panel, :2] * panels.pixel_size[panel][:, :, None]  # [Q, 2, 3] mm a pixel
    psf = place_covariance(panels, panel, tensors.pixel)[:, None, None]
    spreads = Covariances(tensors.mosaic, tensors.bandwidth[:, None], tensors.divergence[:, None], psf, tensors.cell)
    at = profile.linear(place)
    total = profile.covariance(tensors.intrinsic, at, spreads)
    if not bool(torch.isfinite(total).all()):
        raise ConfigError("the experiment", "a spread of it is not finite", "Look for NaN and infinity in it")
    if not bool((torch.linalg.eigvalsh(total)[..., 0] > 0).all()):
        raise ConfigError("the covariance of the crystal", "a reflection's is not positive with it", "Make it smaller")
    box = profile.covariance(tensors.intrinsic, at, spreads._replace(position=psf + _box(panels, panel)))
    rms = box.diagonal(dim1=-2, dim2=-1).sqrt().flatten(0, -2).amax(0)
    half = (at.spindle.abs() * abs(span) / 2).flatten(0, -2).amax(0)
    scattering = _scattering(place)
    # at the direct beam, where q = 0, there is no outward
    out = scattering / scattering.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    outward = profile.times(torch.linalg.inv(place.basis).transpose(-1, -2), out)
    radial = float((outward * profile.times(box, outward)).sum(-1).max().sqrt())
    swept = total + span**2 * BOX_VARIANCE * profile.outer(at.spindle)
    weight = profile.inverse_and_determinant(swept)[0]
    return _Needs(rms, half, radial, _narrowest(at, steps, weight), _bent(place, at, spreads, weight, span))


def _box(panels: PanelFrames, panel: Tensor) -> Tensor:
    """Covariance [Q, 1, 1, 3, 3] (mm²) of a whole pixel's box."""
    return place_covariance(panels, panel, panels.frame.new_tensor(BOX_VARIANCE))[:, None, None]


def _narrowest(at: Linear, steps: Tensor, weight: Tensor) -> float:
    """The narrowest rms width (pixels) of a spot: the least of (PᵀWP)⁻¹ for P the index a pixel moves."""
    moves = at.position @ steps.transpose(-1, -2)[:, None, None]
    sharpness = moves.transpose(-1, -2) @ weight @ moves
    return float(1 / torch.linalg.eigvalsh(sharpness)[..., -1].max().sqrt())


def _bent(place: Place, at: Linear, spreads: Covariances, weight: Tensor, span: float) -> float:
    """The largest second order of the shifts, in rms widths: ½·variance·|∂²h|, the turns about the worst axis."""

    def length(vector: Tensor) -> Tensor:
        return (vector * profile.times(weight, vector)).sum(-1).sqrt()

    turns = torch.linalg.eigvalsh(spreads.mosaic)[..., -1]
    beam = torch.linalg.eigvalsh(spreads.incident)[..., -1]
    spindle = place.spindle.expand_as(at.hkl)
    direct = place.incident / place.wavelength[..., None]
    around = torch.linalg.cross(spindle, torch.linalg.cross(spindle, _scattering(place)))
    second = turns * length(at.hkl) + spreads.wavelength * length(at.hkl)
    second = second + beam / 2 * length(profile.times(place.basis, direct))
    second = second + span**2 * BOX_VARIANCE / 2 * length(profile.times(place.basis, around))
    return float(second.max())


def _scattering(place: Place) -> Tensor:
    """q [..., 3] of ``place``."""
    return (unit(place.position) - place.incident) / place.wavelength[..., None]


def _reach(extent: Tensor) -> tuple[int, int, int]:
    """How many reflections beyond the nearest ``extent`` [3] reaches on each side."""
    h, k, l = (max(0, math.ceil(value - 0.5)) for value in extent.tolist())  # noqa: E741
    if (2 * h + 1) * (2 * k + 1) * (2 * l + 1) > MOST_REFLECTIONS:
        raise ConfigError(
            f"spreads that reach over {h}, {k}, {l} reflections along h, k, l",
            f"more than {MOST_REFLECTIONS} would overlap in every pixel",
            "Give a wide spectrum as several lines, and check the mosaic spread",
        )
    return h, k, l


def _subpixels(width: float) -> int:
    """Sub-pixels along one axis for spots of rms ``width`` (pixels)."""
    count = max(1, math.ceil(1 / (SUBPIXEL * width)))
    if count > MOST_SUBPIXELS:
        raise ConfigError(
            f"spots {width:.2g} pixels wide",
            f"their pixels would need {count} sub-pixels along each axis",
            "Render with pixel_box=False and an oversample of your own, or check n_cells",
        )
    return count
