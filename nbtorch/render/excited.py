"""Which reflections an exposure or a scan excites, and which panel each one falls on. Plain numpy, no derivative."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from nbtorch.config import Exposure
from nbtorch.errors import ConfigError, DataError
from nbtorch.functional import prediction
from nbtorch.functional.rotation import unit
from nbtorch.models.experiment import Experiment
from nbtorch.render.predict import mean_wave, sensor_of, spindle_of
from nbtorch.units import DEGREES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_REFLECTIONS = 5 * 10**8  # indices looked at: a cell or wavelength in the wrong unit asks for far more
LOW_ORDER = 0.2  # Å⁻¹: below it the size of a crystal, not its mosaic spread, makes a reflection wide
_NODE_SPACING = 1.0  # degrees between spindle angles at which a scan is probed for crossings


@dataclass(frozen=True)
class Excited:
    """m spots. hkl: [m, 3], panel: [m], fast and slow: [m] pixels, phi: [m] degrees where each is excited.

    miss: [m] degrees by which the lattice would have to turn to reach the sphere; 0 for one that crosses it. Below
    0.2 Å⁻¹ it is the turn that would do at 0.2 Å⁻¹, since there the size of a crystal makes reflections wide.
    A reflection that crosses twice is listed twice.
    """

    hkl: Ints
    panel: Ints
    fast: Floats
    slow: Floats
    phi: Floats
    miss: Floats

    def __len__(self) -> int:
        return len(self.hkl)


@dataclass(frozen=True)
class _Sphere:
    """wave: k₀ [3]; stars: rows a*, b*, c* [3, 3] at goniometer zero, turned: [J, 3, 3] at spindle angles phi [J]."""

    wave: Floats
    stars: Floats
    turned: Floats
    phi: Floats
    slope: float  # reach = slope·max(|r|, LOW_ORDER) + band·|r|²
    band: float


def excited_reflections(
    experiment: Experiment,
    exposure: Exposure | None = None,
    dmin: float | None = None,
    margin: float = 0.1,
    border: float = 0.0,
    parallax: str = "layers",
) -> Excited:
    """Reflections that ``exposure`` (default: the experiment's; for a scan, its whole range) brings to a panel.

    dmin: resolution limit (Å), by default that of the detector's farthest corner. margin: degrees a reflection may be
    from the sphere; the bandwidth of the beam comes on top. border: pixels beyond the edge that still count.
    Raises DataError when more than 5e8 indices lie within the resolution, ConfigError for a curved detector.
    """
    if experiment.detector.config.curved:
        raise ConfigError("a curved detector", "spots are predicted on flat panels only", "Describe it by flat panels")
    with torch.no_grad():
        sphere = _sphere(experiment, exposure or experiment.exposure, margin)
        limit = corner_resolution(experiment)
        limit = limit if dmin is None else min(1 / dmin, limit)
        highest = _highest(sphere, limit)
        blocks = iter([_shell(sphere, highest, limit)]) if len(sphere.phi) == 1 else _slabs(highest)
        parts = [_events(sphere, hkl, limit) for hkl in blocks]
        hkl, phi, miss = (np.concatenate([part[i] for part in parts]) for i in range(3))
        ray = _rays(experiment, sphere, hkl, phi)
        chosen, panel, fast, slow = _first_panels(experiment, ray, border, parallax)
    return Excited(hkl[chosen], panel, fast, slow, phi[chosen], miss[chosen])


def corner_resolution(experiment: Experiment) -> float:
    """The largest |q| (Å⁻¹) that a corner of the detector sees."""
    wave = _numpy(mean_wave(experiment))
    corners = []
    for panel, frame in zip(experiment.detector.config.panels, _numpy(experiment.detector.frames()), strict=True):
        extent = np.array(panel.size) * np.array(panel.pixel_size)
        grid = np.array([(0, 0), (1, 0), (0, 1), (1, 1)]) * extent
        corners.append(frame[3] + grid @ frame[:2])
    position = np.concatenate(corners)
    ray = position / np.linalg.norm(position, axis=1, keepdims=True) * np.linalg.norm(wave)
    return float(np.linalg.norm(ray - wave, axis=1).max())


def _numpy(tensor: torch.Tensor) -> Floats:
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float64)


def _sphere(experiment: Experiment, exposure: Exposure, margin: float) -> _Sphere:
    count = math.ceil(abs(exposure.oscillation) / _NODE_SPACING) + 1
    phi = exposure.phi_start + exposure.oscillation * (np.linspace(0, 1, count) if count > 1 else np.zeros(1))
    nodes = Exposure(phi[0], (phi[-1] - phi[0]) * count / max(count - 1, 1), count, "left")
    wavelength = _numpy(experiment.beam.sources()[1])
    crystal = experiment.crystal
    there = crystal.vectors_at(torch.as_tensor(phi).to(crystal.cell))[1]
    return _Sphere(
        wave=_numpy(mean_wave(experiment)),
        stars=_numpy(crystal.vectors()[1]),
        turned=_numpy(there @ crystal.spindle_rotations(nodes).transpose(-1, -2)),
        phi=phi,
        slope=math.sin(math.radians(margin)),
        band=float(np.ptp(wavelength)) / 4,  # |k₀ + r| − |k₀| moves by ½|r|²·Δλ
    )


def _highest(sphere: _Sphere, limit: float) -> Ints:
    """The highest |h|, |k| and |l| [3] that |q| ≤ ``limit`` (Å⁻¹) allows. Raises DataError where they are too many."""
    lengths = np.linalg.norm(np.linalg.inv(sphere.stars), axis=0)
    highest = np.floor(limit * lengths).astype(int)  # |h| = |a·q| ≤ |a|·|q|
    count = float(np.prod(2.0 * highest + 1))
    if count > MAX_REFLECTIONS:
        raise DataError(
            f"a cell of {lengths.round(1).tolist()} Å to {1 / limit:.3g} Å resolution",
            f"{count:.1e} reflections would have to be looked at",
            "Check the units of cell, wavelength and distance, or give a resolution limit",
        )
    return np.asarray(highest)


def _slabs(highest: Ints) -> Iterator[Ints]:
    """Blocks of indices [m, 3] up to ``highest`` [3], one a value of h."""
    pairs = _grid(highest[1:])
    for h in range(-highest[0], highest[0] + 1):
        yield np.column_stack([np.full(len(pairs), h), pairs])


def _grid(highest: Ints) -> Ints:
    """All pairs [m, 2] of indices up to ``highest`` [2]."""
    first, second = (np.arange(-n, n + 1) for n in highest)
    return np.stack(np.meshgrid(first, second, indexing="ij"), -1).reshape(-1, 2)


def _shell(sphere: _Sphere, highest: Ints, limit: float) -> Ints:
    """The indices [m, 3] that may be near the sphere in a still: l where a row (h, k) meets a shell about it.

    |k₀ + r₀ + l·c*| = R is a quadratic equation in l. Looking at rows instead of reflections is faster by their length.
    """
    pairs = _grid(highest[:2])
    stars = sphere.turned[0]
    start, radius = sphere.wave + pairs @ stars[:2], float(np.linalg.norm(sphere.wave))
    thick = sphere.slope * max(limit, LOW_ORDER) + sphere.band * limit**2
    square, half = stars[2] @ stars[2], start @ stars[2]
    middle, nearest = -half / square, (start**2).sum(1) - half**2 / square  # l, and the squared distance there

    def reach(distance: float) -> Floats:
        """Half the length of row, in l, within ``distance`` of the sphere's centre; NaN where it passes it by."""
        return np.sqrt(np.where(nearest < distance**2, (distance**2 - nearest) / square, np.nan))

    outer, inner = reach(radius + thick), reach(max(radius - thick, 0.0))
    first, last = np.ceil(middle - outer), np.floor(middle + outer)
    gap = np.where(np.isnan(inner), last, np.floor(middle - inner))  # no gap where a row stays outside the inner sphere
    resumed = np.where(np.isnan(inner), last + 1, np.maximum(np.ceil(middle + inner), gap + 1))
    return _rows(pairs, np.column_stack([first, resumed]), np.column_stack([gap, last]), highest[2])


def _rows(pairs: Ints, first: Floats, last: Floats, highest: int) -> Ints:
    """Indices [m, 3] of rows ``pairs`` [r, 2] from ``first`` [r, s] to ``last`` [r, s]: s stretches each; NaN: none."""
    first, last = np.maximum(first, -highest), np.minimum(last, highest)
    count = np.nan_to_num(np.maximum(last - first + 1, 0)).astype(np.int64).ravel()
    begin = np.repeat(np.nan_to_num(first).ravel(), count)
    step = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    row = np.repeat(np.repeat(np.arange(len(pairs)), first.shape[1]), count)
    return np.column_stack([pairs[row], (begin + step).astype(np.int64)])


def _events(sphere: _Sphere, hkl: Ints, limit: float) -> tuple[Ints, Floats, Floats]:
    """(hkl, phi, miss) of the crossings and near misses of the reflections ``hkl`` [m, 3]."""
    r = hkl @ sphere.stars
    length = np.linalg.norm(r, axis=1)
    inside = (length <= limit) & (length > 0)
    hkl, r, length = hkl[inside], r[inside], length[inside]
    # How far [m, J] the reflection is outside the sphere at each spindle angle.
    turned = np.einsum("mi,jia->mja", hkl, sphere.turned)
    error = np.linalg.norm(turned + sphere.wave, axis=-1) - np.linalg.norm(sphere.wave)
    crosses = error[:, 1:] * error[:, :-1] < 0
    which, node = np.nonzero(crosses)
    before, after = error[which, node], error[which, node + 1]
    step = sphere.phi[node + 1] - sphere.phi[node]
    crossing = hkl[which], sphere.phi[node] + step * before / (before - after), np.zeros(len(which))
    nearest = np.abs(error).argmin(1)
    least = np.abs(error)[np.arange(len(error)), nearest]
    wide = np.maximum(length, LOW_ORDER)
    close = ~crosses.any(1) & (least <= sphere.slope * wide + sphere.band * length**2)
    missed = hkl[close], sphere.phi[nearest[close]], np.rad2deg(least[close] / wide[close])
    return tuple(np.concatenate(pair) for pair in zip(crossing, missed, strict=True))  # type: ignore[return-value]


def _rays(experiment: Experiment, sphere: _Sphere, hkl: Ints, phi: Floats) -> torch.Tensor:
    """Rays [m, 3]: of the crossing, or towards the point of the sphere nearest to a reflection that misses it."""
    crystal = experiment.crystal
    if len(sphere.phi) == 1:
        return unit(torch.as_tensor(sphere.wave + hkl @ sphere.turned[0]).to(crystal.cell))
    spindle = spindle_of(experiment)
    at = torch.as_tensor(phi).to(crystal.cell)
    turned = prediction.turn(crystal.reflections(torch.as_tensor(hkl).to(at), at), spindle, at * DEGREES)
    return unit(mean_wave(experiment) + turned)


def _first_panels(
    experiment: Experiment, ray: torch.Tensor, border: float, parallax: str
) -> tuple[Ints, Ints, Floats, Floats]:
    """(which ray, panel, fast, slow) of the rays [m, 3] that meet a panel, in the order of the rays."""
    detector = experiment.detector
    frames = detector.frames()
    found: list[tuple[Ints, Ints, Floats, Floats]] = []
    left = np.arange(len(ray))
    for index, panel in enumerate(detector.config.panels):
        here = torch.full((len(left),), index, device=ray.device)
        rays = ray[torch.as_tensor(left, device=ray.device)]
        fast, slow, meets = (
            x.cpu().numpy()
            for x in prediction.ray_to_panel(
                rays, frames[here], detector.pixel_size[here], sensor_of(detector, here), parallax
            )
        )
        width, height = panel.size
        on = meets & (fast >= -border) & (fast < width + border) & (slow >= -border) & (slow < height + border)
        found.append((left[on], np.full(int(on.sum()), index), fast[on], slow[on]))
        left = left[~on]
    which, panels, fast, slow = (np.concatenate([part[i] for part in found]) for i in range(4))
    order = np.argsort(which, kind="stable")
    return which[order], panels[order], fast[order], slow[order]
