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

# Rounds in which the crystal at the crossing and the angle of the crossing find each other. Each gains, in value and
# derivative, a factor of the drift per turn of the spindle (0.01 for 0.1° in 10°) over |ζ|.
_DRIFT_ROUNDS = 5


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
    wave, spindle, angle = mean_wave(experiment), spindle_of(experiment), observed * DEGREES
    for _ in range(_DRIFT_ROUNDS if experiment.crystal.drifts else 1):
        reciprocal = experiment.crystal.reflections(hkl, angle / DEGREES)
        ray, angle, crosses = prediction.crossing_prediction(reciprocal, wave, spindle, observed * DEGREES)
    fast, slow, meets = _on_panels(experiment.detector, ray, panel, parallax)
    return Prediction(fast, slow, angle / DEGREES, torch.ones_like(fast), crosses & meets)


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
