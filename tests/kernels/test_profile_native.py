"""The C kernel of the closed form against its definition in PyTorch: value, gradient, tangents, choices."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from nbtorch.config import RenderSettings
from nbtorch.errors import ConfigError
from nbtorch.kernels import profile_sum
from nbtorch.kernels.native import library
from nbtorch.models import Experiment
from nbtorch.render import PixelSelection, Renderer, roi
from nbtorch.spreads import SpreadConfig
from tests.helpers.closed import BOX, EVERY, POINTS, Spot, around, small, worst

pytestmark = pytest.mark.skipif(not library.AVAILABLE, reason=library.WHY_ABSENT)
SPREADS: dict[str, SpreadConfig | None] = {
    "none": None,
    "every": EVERY,
    "bandwidth": SpreadConfig(bandwidth=0.01),
    "mosaic": SpreadConfig(mosaic=1.0),
    "divergence": SpreadConfig(divergence=(1.0, 2.0)),
}


def value_and_gradients(
    experiment: Experiment, pixels: PixelSelection, settings: RenderSettings
) -> tuple[Tensor, dict[str, Tensor]]:
    """The image, and the gradient of an uneven sum of it by every parameter."""
    image = Renderer(experiment, pixels, settings)()
    (image * torch.linspace(0.5, 1.5, len(image), dtype=image.dtype)).sum().backward()
    return image.detach(), {name: p.grad for name, p in experiment.named_parameters() if p.grad is not None}


def assert_gradients(found: dict[str, Tensor], expected: dict[str, Tensor], relative: float) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        error = float((found[name] - gradient).abs().max())
        assert error <= relative * float(gradient.abs().max()), name


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("name", SPREADS)
def test_value_and_gradient_are_the_definitions(name: str, again: bool) -> None:
    for base in (POINTS, BOX):
        found = []
        for backend in ("native", "reference"):
            experiment = small(SPREADS[name])
            row = roi(experiment.detector.config, (8, 14), (11, 12))
            settings = replace(base, relinearize=again, backend=backend, culling=0.0)
            found.append(value_and_gradients(experiment, row, settings))
        (value, gradients), (expected, expected_gradients) = found
        assert worst(value, expected) < 1e-12  # worst seen 2e-14
        assert_gradients(gradients, expected_gradients, 1e-8)


@pytest.mark.parametrize("span", [0.01, 0.3, 1.0])
def test_spindle_ranges_short_and_long_are_the_definitions(span: float) -> None:
    """Quadrature at short ranges, error functions at long ones."""
    found = []
    for backend in ("native", "reference"):
        spot = Spot(20.0, 0.03, oscillation=span)
        settings = replace(POINTS, backend=backend, culling=0.0, relinearize=True)
        found.append(value_and_gradients(spot.experiment(), around(spot, half=2), settings))
    assert worst(found[0][0], found[1][0]) < 1e-11
    assert_gradients(found[0][1], found[1][1], 1e-7)


def test_what_is_cut_is_little_of_the_peak() -> None:
    for again in (False, True):
        found = []
        for culling in (1e-10, 0.0):
            experiment = small()
            settings = replace(POINTS, relinearize=again, culling=culling, backend="native")
            found.append(value_and_gradients(experiment, roi(experiment.detector.config, (4, 19), (4, 19)), settings))
        assert 0 < worst(found[0][0], found[1][0]) < 5e-8  # worst seen 1.3e-8: several reflections overlap
        assert_gradients(found[0][1], found[1][1], 1e-3)  # worst seen 5.2e-4: the point spread, of nearly a sum


@pytest.mark.parametrize(
    "name", [name for name, runs in library.instruction_sets().items() if runs] if library.AVAILABLE else []
)
def test_every_instruction_set_gives_the_image(name: str) -> None:
    settings = replace(POINTS, backend="native", relinearize=True)
    expected = value_and_gradients(small(), roi(small().detector.config, (5, 18), (10, 12)), settings)
    before = library.use_instruction_set(name)
    try:
        found = value_and_gradients(small(), roi(small().detector.config, (5, 18), (10, 12)), settings)
    finally:
        library.use_instruction_set(before)
    assert worst(found[0], expected[0]) < 1e-6  # what is cut depends on where a segment's box ends in rounding
    assert_gradients(found[1], expected[1], 1e-4)


def test_threads_change_no_bit() -> None:
    settings, before, found = replace(POINTS, backend="native"), torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            experiment = small()
            found.append(value_and_gradients(experiment, roi(experiment.detector.config, (0, 23), (0, 23)), settings))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0][0], found[1][0])
    assert all(torch.equal(gradient, found[1][1][name]) for name, gradient in found[0][1].items())


def call(experiment: Experiment, **settings: Any) -> Any:
    """profile_sum of a few pixels as a function of (frame, bandwidth, basis, mosaic), and these tensors."""
    row = roi(experiment.detector.config, (11, 12), (11, 12))
    scene = Renderer(experiment, row, replace(BOX, relinearize=True)).scene()
    assert scene.profile is not None
    assert scene.closed is not None
    profile, chosen = scene.profile, replace(scene.closed, cut=0.0, reach=(0, 0, 0), **settings)

    def function(frame: Tensor, bandwidth: Tensor, basis: Tensor, mosaic: Tensor) -> Tensor:
        return profile_sum(
            scene.panels._replace(frame=frame),
            scene.beam,
            scene.samples_of(row),
            scene.source_weight,
            profile._replace(bandwidth=bandwidth, basis=basis, mosaic=mosaic),
            scene.rays,
            chosen,
        )

    tensors = (scene.panels.frame, profile.bandwidth, profile.basis, profile.mosaic)
    return function, tuple(tensor.detach().clone() for tensor in tensors)


def test_columns_of_a_jacobian_are_those_of_the_definition() -> None:
    native, tensors = call(small(), backend="native")
    twin, _ = call(small(), backend="reference")
    for argument in range(4):
        found = torch.func.jacfwd(native, argnums=argument)(*tensors).detach()
        expected = torch.func.jacrev(twin, argnums=argument)(*tensors).detach()
        if argument == 3:  # of a covariance only the symmetric part means anything
            expected = (expected + expected.transpose(-1, -2)) / 2
        assert float((found - expected).abs().max()) <= 1e-8 * float(expected.abs().max())


def test_gradients_pass_gradcheck_at_zero_spreads() -> None:
    native, tensors = call(small(SpreadConfig()), backend="native")
    bandwidth = tensors[1]
    scale = float(native(*tensors).detach().abs().max())
    assert float(bandwidth.abs().max()) == 0.0
    for argument, step in ((0, 1e-5), (1, 1e-8), (2, 1e-5)):
        value = tensors[argument].clone().requires_grad_()
        gradient = torch.autograd.grad(native(*tensors[:argument], value, *tensors[argument + 1 :]).sum(), value)[0]
        direction = torch.ones_like(value)
        moved = [
            native(*tensors[:argument], tensors[argument] + sign * step * direction, *tensors[argument + 1 :])
            .sum()
            .detach()
            for sign in (1, -1)
        ]
        slope = float(moved[0] - moved[1]) / (2 * step)
        assert float(gradient.sum()) == pytest.approx(slope, rel=1e-4, abs=1e-9 * scale / step)


def test_second_derivatives_go_through_the_definition() -> None:
    native, tensors = call(small(), backend="native")
    twin, _ = call(small(), backend="reference")

    def curvature(function: Any) -> Tensor:
        basis = tensors[2].clone().requires_grad_()
        first = torch.autograd.grad(function(tensors[0], tensors[1], basis, tensors[3]).sum(), basis, create_graph=True)
        second: Tensor = torch.autograd.grad((first[0] ** 2).sum(), basis)[0]
        return second

    expected = curvature(twin)
    assert float((curvature(native) - expected).abs().max()) <= 1e-8 * float(expected.abs().max())


def test_a_panel_that_is_not_there_and_another_device_are_refused() -> None:
    experiment = small()
    selection = roi(experiment.detector.config, (11, 12), (11, 12))
    wrong = PixelSelection(selection.panel + 3, selection.slow, selection.fast, selection.shapes)
    with pytest.raises(IndexError, match="panel"):
        Renderer(experiment, wrong, replace(POINTS, backend="native"))()
    native, tensors = call(small(), backend="native")
    with pytest.raises(ConfigError, match="float32 and float64"):
        native(*(tensor.to("meta") for tensor in tensors))
