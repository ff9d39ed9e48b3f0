"""Gradients of the closed form in every parameter, with every spread and with none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nbtorch.config import RenderSettings
from nbtorch.functional.structure_factor import StructureFactorTable
from nbtorch.kernels.profile_reference import ProfileTensors, profile_rays
from nbtorch.render import Renderer
from nbtorch.render.scene import Scene
from nbtorch.spreads import SpreadConfig
from tests.helpers.closed import EVERY, Spot, around
from tests.helpers.gradients import image_of

LINES = ((-0.002, 0.7), (0.003, 1.3))
ALL = Spot(5.0, (0.1, 0.2, 0.15), spectrum=LINES, oscillation=0.4, spreads=EVERY, pixel=0.2)
#: Moves that bring every gradient to the order of 1, where a unit of the parameter is far from it.
SCALES = {
    "spreads.bandwidth": 1e-5,
    "spreads.covariance": 1e-5,
    "spreads.cell": 1e-4,
    "spreads.mosaic": 0.1,
    "beam.fluence": 1e29,
}


def renderer(spot: Spot, *, again: bool, box: bool = True) -> Renderer:
    """Five pixels across one of the spots."""
    pixels = around(spot)[torch.tensor([84, 70, 98, 82, 87])]
    settings = RenderSettings(averaging="closed", relinearize=again, pixel_box=box, backend="reference")
    return Renderer(spot.experiment(), pixels, settings)


@pytest.mark.parametrize("again", [False, True], ids=["linear", "linearized once more"])
def test_gradients_of_every_parameter_with_every_spread(again: bool) -> None:
    model = renderer(ALL, again=again, box=False)
    names = tuple(name for name, _ in model.experiment.named_parameters() if name != "detector.absorption")
    image, moves = image_of(model, names, SCALES)
    result = image(*moves)
    steepest = dict.fromkeys(names, 0.0)
    for pixel in result:
        found = torch.autograd.grad(pixel, moves, retain_graph=True, allow_unused=True, materialize_grads=True)
        steepest = {n: max(steepest[n], float(g.abs().max())) for n, g in zip(names, found, strict=True)}
    still = {name for name, value in steepest.items() if value < 1e-3}
    assert still == {"detector.thickness"}  # without a sensor
    assert torch.autograd.gradcheck(image, tuple(moves))


def operator(scene: Scene, model: Renderer) -> tuple[list[str], list[Tensor]]:
    """Names and values of the closed form's own tensors."""
    assert scene.profile is not None
    values = scene.profile._asdict()
    values["table"] = scene.profile.table.values if scene.profile.table is not None else None
    return list(values), [value.detach().clone() for value in values.values()]


@pytest.mark.parametrize("again", [False, True], ids=["linear", "linearized once more"])
@pytest.mark.parametrize("span", [0.0, 1e-9, 0.4], ids=["no spindle", "hardly any spindle", "spindle"])
def test_gradients_of_every_variance_at_zero_spread(again: bool, span: float) -> None:
    """At the operator, where a step below zero is allowed: an image is smooth through a variance of zero."""
    spot = Spot(5.0, oscillation=span, pixel=0.2)
    model = renderer(spot, again=again, box=False)
    scene = model.scene()
    assert scene.profile is not None
    assert scene.closed is not None
    names, values = operator(scene, model)
    samples = scene.samples_of(model.pixels)
    # units in which an image of peak 1 has gradients of the order of 1
    units = {"bandwidth": 1e-5, "divergence": 1e-5, "mosaic": 1e-5, "intrinsic": 1e-3, "cell": 1e-4}
    units["scale"] = float(scene.profile.scale.detach())
    peak = float(model().detach().max())

    def image(*moves: Tensor) -> Tensor:
        moved = {n: v + units.get(n, 1.0) * m for n, v, m in zip(names, values, moves, strict=True)}
        table = StructureFactorTable(moved.pop("table"), scene.profile.table.first)  # type: ignore[union-attr]
        tensors = ProfileTensors(**moved, table=table)
        weight, sums = profile_rays(scene.panels, scene.beam, samples, scene.rays, tensors, scene.closed)  # type: ignore[arg-type]
        photons = (weight * sums * scene.source_weight).sum(-1) * 7.94e-30 * scene.fluence / scene.steps
        return photons / peak

    moves = [torch.zeros_like(value).requires_grad_(name != "table") for name, value in zip(names, values, strict=True)]
    result = image(*moves)
    assert bool(torch.isfinite(result).all())
    assert float(result.detach().max()) > 0.1
    wanted = [move for move in moves if move.requires_grad]
    found = torch.autograd.grad(result.sum(), wanted, retain_graph=True, allow_unused=True, materialize_grads=True)
    assert all(bool(torch.isfinite(gradient).all()) for gradient in found)
    moving = {n for n, g in zip([n for n in names if n != "table"], found, strict=True) if float(g.abs().max()) > 1e-3}
    assert moving >= {"bandwidth", "divergence", "mosaic", "intrinsic", "cell", "pixel", "basis", "wavelength", "scale"}
    assert torch.autograd.gradcheck(image, tuple(moves))


def test_a_spread_of_zero_has_the_slope_of_small_spreads() -> None:
    """Through the models, where a variance below zero is refused: one-sided differences."""
    model = renderer(replace(ALL, mosaic=0.0, oscillation=0.0, spreads=SpreadConfig()), again=False)
    spreads = model.experiment.spreads
    assert spreads is not None
    steps = {"mosaic": 1e-6, "bandwidth": 1e-11, "divergence": 1e-4, "cell": 1e-10, "point_spread": 1e-5}
    start = model()
    for name, step in steps.items():
        parameter = getattr(spreads, name)
        (slope,) = torch.autograd.grad(start.sum(), parameter, retain_graph=True)
        with torch.no_grad():
            parameter += step
            moved = model().detach()
            parameter -= step
        expected = float(slope.sum()) * step
        assert abs(expected) > 1e-9 * float(start.detach().sum()), name
        assert float((moved - start.detach()).sum()) == pytest.approx(expected, rel=2e-3), name


@pytest.mark.parametrize("again", [False, True])
def test_forward_mode_gives_the_gradient_of_reverse_mode(again: bool) -> None:
    model = renderer(ALL, again=again, box=False)
    names = ("crystal.cell", "crystal.n_cells", "crystal.misset", "spreads.mosaic", "detector.shift", "beam.wavelength")
    image, moves = image_of(model, names)
    forward = torch.func.jacfwd(image, argnums=tuple(range(len(names))))(*[move.detach() for move in moves])
    result = image(*moves)
    for pixel, row in enumerate(zip(*forward, strict=True)):
        reverse = torch.autograd.grad(result[pixel], moves, retain_graph=True)
        for one, other in zip(row, reverse, strict=True):
            assert torch.allclose(one, other, rtol=1e-9, atol=1e-11)


def test_float32_images_have_finite_gradients() -> None:
    model = renderer(ALL, again=True)
    model.experiment.to(torch.float32)
    image = model()
    image.sum().backward()
    double = renderer(ALL, again=True)()
    assert float(((image - double).abs().max() / double.max()).detach()) < 5e-3
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.experiment.parameters() if p.grad is not None)
