"""Observed spots and candidate reflections side by side, on one plane whatever the panels: what indexing compares."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from nbtorch.config import Exposure, ScanConfig
from nbtorch.functional import prediction
from nbtorch.functional.detector import sample_position
from nbtorch.functional.rotation import rotate_about_axis, rotation_matrix
from nbtorch.models import Experiment
from nbtorch.models.detector import group_frame, root_group
from nbtorch.render.excited import LOW_ORDER, excited_reflections
from nbtorch.render.predict import mean_wave, spindle_of
from nbtorch.units import DEGREES
from refine.spots.find_spots import Spots

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Plane:
    """A plane through the detector's centre. axes: [3, 3] rows fast, slow, normal (START axes of the whole detector);
    distance and pixel: mm; centre: [2] where the detector's centre is, in pixels along fast and slow."""

    axes: Floats
    distance: float
    pixel: float
    centre: Floats

    def at(self, ray: Floats) -> Floats:
        """Where rays [..., 3] meet the plane, in pixels [..., 2] from the foot of its normal."""
        along = ray @ self.axes.T
        # A ray that runs along the plane or away from it meets nothing: far outside.
        depth = np.maximum(along[..., 2:], 1e-3 * np.linalg.norm(ray, axis=-1, keepdims=True))
        return np.asarray(along[..., :2] / depth * (self.distance / self.pixel))


@dataclass(frozen=True)
class Candidates:
    """m reflections that may be seen. reciprocal: [m, 3] r (Å⁻¹, lab) at spindle angle phi [m] (degrees)."""

    hkl: Ints
    reciprocal: Floats
    phi: Floats

    def __len__(self) -> int:
        return len(self.hkl)

    def at(self, chosen: NDArray[np.generic]) -> Candidates:
        """Those at ``chosen`` (positions or a boolean array)."""
        return Candidates(self.hkl[chosen], self.reciprocal[chosen], self.phi[chosen])

    def turned(self, rotation: Floats) -> Candidates:
        """The same after the lattice has turned by a rotation vector [3] (degrees, lab)."""
        matrix = rotation_matrix(torch.as_tensor(np.deg2rad(rotation))).numpy()
        return replace(self, reciprocal=self.reciprocal @ matrix.T)


@dataclass(frozen=True)
class View:
    """What both sides are compared in. position: [n, 2] observed spots on the plane (pixels); phi: [n] degrees, 0 in a
    still; wave: [3] k₀ (Å⁻¹); resolution: the largest |q| observed (Å⁻¹)."""

    plane: Plane
    wave: Floats
    spindle: Floats
    position: Floats
    phi: Floats
    resolution: float
    scan: bool

    def predicted(self, candidates: Candidates) -> Floats:
        """Positions [m, 2] (pixels): towards the point of the sphere nearest to each reflection."""
        return self.plane.at(self.wave + candidates.reciprocal)

    def miss(self, candidates: Candidates) -> Floats:
        """Degrees [m] by which the lattice would have to turn to reach the sphere; positive outside it.

        Low orders are taken as at 0.2 Å⁻¹, as :func:`nbtorch.render.excited.excited_reflections` does.
        """
        outside = np.linalg.norm(self.wave + candidates.reciprocal, axis=1) - np.linalg.norm(self.wave)
        length = np.maximum(np.linalg.norm(candidates.reciprocal, axis=1), LOW_ORDER)
        return np.asarray(np.rad2deg(outside / length))

    def when_seen(self, candidates: Candidates, spot: Ints) -> Candidates:
        """``candidates`` [m] as they stand when spots ``spot`` [m] were seen."""
        if not self.scan:
            return candidates
        angle = torch.as_tensor(np.deg2rad(self.phi[spot] - candidates.phi))
        reciprocal, axis = torch.as_tensor(candidates.reciprocal), torch.as_tensor(self.spindle)
        return Candidates(candidates.hkl, rotate_about_axis(reciprocal, axis, angle).numpy(), self.phi[spot])


def view_of(experiment: Experiment, spots: Spots, scan: ScanConfig | None) -> View:
    """The observed side: every spot where it lies on the plane, and when it was seen."""
    wave = _numpy(mean_wave(experiment))
    ray = observed_rays(experiment, spots)
    scattering = ray * np.linalg.norm(wave) - wave
    spindle = spindle_of(experiment)
    return View(
        plane=plane_of(experiment),
        wave=wave,
        spindle=_numpy(spindle.setting @ spindle.axis),
        position=plane_of(experiment).at(ray),
        phi=scan.phi_start + spots.frame * scan.oscillation if scan is not None else np.zeros(len(spots)),
        resolution=float(np.linalg.norm(scattering, axis=1).max(initial=0.0)),
        scan=scan is not None,
    )


def plane_of(experiment: Experiment) -> Plane:
    """The plane of the whole detector at its start, through its pivot."""
    config = experiment.detector.config
    frame = group_frame(config, root_group(config))
    pixel = float(np.mean([panel.pixel_size for panel in config.panels]))
    return Plane(frame[:3], float(frame[3] @ frame[2]), pixel, frame[3] @ frame[:2].T / pixel)


def observed_rays(experiment: Experiment, spots: Spots) -> Floats:
    """Unit rays [n, 3] towards the observed positions; the sensor's depth, under half a pixel, is left out."""
    detector = experiment.detector
    panel = torch.as_tensor(spots.panel)
    fast, slow = (torch.as_tensor(value).to(detector.origin) for value in (spots.fast, spots.slow))
    with torch.no_grad():
        position = sample_position(
            detector.frames()[panel], detector.pixel_size[panel], fast, slow, torch.zeros_like(fast)
        )
    point = _numpy(position)
    return point / np.linalg.norm(point, axis=1, keepdims=True)


def candidates_of(
    experiment: Experiment, exposure: Exposure, resolution: float, reach: tuple[float, float]
) -> Candidates:
    """Reflections within ``reach`` (degrees from the sphere, pixels beyond an edge) of being seen in ``exposure``.

    Systematic absences of the crystal's space group are left out.
    """
    found = excited_reflections(experiment, exposure, dmin=0.98 / resolution, margin=reach[0], border=reach[1])
    present = ~_absent(found.hkl, experiment.crystal.config.space_group)
    hkl, phi = found.hkl[present], found.phi[present]
    crystal = experiment.crystal
    with torch.no_grad():
        angle = torch.as_tensor(phi).to(crystal.cell)
        still = crystal.reflections(torch.as_tensor(hkl).to(angle), angle)
        reciprocal = _numpy(prediction.turn(still, spindle_of(experiment), angle * DEGREES))
    return Candidates(hkl, reciprocal, phi)


def _absent(hkl: Ints, space_group: str) -> NDArray[np.bool_]:
    """Whether each reflection [m] is systematically absent in ``space_group`` (Hermann–Mauguin)."""
    import gemmi

    group = gemmi.SpaceGroup(space_group)
    return np.asarray(group.operations().systematic_absences(hkl.astype(np.int32)), dtype=bool)


def _numpy(tensor: torch.Tensor) -> Floats:
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float64)
