"""Where the reflections of an experiment fall, differentiable in every parameter of it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nbtorch.config import Exposure, ScanConfig
from nbtorch.errors import ConfigError
from nbtorch.functional import prediction
from nbtorch.functional.prediction import SensorStack, Spindle
from nbtorch.functional.rotation import unit
from nbtorch.models.detector import Detector
from nbtorch.models.experiment import Experiment
from nbtorch.render.samples import layer_step
from nbtorch.units import DEGREES

_BLOCK = 2**20  # rays (reflections × orientations × sources) at once: about 200 MB in double

_NEWTON_ROUNDS = 2  # before the one that is differentiated: each squares an error of a hundredth of a radian or less
_NUDGE = 1e-4  # radians


class Prediction(NamedTuple):
    """Where n reflections fall. fast, slow: [n] pixels, (0, 0) at the corner of the first pixel."""

    fast: Tensor
    slow: Tensor
    phi: Tensor | None  # [n] degrees, spindle angle of the crossing; None for an exposure
    weight: Tensor  # [n] mean excitation over orientations and sources, 0 … 1; 1 for a crossing
    valid: Tensor  # [n] bool: the reflection crosses the sphere, and its ray meets the panel's plane


def predict(
    experiment: Experiment,
    hkl: Tensor,
    panel: Tensor,
    observed_phi: Tensor | None = None,
    exposure: Exposure | None = None,
    parallax: str = "layers",
) -> Prediction:
    """Predict reflections ``hkl`` [n, 3] on panels ``panel`` [n].

    With ``observed_phi`` [n] (degrees): the Ewald crossing nearest to it, for the mean source and no mosaic spread.
    Without: the centroid of the model over ``exposure`` (default: the experiment's), all orientations and sources.
    parallax: "none", "mean" (mean absorption depth), "layers" (what the renderer renders) or "dxtbx".
    Raises ConfigError for an unknown parallax and for a curved detector.
    """
    detector = experiment.detector
    if detector.config.curved:
        raise ConfigError("a curved detector", "spots are predicted on flat panels only", "Describe it by flat panels")
    hkl = hkl.to(detector.origin)
    if observed_phi is not None:
        return _crossings(experiment, hkl, panel, observed_phi.to(hkl), parallax)
    frame = exposure or experiment.exposure
    rays = len(experiment.beam.sources()[1]) * frame.steps * len(experiment.crystal.mosaic)
    size = max(1, _BLOCK // rays)
    blocks = [
        _centroids(experiment, hkl[start : start + size], panel[start : start + size], frame, parallax)
        for start in range(0, max(len(hkl), 1), size)
    ]
    return blocks[0] if len(blocks) == 1 else _join(blocks)


def frame_number(phi: Tensor, scan: ScanConfig) -> Tensor:
    """Frame numbers [n] of spindle angles ``phi`` [n] (degrees); 0.0 is the start of the first frame."""
    return (phi - scan.phi_start) / scan.oscillation


def spindle_angle(frame: Tensor, scan: ScanConfig) -> Tensor:
    """Spindle angles [n] (degrees) of frame numbers ``frame`` [n]; 0.0 is the start of the first frame."""
    return scan.phi_start + frame * scan.oscillation


def spindle_of(experiment: Experiment) -> Spindle:
    """The goniometer of ``experiment`` as prediction takes it."""
    crystal = experiment.crystal
    return Spindle(unit(crystal.spindle_axis), crystal.fixed_rotation, crystal.setting_rotation)


def mean_wave(experiment: Experiment) -> Tensor:
    """k₀ [3] = incident/λ (Å⁻¹) of the mean source: weighted mean direction and wavelength."""
    incident, wavelength, weight = experiment.beam.sources()
    share = weight / weight.sum()
    return unit(share @ incident) / (share @ wavelength)


def sensor_of(detector: Detector, panel: Tensor) -> SensorStack:
    """The sensors of panels ``panel`` [n]."""
    step = layer_step(detector.config, detector.thickness)
    return SensorStack(detector.thickness[panel], detector.absorption[panel], step[panel], detector.config.layers)


def _crossings(experiment: Experiment, hkl: Tensor, panel: Tensor, observed: Tensor, parallax: str) -> Prediction:
    crossing = _drifting_crossing if experiment.crystal.drifts else _constant_crossing
    ray, angle, crosses = crossing(experiment, hkl, observed * DEGREES, observed * DEGREES)
    fast, slow, meets = _on_panels(experiment.detector, ray, panel, parallax)
    return Prediction(fast, slow, angle / DEGREES, torch.ones_like(fast), crosses & meets)


def _constant_crossing(
    experiment: Experiment, hkl: Tensor, angle: Tensor, observed: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(ray [n, 3], angle [n], valid [n]) of the crossing nearest to ``observed`` [n], of the crystal as it is when the
    spindle is at ``angle`` [n]; radians."""
    reciprocal = experiment.crystal.reflections(hkl, angle / DEGREES)
    return prediction.crossing_prediction(reciprocal, mean_wave(experiment), spindle_of(experiment), observed)


def _drifting_crossing(
    experiment: Experiment, hkl: Tensor, angle: Tensor, observed: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`_constant_crossing` of the crystal as it is at the crossing: angle = c(angle), by Newton's method.

    The derivative of the fixed point by a parameter is that of c over 1 − c′ (the implicit function theorem), which is
    what the last step of Newton's method has when its own start and c′ are taken as constants.
    """
    with torch.no_grad():
        for _ in range(_NEWTON_ROUNDS):
            _, there, _ = _constant_crossing(experiment, hkl, angle, observed)
            angle = angle + (there - angle) / (1 - _crossing_slope(experiment, hkl, angle, observed))
        slope = _crossing_slope(experiment, hkl, angle, observed)
    _, there, valid = _constant_crossing(experiment, hkl, angle, observed)
    angle = angle + (there - angle) / (1 - slope)
    scattered = prediction.turn(experiment.crystal.reflections(hkl, angle / DEGREES), spindle_of(experiment), angle)
    wave = mean_wave(experiment)
    return unit(torch.where(valid[:, None], wave + scattered, wave)), angle, valid


def _crossing_slope(experiment: Experiment, hkl: Tensor, angle: Tensor, observed: Tensor) -> Tensor:
    """c′ [n]: how the crossing moves with the spindle angle that the crystal is taken at."""
    ahead, behind = (_constant_crossing(experiment, hkl, angle + step, observed)[1] for step in (_NUDGE, -_NUDGE))
    return (ahead - behind) / (2 * _NUDGE)


def _centroids(experiment: Experiment, hkl: Tensor, panel: Tensor, exposure: Exposure, parallax: str) -> Prediction:
    incident, wavelength, source_weight = experiment.beam.sources()
    crystal = experiment.crystal
    direct, reciprocal = crystal.vectors()
    basis, metric = crystal.bases([exposure], direct)[0], crystal.metric(reciprocal)
    ray, radius, width = prediction.peak_rays(hkl, basis, metric, incident, wavelength)
    share, weight = prediction.excitation(radius, width, wavelength, source_weight)
    share = share.flatten(1)
    count = share.shape[1]
    fast, slow, meets = _on_panels(
        experiment.detector, ray.reshape(-1, 3), panel[:, None].expand(-1, count).reshape(-1), parallax
    )
    # An orientation whose ray misses the plane has no light in the spot; its position is finite all the same.
    fast, slow = ((share * x.reshape(-1, count)).sum(-1) for x in (fast, slow))
    return Prediction(fast, slow, None, weight, meets.reshape(-1, count).all(-1))


def _on_panels(detector: Detector, ray: Tensor, panel: Tensor, parallax: str) -> tuple[Tensor, Tensor, Tensor]:
    frame, pixel_size = detector.frames()[panel], detector.pixel_size[panel]
    return prediction.ray_to_panel(ray, frame, pixel_size, sensor_of(detector, panel), parallax)


def _join(blocks: list[Prediction]) -> Prediction:
    fast, slow, weight, valid = (
        torch.cat([getattr(block, name) for block in blocks]) for name in ("fast", "slow", "weight", "valid")
    )
    return Prediction(fast, slow, None, weight, valid)
