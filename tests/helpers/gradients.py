"""Gradients of a rendered image with respect to every parameter at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call

from nbtorch.render import Renderer
from tests.helpers.scenes import Features

#: How far each parameter moves per unit of its variable; 1 in its own unit where it is not named here. They bring
#: every gradient of an image of peak 1 to the order of 0.01 … 100, far above gradcheck's absolute tolerance of 1e-5.
SCALE = {
    "beam.fluence": 1e29,
    "beam.divergence": 10.0,
    "structure_factors.amplitudes": 50.0,
    "detector.rotation": 10.0,
    "detector.shift": 5.0,
    "detector.origin": 5.0,
}
NOT_ZERO = 1e-3  # 100 times gradcheck's absolute tolerance


def parameters(renderer: Renderer) -> dict[str, Tensor]:
    """Every parameter by its name in the experiment, ``crystal.cell`` …, detached."""
    return {name: value.detach().clone() for name, value in renderer.experiment.named_parameters()}


def differentiable(renderer: Renderer) -> tuple[str, ...]:
    """The parameters with a derivative: all but the absorption of no sensor, where 0 is a switch to capture 1."""
    bare = not bool((renderer.experiment.detector.absorption > 0).all())
    return tuple(name for name in parameters(renderer) if not (bare and name == "detector.absorption"))


def image_of(
    renderer: Renderer, names: tuple[str, ...] | None = None, scales: dict[str, float] | None = None
) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """(f, x): f(*x) is the image scaled to a peak of 1, x the scaled displacements of the parameters, all zero."""
    scale = SCALE | (scales or {})
    start = parameters(renderer)
    names = names or tuple(start)
    with torch.no_grad():
        peak = renderer().abs().max()

    def image(*moves: Tensor) -> Tensor:
        moved = {
            f"experiment.{name}": start[name] + scale.get(name, 1.0) * move
            for name, move in zip(names, moves, strict=True)
        }
        result: Tensor = functional_call(renderer, moved, ())
        return result / peak

    return image, [torch.zeros_like(start[name]).requires_grad_() for name in names]


def gradients(renderer: Renderer) -> dict[str, Tensor]:
    """d(image · fixed uneven weights)/d(scaled parameter), for every parameter."""
    image, moves = image_of(renderer)
    result = image(*moves)
    weights = torch.linspace(0.2, 2.0, len(result), dtype=result.dtype)
    found = torch.autograd.grad(result @ weights, moves, allow_unused=True, materialize_grads=True)
    return dict(zip(parameters(renderer), found, strict=True))


def steepest(renderer: Renderer) -> dict[str, float]:
    """The largest |d(pixel)/d(element of the scaled parameter)| of every parameter, for an image of peak 1."""
    image, moves = image_of(renderer)
    result, largest = image(*moves), dict.fromkeys(parameters(renderer), 0.0)
    for pixel in result:
        found = torch.autograd.grad(pixel, moves, retain_graph=True, allow_unused=True, materialize_grads=True)
        for name, gradient in zip(largest, found, strict=True):
            largest[name] = max(largest[name], float(gradient.abs().max()))
    return largest


GEOMETRIC = frozenset(
    [f"crystal.{name}" for name in ("cell", "rotation", "misset", "mosaic_spread", "spindle_axis")]
    + ["crystal.rotation_knots", "crystal.cell_knots"]
    + [f"beam.{name}" for name in ("wavelength", "spectrum", "source_wavelength")]
)


def vanishing(features: Features) -> set[str]:
    """The parameters whose gradient is exactly zero in a scene of ``features``, because it has nothing of theirs."""
    zero = set()
    stepped = features.shape == "tophat" and features.interpolation == "nearest"
    curved = features.detector == "curved"
    if stepped:
        zero |= GEOMETRIC
        if not features.polarized:
            zero |= {"beam.divergence", "beam.source_direction", "beam.polarization_axis"}
            zero |= set() if curved else {"beam.direction"}
    if features.beam == "sources" and not curved:
        zero.add("beam.direction")
    if not features.polarized:
        zero.add("beam.kahn_factor")
        zero |= set() if features.beam == "spread" else {"beam.polarization_axis"}
    if features.beam == "single":
        zero.add("beam.weight")
    if features.mosaic == "none":
        zero.add("crystal.mosaic_spread")
    if features.detector not in ("sensor", "layers"):
        zero |= {"detector.thickness", "detector.absorption"}
    return zero
