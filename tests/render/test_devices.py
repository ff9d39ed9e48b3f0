"""The model works on whatever device and in whatever precision its parameters are; it makes no stray tensor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from nbtorch.render import Renderer, full_frame, pixel_list
from tests.helpers.scenes import RICH, Features, experiment, settings, spot

SCENES = [
    Features(),
    RICH,
    replace(RICH, mode="cached", beam="sources", mosaic="nanobragg", shape="square", interpolation="nearest"),
    replace(RICH, mode="running_all", shape="gauss", detector="sensor"),
    replace(RICH, detector="curved", shape="tophat", polarized=False),
    replace(RICH, detector="point", shape="gauss_hkl"),
]


@contextmanager
def default_device(name: str) -> Iterator[None]:
    """Every tensor made without a device is made on ``name``."""
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


def renderer_on(features: Features, device: str) -> Renderer:
    scene = experiment(features, device=device)
    return Renderer(scene, full_frame(scene.detector.config), settings(features))


@pytest.mark.parametrize("features", SCENES, ids=str)
def test_a_model_on_the_cpu_makes_no_tensor_on_the_default_device(features: Features) -> None:
    """With "meta" as default, a tensor made without a device meets one of the model's, and that is an error."""
    renderer = spot(features)
    expected = renderer()
    with default_device("meta"):
        value = renderer()
        value.sum().backward()
    assert value.device.type == "cpu"
    assert torch.equal(value, expected)


@pytest.mark.parametrize("features", SCENES, ids=str)
def test_a_model_on_another_device_makes_no_tensor_on_the_cpu(features: Features) -> None:
    """The meta device computes shapes alone, so that also a look at a value on the host is an error here."""
    renderer = renderer_on(features, "meta")
    value = renderer()
    value.sum().backward()
    assert value.device.type == "meta"
    assert value.shape == (len(renderer.pixels),)
    assert {p.grad.device.type for p in renderer.parameters() if p.grad is not None} == {"meta"}


@pytest.mark.parametrize("features", SCENES, ids=str)
def test_blocks_need_no_value_of_the_model_either(features: Features) -> None:
    renderer = renderer_on(features, "meta")
    few = pixel_list(renderer.experiment.detector.config, *torch.tensor([[0, 0], [1, 2], [3, 4]]))
    chunked = Renderer(renderer.experiment, few, replace(renderer.settings, block_bytes=1))
    assert chunked().shape == (2,)


@pytest.mark.parametrize("features", SCENES, ids=str)
def test_a_model_moved_to_a_dtype_renders_in_it(features: Features) -> None:
    renderer = spot(features).to(torch.float32)
    with torch.no_grad():
        value = renderer()
    assert value.dtype == torch.float32
    assert bool(torch.isfinite(value).all())


@pytest.mark.cuda
@pytest.mark.parametrize("features", SCENES, ids=str)
def test_image_on_a_gpu_equals_that_on_the_cpu(features: Features) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    renderer = spot(features)
    with torch.no_grad():
        expected = renderer()
        value = renderer.to("cuda")()
    assert value.device.type == "cuda"
    # of the peak: sums in another order and other sin, exp
    assert float((value.cpu() - expected).abs().max()) < 1e-11 * float(expected.max())


def test_noise_of_an_image_is_reproducible_from_its_generator() -> None:
    from nbtorch.functional.random import photon_noise

    with torch.no_grad():
        mean = spot(RICH)()
    first, again, other = (photon_noise(mean, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
