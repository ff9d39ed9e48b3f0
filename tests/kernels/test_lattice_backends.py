"""The C lattice sum against its twin: value and gradient, all features, every executable instruction set."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from nbtorch.kernels import lattice_sum, reference
from nbtorch.kernels.native import library
from tests.kernels.scenarios import LATTICE_SCENES, LatticeScene, lattice_scene, uniform, worst

EXECUTABLE = [name for name, runs in library.instruction_sets().items() if runs] if library.AVAILABLE else []


@pytest.fixture(params=EXECUTABLE)
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    before = library.use_instruction_set(request.param)
    yield request.param
    library.use_instruction_set(before)


def gradients(scene: LatticeScene, backend: str, precision: str = "double") -> tuple[Tensor, list[Tensor]]:
    """The sum, and its gradient to every argument for a fixed random weighting of the samples."""
    leaves = scene.leaves()
    operator = lattice_sum if backend == "native" else reference.lattice_sum
    value = scene.function(operator, backend=backend, precision=precision)(*leaves)
    weighting = uniform(7, *value.shape) - 0.5
    return value, list(torch.autograd.grad(value, leaves, weighting, materialize_grads=True))


def test_kernels_are_compiled_in_this_environment() -> None:
    assert library.AVAILABLE, f"{library.WHY_ABSENT}. {library.HOW_TO_GET_IT}"
    assert library.instruction_sets()["baseline"]


@pytest.mark.parametrize("name", LATTICE_SCENES)
def test_native_value_and_gradient_are_the_twins(name: str, instruction_set: str) -> None:
    scene = LATTICE_SCENES[name]()
    expected, expected_gradients = gradients(scene, "reference")
    found, found_gradients = gradients(scene, "native")
    # N = 500: far from a peak, where this scene's samples lie, either backend's rounding of an index near 80 (1e-14) is
    # multiplied by 2πN and by the steepness of the lobe's flank
    assert worst(found, expected) < (2e-10 if "N500" in name else 1e-12)
    for argument, of_found, of_expected in zip(scene.names, found_gradients, expected_gradients, strict=True):
        assert worst(of_found, of_expected) < (2e-10 if "N500" in name else 2e-12), argument


@pytest.mark.parametrize("name", LATTICE_SCENES)
def test_fast_gradient_is_near_the_double_one(name: str, instruction_set: str) -> None:
    scene = LATTICE_SCENES[name]()
    _, expected = gradients(scene, "reference")
    _, found = gradients(scene, "native", "fast")
    for argument, of_found, of_expected in zip(scene.names, found, expected, strict=True):
        assert worst(of_found, of_expected) < (2e-4 if "N500" in name else 1e-5), argument


def near_reflections(n_cells: float, shape: str) -> LatticeScene:
    """One orientation, and rays that pass 2,000 reflections at 0 to 4 widths of their main lobe."""
    scene = lattice_scene(shape, n_cells=(n_cells,) * 3, sizes=(2000, 1, 1), dmin=0.0)
    _, incident, wavelength, basis, n, metric, weight = scene.present
    width = float(1 / metric.diagonal().max().sqrt())
    hkl = torch.randint(-20, 21, (2000, 3), generator=torch.Generator().manual_seed(1)).double()
    offset = (uniform(2, 2000, 3) - 0.5) * 8 * uniform(3, 2000, 1) * width
    scattering = torch.linalg.solve(basis[0], (hkl + offset).T).T
    # the sum is defined for any q: `diffracted` need not be of unit length here
    diffracted = scattering * wavelength + incident
    return LatticeScene((diffracted, incident, wavelength, basis, n, metric, None, weight), scene.settings)


def detector_rays(scene: LatticeScene) -> list[Tensor]:
    """The scene's tensors with the rays of 64 × 64 neighbouring pixels: what the boxes of culling are made for."""
    fan = torch.linspace(-0.03, 0.03, 64, dtype=torch.float64)
    rays = torch.cartesian_prod(torch.ones(1, dtype=torch.float64), fan, fan)
    return [rays / rays.norm(dim=-1, keepdim=True), *scene.present[1:]]


@pytest.mark.parametrize("shape", ["square", "round", "gauss", "gauss_hkl"])
@pytest.mark.parametrize(("n_cells", "bound"), [(20.0, 2e-5), (500.0, 1e-4)])
def test_fast_precision_keeps_its_bound_in_units_of_the_peak(
    shape: str, n_cells: float, bound: float, instruction_set: str
) -> None:
    scene = near_reflections(n_cells, shape)
    expected = scene.function(reference.lattice_sum)(*scene.present)
    peak = float(scene.settings.default_F**2 * scene.present[-1] * n_cells**6)
    assert expected.max() > 0.3 * peak  # the lobes are sampled near their tops
    fast = scene.function(lattice_sum, backend="native", precision="fast")(*scene.present)
    assert float((fast - expected).abs().max()) / peak < bound  # worst seen 1.2e-6 at N = 500: square, avx2


@pytest.mark.parametrize("precision", ["double", "fast"])
@pytest.mark.parametrize("shape", ["gauss", "gauss_hkl", "tophat"])
def test_culled_sum_and_gradient_agree_within_the_bound(shape: str, precision: str) -> None:
    culling = 1e-6
    cells = (20.0, 18.0, 22.0) if shape == "gauss_hkl" else (2.0, 3.0, 2.0)
    whole = lattice_scene(shape, "nearest", cells, sizes=(1, 1, 40))
    leaves = detector_rays(whole)
    peak = float((whole.present[-1].sum() * whole.present[-2].max() ** 2) * torch.tensor(cells).prod() ** 2)
    results = []
    for bound in (0.0, culling):
        inputs = [leaf.clone().requires_grad_() for leaf in leaves]
        value = whole.function(lattice_sum, backend="native", precision=precision, culling=bound)(*inputs)
        results.append((value.detach(), torch.autograd.grad(value.sum(), inputs)))
    (plain, plain_gradients), (culled, culled_gradients) = results
    assert float((plain - culled).abs().max()) <= culling * peak
    for found, expected in zip(culled_gradients, plain_gradients, strict=True):
        assert worst(found, expected) < 1e-4


def test_culling_leaves_out_what_it_may() -> None:
    scene = lattice_scene("gauss_hkl", n_cells=(20.0, 20.0, 20.0), sizes=(1, 1, 40))
    plain, culled = (
        scene.function(lattice_sum, backend="native", culling=c)(*detector_rays(scene)) for c in (0.0, 0.5)
    )
    assert not torch.equal(plain, culled)


@pytest.mark.parametrize("shape", ["square", "round"])
def test_shapes_with_tails_are_never_culled(shape: str) -> None:
    scene = lattice_scene(shape, n_cells=(20.0, 20.0, 20.0), sizes=(1, 1, 40))
    plain, culled = (
        scene.function(lattice_sum, backend="native", culling=c)(*detector_rays(scene)) for c in (0.0, 0.5)
    )
    assert torch.equal(plain, culled)


@pytest.mark.parametrize("precision", ["double", "fast"])
def test_result_is_the_same_for_any_number_of_threads(precision: str) -> None:
    scene = lattice_scene("square", "nearest", sizes=(700, 3, 5))
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        value, of_arguments = gradients(scene, "native", precision)
        results.append([value.detach(), *of_arguments])
    for others in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], others, strict=True))


def test_float32_inputs_are_served_fast_and_answered_in_float32() -> None:
    scene = lattice_scene()
    single = [tensor.float().requires_grad_() for tensor in scene.present]
    value = scene.function(lattice_sum, backend="native")(*single)
    assert value.dtype == torch.float32
    # the same numbers in float64 lanes differ: "auto" did choose float32 lanes
    assert not torch.equal(value, scene.function(lattice_sum, backend="native", precision="double")(*single))
    assert all(g.dtype == torch.float32 for g in torch.autograd.grad(value.sum(), single))


def test_samples_off_every_scale_do_not_reach_outside_the_table() -> None:
    scene = lattice_scene("square", "tricubic", sizes=(6, 1, 1), dmin=0.0)
    diffracted = scene.present[0].clone()
    diffracted[:4] = torch.tensor([float("nan"), float("inf"), 1e30, -1e9], dtype=torch.float64)[:, None]
    value = scene.function(lattice_sum, backend="native")(diffracted, *scene.present[1:])
    expected = scene.function(reference.lattice_sum)(scene.present[0], *scene.present[1:])
    assert worst(value[4:], expected[4:]) < 1e-12
