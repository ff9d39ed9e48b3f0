"""How pixels change when the scene does: all columns of a Jacobian in one pass of the two operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nbtorch.config import RenderSettings
from nbtorch.errors import ConfigError
from nbtorch.functional.tangents import tangents
from nbtorch.kernels.dispatch import pixel_rays, uses_native
from nbtorch.kernels.jacobian import LatticeTangents, RayTangents, lattice_jvp, pixel_rays_jvp
from nbtorch.kernels.reference import SampleGrid
from nbtorch.render.modes import combine, source_weighted
from nbtorch.render.scene import Scene


class SceneTangents(NamedTuple):
    """T tangents of a scene, each with a leading axis T; None does not move. In the order of :func:`scene_tensors`."""

    frame: Tensor | None = None  # [T, N, 4, 3]
    absorption: Tensor | None = None  # [T, N]
    layer_step: Tensor | None = None  # [T, N]
    incident: Tensor | None = None  # [T, S, 3]
    polarization_axis: Tensor | None = None  # [T, 3]
    kahn_factor: Tensor | None = None  # [T]
    wavelength: Tensor | None = None  # [T, S]
    source_weight: Tensor | None = None  # [T, S]
    n_cells: Tensor | None = None  # [T, 3]
    metric: Tensor | None = None  # [T, 3, 3]
    table: Tensor | None = None  # [T, nh, nk, nl]
    background: Tensor | None = None  # [T]
    fluence: Tensor | None = None  # [T]
    basis: Tensor | None = None  # [T, K, 3, 3]

    @property
    def number(self) -> int:
        """T; 0 where nothing moves."""
        return next((len(dot) for dot in self if dot is not None), 0)


def scene_tensors(scene: Scene) -> list[Tensor | None]:
    """The tensors of ``scene`` that :class:`SceneTangents` moves, in its order: the basis, a frame's own, is last."""
    table = None if scene.table is None else scene.table.values
    panels, beam = scene.panels, scene.beam
    of_detector = [panels.frame, panels.absorption, scene.layer_step]
    of_beam = [beam.incident, beam.polarization_axis, beam.kahn_factor, scene.wavelength, scene.source_weight]
    of_crystal = [scene.n_cells, scene.metric, table]
    return [*of_detector, *of_beam, *of_crystal, scene.background, scene.fluence, scene.basis]


def serves(scene: Scene, settings: RenderSettings) -> bool:
    """Whether :func:`intensity_and_tangents` is the way: the C kernels serve every part of ``scene``."""
    tensors = [tensor for tensor in scene_tensors(scene) if tensor is not None]
    native = settings.averaging == "sampled" and uses_native(settings.backend, tensors)
    return native and settings.mode == "exact" and not scene.rays.curved


def scenes_and_tangents(
    derive: Callable[[Tensor], Sequence[Scene]], values: Tensor
) -> list[tuple[Scene, SceneTangents]]:
    """The scenes that ``derive`` makes of ``values`` [T], which differ in their basis alone, and how each moves."""
    made: list[Scene] = []

    def tensors(moved: Tensor) -> list[Tensor]:
        made[:] = derive(moved)
        every = [*scene_tensors(made[0])[:-1], *(scene.basis for scene in made)]
        return [tensor for tensor in every if tensor is not None]

    _, columns = tangents(tensors, values)
    found = iter([None if dot is None or not bool(dot.any()) else dot for dot in columns])
    shared = [None if tensor is None else next(found) for tensor in scene_tensors(made[0])[:-1]]
    return [(scene, SceneTangents(*shared)._replace(basis=dot)) for scene, dot in zip(made, found, strict=True)]


def intensity_and_tangents(scene: Scene, samples: SampleGrid, dots: SceneTangents, settings: RenderSettings) -> Tensor:
    """I(p) and its tangents over fluence, [1 + T, pixels]: I, then İ + I·Ḟ/F, F the fluence that will multiply it.

    The derivative of :func:`nbtorch.render.modes.exact`. Raises ConfigError in another mode.
    """
    if settings.mode != "exact" or settings.averaging != "sampled":
        raise ConfigError(
            f"mode={settings.mode!r}, averaging={settings.averaging!r}",
            "its tangents are PyTorch's forward mode",
            'Use torch.func, or mode="exact" and averaging="sampled"',
        )
    rays = _rays(scene, samples, dots)
    sums, of_sums = lattice_jvp(
        rays.diffracted,
        scene.beam.incident,
        scene.wavelength,
        scene.basis,
        scene.n_cells,
        scene.metric,
        scene.table,
        scene.orientation_weight,
        scene.lattice,
        LatticeTangents(
            rays.dot_diffracted, dots.incident, dots.wavelength, dots.basis, dots.n_cells, dots.metric, dots.table
        ),
    )
    intensity = combine(scene, rays.weight, sums, scene.background)
    columns = combine(scene, rays.weight, of_sums, dots.background)
    if rays.dot_weight is not None:
        columns.index_add_(0, rays.moving, combine(scene, rays.dot_weight, sums, scene.background))
    if dots.fluence is not None:
        columns += (dots.fluence / scene.fluence)[:, None] * intensity
    return torch.cat([intensity[None], columns])


class _Rays(NamedTuple):
    """Rays with their sources' weights, and how they move."""

    diffracted: Tensor  # [P, 3]
    weight: Tensor  # [P, S]
    dot_diffracted: Tensor | None  # [T, P, 3]
    dot_weight: Tensor | None  # [M, P, S] of the tangents ``moving``
    moving: Tensor  # [M] positions of the tangents that move a ray or its weight


def _rays(scene: Scene, samples: SampleGrid, dots: SceneTangents) -> _Rays:
    """The rays of ``samples``. A tangent that moves none, such as every crystal's, costs nothing here."""
    of_rays = (dots.frame, dots.absorption, dots.layer_step, dots.incident, dots.polarization_axis, dots.kahn_factor)
    moves = [(dot.flatten(1) if dot.dim() > 1 else dot[:, None]).any(1) for dot in of_rays if dot is not None]
    if dots.source_weight is not None and len(scene.wavelength) > 1:
        moves.append(dots.source_weight.any(1))
    if not moves:
        rays, weight = pixel_rays(scene.panels, scene.beam, samples, scene.rays, scene.lattice.backend)
        return _Rays(rays, source_weighted(scene, weight), None, None, torch.zeros(0, dtype=torch.long))
    moving = torch.stack(moves).any(0).nonzero()[:, 0]
    chosen = SceneTangents(*(None if dot is None else dot[moving] for dot in dots))
    frame = scene.panels.frame
    along = RayTangents(
        frame=frame.new_zeros(len(moving), *frame.shape) if chosen.frame is None else chosen.frame,
        absorption=chosen.absorption,
        incident=chosen.incident,
        polarization_axis=chosen.polarization_axis,
        kahn_factor=chosen.kahn_factor,
        layer_step=chosen.layer_step,
    )
    (rays, weight), (dot_rays, dot_weight) = pixel_rays_jvp(
        scene.panels, scene.beam, samples, scene.rays, along, scene.lattice.backend
    )
    dot_weight = source_weighted(scene, dot_weight)
    if chosen.source_weight is not None and len(scene.wavelength) > 1:
        dot_weight = dot_weight + weight * chosen.source_weight[:, None]
    if len(moving) < dots.number:
        dot_rays = dot_rays.new_zeros(dots.number, *rays.shape).index_copy(0, moving, dot_rays)
    return _Rays(rays, source_weighted(scene, weight), dot_rays, dot_weight, moving)
