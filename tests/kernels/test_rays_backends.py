"""The C pixel rays against their twin: value and gradient."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from nbtorch.kernels import pixel_rays, reference
from nbtorch.kernels.native import library
from tests.kernels.scenarios import RAY_SCENES, RayScene, grid_scene, normal, ray_scene, worst

EXECUTABLE = [name for name, runs in library.instruction_sets().items() if runs] if library.AVAILABLE else []


@pytest.fixture(params=EXECUTABLE)
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    before = library.use_instruction_set(request.param)
    yield request.param
    library.use_instruction_set(before)


def gradients(scene: RayScene, native: bool) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Both outputs, and their joint gradient for a fixed random weighting."""
    leaves = [tensor.clone().requires_grad_() for tensor in scene.tensors]
    function = scene.function(pixel_rays, backend="native") if native else scene.function(reference.pixel_rays)
    outputs = list(function(*leaves))
    # the weights are about 1e-6 sr, the directions about 1: each gets its say
    weightings = [normal(11, *outputs[0].shape), 1e6 * normal(12, *outputs[1].shape)]
    return outputs, list(torch.autograd.grad(outputs, leaves, weightings, materialize_grads=True))


@pytest.mark.parametrize("name", RAY_SCENES)
def test_native_rays_and_gradient_are_the_twins(name: str, instruction_set: str) -> None:
    scene = RAY_SCENES[name]()
    expected, expected_gradients = gradients(scene, native=False)
    found, found_gradients = gradients(scene, native=True)
    assert worst(found[0], expected[0]) < 1e-15
    assert worst(found[1], expected[1]) < 2e-14
    for argument, of_found, of_expected in zip(scene.names, found_gradients, expected_gradients, strict=True):
        assert worst(of_found, of_expected) < 1e-12, argument


def test_a_grid_is_its_listed_samples() -> None:
    scene = grid_scene()
    listed = pixel_rays(scene.panels, scene.beam, scene.samples.listed(), scene.settings, backend="native")
    found = pixel_rays(scene.panels, scene.beam, scene.samples, scene.settings, backend="native")
    assert all(torch.equal(one, other) for one, other in zip(found, listed, strict=True))


def test_curved_detector_is_served_by_the_twin() -> None:
    scene = ray_scene(curved=True)
    found = scene.function(pixel_rays, backend="native")(*scene.tensors)
    expected = scene.function(reference.pixel_rays)(*scene.tensors)
    assert torch.equal(found[0], expected[0])
    assert not torch.equal(found[0], ray_scene().function(pixel_rays, backend="native")(*scene.tensors)[0])


@pytest.mark.parametrize("scene", [ray_scene(9000), grid_scene(750)], ids=["listed", "grid"])
def test_rays_are_the_same_for_any_number_of_threads(scene: RayScene) -> None:
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        outputs, of_arguments = gradients(scene, native=True)
        results.append([*(output.detach() for output in outputs), *of_arguments])
    for others in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], others, strict=True))


@pytest.mark.parametrize("scene", [ray_scene(10), grid_scene(10)], ids=["listed", "grid"])
@pytest.mark.parametrize("panel", [-1, 3])
def test_panel_that_is_not_there_is_refused(panel: int, scene: RayScene) -> None:
    wrong = scene.samples._replace(panel=torch.full((10,), panel))
    with pytest.raises(IndexError, match="not one of the 3"):
        pixel_rays(scene.panels, scene.beam, wrong, scene.settings, backend="native")
