"""What PyTorch knows of the operators: fakes, registration, meta tensors; and what happens without the library."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from nbtorch.errors import ConfigError
from nbtorch.kernels import blocks, dispatch, lattice_sum, pixel_rays, reference
from nbtorch.kernels.native import lattice_op, library, rays_op
from nbtorch.kernels.rays_function import RayStatics, sample_tensors
from tests.kernels.scenarios import RayScene, grid_scene, lattice_scene, normal, ray_scene, worst


@pytest.mark.parametrize("table", [None, "nearest"])
def test_lattice_operators_pass_opcheck(table: str | None) -> None:
    scene = lattice_scene("square", table, sizes=(5, 2, 3))
    statics = lattice_op.flat_settings(scene.settings, scene.arguments()[6], torch.float64)
    inputs = lattice_op.flat_tensors(scene.tensors)
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    torch.library.opcheck(lattice_op.lattice_value, (leaves, *statics))
    torch.library.opcheck(lattice_op.lattice_gradient, (normal(1, 5, 2), inputs, *statics, table is not None))
    tangents = [None if tensor is None else normal(2, 3, *tensor.shape) for tensor in scene.tensors]
    torch.library.opcheck(lattice_op.lattice_tangents, (inputs, tangents, 3, *statics))


@pytest.mark.parametrize("name", ["wavelength", "basis", "n_cells", "metric", "weight"])
def test_lattice_shapes_that_do_not_fit_never_reach_c(name: str) -> None:
    scene = lattice_scene(sizes=(5, 2, 3))
    wrong = [t[..., :-1] if label == name else t for t, label in zip(scene.present, scene.names, strict=True)]
    with pytest.raises(ValueError, match=f"{name} has the shape"):
        scene.function(lattice_sum, backend="native")(*wrong)


@pytest.mark.parametrize("field", ["frame", "pixel_size", "absorption", "fast", "slow", "depth", "layer"])
def test_ray_shapes_that_do_not_fit_never_reach_c(field: str) -> None:
    scene = ray_scene(5)
    wrong = [t[..., :-1] if label == field else t for t, label in zip(scene.tensors, scene.names, strict=True)]
    with pytest.raises(ValueError, match=f"{field} has the shape"):
        scene.function(pixel_rays, backend="native")(*wrong)


@pytest.mark.parametrize("sizes", [(0, 1, 3), (5, 1, 0)])
def test_a_sum_over_nothing_is_the_twins(sizes: tuple[int, int, int]) -> None:
    scene = lattice_scene(sizes=sizes)
    found = scene.function(lattice_sum, backend="native")(*scene.present)
    assert torch.equal(found, scene.function(reference.lattice_sum)(*scene.present))


@pytest.mark.parametrize("scene", [ray_scene(5), grid_scene(2, 1, 2)], ids=["listed", "grid"])
def test_ray_operators_pass_opcheck(scene: RayScene) -> None:
    axes = (scene.beam.incident,) * 3
    inputs = [*scene.panels, *axes, scene.beam.kahn_factor, *sample_tensors(scene.samples)]
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    samples = len(scene.samples.listed().panel)
    pixels, *others = RayStatics.of(scene.samples, scene.settings).flat
    statics = (list(pixels), *others)
    torch.library.opcheck(rays_op.rays_value, (leaves, *statics))
    torch.library.opcheck(rays_op.rays_gradient, (normal(1, samples, 3), normal(2, samples, 2), inputs, *statics))
    tangents = [normal(3, 3, *tensor.shape) for tensor in inputs]
    torch.library.opcheck(rays_op.rays_tangents, (inputs, tangents, 3, *statics))


def test_compiled_program_contains_the_operator() -> None:
    scene = lattice_scene(sizes=(5, 2, 3))
    function = scene.function(lattice_sum, backend="native")
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    results = []
    for called in (function, compiled):
        leaves = scene.leaves()
        value = called(*leaves)
        results.append([value, *torch.autograd.grad(value.sum(), leaves)])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)


def test_meta_tensors_get_shapes_from_the_twin() -> None:
    scene = lattice_scene("square", "nearest", sizes=(5, 2, 3))
    on_meta = [tensor.to("meta") for tensor in scene.present]
    value = scene.function(lattice_sum)(*on_meta)
    assert value.device.type == "meta"
    assert value.shape == (5, 2)
    rays = ray_scene(7)
    samples = rays.samples._replace(panel=rays.samples.panel.to("meta"))
    moved = type(rays)(rays.panels, rays.beam, samples, rays.settings)
    diffracted, weight = moved.function(pixel_rays)(*(tensor.to("meta") for tensor in rays.tensors))
    assert (diffracted.shape, weight.shape) == ((7, 3), (7, 2))


def test_fake_tensors_go_through_the_native_operators() -> None:
    scene = lattice_scene("square", "nearest", sizes=(5, 2, 3))
    with FakeTensorMode(allow_non_fake_inputs=False) as mode:
        fakes = [mode.from_tensor(tensor) for tensor in scene.present]
        value = scene.function(lattice_sum, backend="native")(*fakes)
    assert value.shape == (5, 2)
    assert value.dtype == torch.float64


@pytest.fixture
def absent_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(library, "DIRECTORY", tmp_path)
    opened, why = library._open()
    monkeypatch.setattr(library, "LIBRARY", opened)
    monkeypatch.setattr(library, "WHY_ABSENT", why)
    monkeypatch.setattr(library, "AVAILABLE", opened is not None)
    dispatch._tell_that_reference_serves.cache_clear()
    yield
    dispatch._tell_that_reference_serves.cache_clear()


@pytest.mark.usefixtures("absent_library")
def test_without_the_library_the_reference_serves_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    scene = lattice_scene()
    with caplog.at_level(logging.WARNING, logger="nbtorch"):
        found = [scene.function(lattice_sum)(*scene.present) for _ in range(2)]
    assert torch.equal(found[0], scene.function(reference.lattice_sum)(*scene.present))
    (record,) = caplog.records
    assert "were not compiled" in record.message
    assert "Install a C compiler" in record.message


@pytest.mark.usefixtures("absent_library")
def test_asking_for_an_absent_library_is_an_error_that_says_how_to_get_it() -> None:
    scene = lattice_scene()
    with pytest.raises(ConfigError, match="Install a C compiler"):
        scene.function(lattice_sum, backend="native")(*scene.present)


def test_library_of_other_sources_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Longer(library.LatticeArgs):
        _fields_ = (("one_more", library._int),)

    monkeypatch.setattr(library, "LatticeArgs", Longer)
    opened, why = library._open()
    assert opened is None
    assert "other sources" in why


def test_native_backend_refuses_what_it_cannot_take() -> None:
    scene = lattice_scene()
    half = [tensor.half() for tensor in scene.present]
    with pytest.raises(ConfigError, match=r"torch\.float16 on cpu"):
        scene.function(lattice_sum, backend="native")(*half)
    with pytest.raises(ConfigError, match="auto, reference, native"):
        pixel_rays(*ray_scene(2).function(lambda *a: a)(*ray_scene(2).tensors), backend="fortran")  # type: ignore[arg-type]


def test_reference_in_blocks_is_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = lattice_scene("square", "nearest")
    results = []
    for bytes_of_block in (blocks.BLOCK_BYTES, 40_000):
        monkeypatch.setattr(blocks, "BLOCK_BYTES", bytes_of_block)
        leaves = scene.leaves()
        value = scene.function(lattice_sum, backend="reference")(*leaves)
        results.append([value, *torch.autograd.grad(value, leaves, normal(1, 50, 3), materialize_grads=True)])
    assert blocks.block_length(3, 7, 8, "nearest") < 50  # there was more than one block
    for found, expected in zip(*results, strict=True):
        assert worst(found, expected) < 1e-13
    tangent = normal(1, *scene.present[0].shape)
    columns = []
    for bytes_of_block in (blocks.BLOCK_BYTES, 2**30):
        monkeypatch.setattr(blocks, "BLOCK_BYTES", bytes_of_block)
        function = scene.function(lattice_sum, backend="reference")
        columns.append(
            torch.func.jvp(lambda d, f=function: f(d, *scene.present[1:]), (scene.present[0],), (tangent,))[1]
        )
    assert worst(*columns) < 1e-13


def test_reference_in_blocks_keeps_nothing_per_orientation(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = lattice_scene(sizes=(200, 1, 50))
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1_000_000)
    kept: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        scene.function(lattice_sum, backend="reference")(*scene.leaves())
    assert max(kept, default=0) < 200 * 50


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # the compiler's own
def test_the_compiled_twin_is_the_twin_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a GPU takes it, on whatever compiler there is for the CPU: several blocks, with the gradient."""
    monkeypatch.setattr(blocks, "worth_compiling", lambda device, terms: True)
    monkeypatch.setattr(blocks, "block_length", lambda *_: 20)
    scene, results = lattice_scene("gauss_hkl"), []
    for operator in (reference.lattice_sum, blocks.lattice_sum):
        leaves = scene.leaves()
        value = scene.function(operator)(*leaves)
        gradients = torch.autograd.grad(value.sum(), leaves, materialize_grads=True)
        results.append([value, *gradients])
    for expected, found in zip(*results, strict=True):
        assert worst(found, expected) < 1e-13  # worst seen 3e-15


def test_only_large_sums_on_a_gpu_are_compiled() -> None:
    many = blocks.COMPILED_FROM
    assert not blocks.worth_compiling(torch.device("cpu"), many)
    assert not blocks.worth_compiling(torch.device("cuda"), many - 1)
