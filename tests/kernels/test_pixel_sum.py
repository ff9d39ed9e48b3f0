"""The pixel sum in one pass of C against the two operators one after the other: value, gradient, what is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from nbtorch.config import LatticeSettings
from nbtorch.functional.structure_factor import StructureFactorTable
from nbtorch.kernels import fuses, lattice_sum, pixel_rays, pixel_sum
from nbtorch.kernels.lattice_function import LatticeStatics
from nbtorch.kernels.native import library, pixel_sum_op
from nbtorch.kernels.pixel_sum_function import PixelSumStatics
from nbtorch.kernels.rays_function import RayStatics, sample_tensors
from nbtorch.kernels.reference import BeamFrame, LatticeTensors, PanelFrames, SampleGrid, sum_in_pixels
from tests.kernels.scenarios import LatticeScene, RayScene, grid_scene, lattice_scene, normal, uniform, worst

EXECUTABLE = [name for name, runs in library.instruction_sets().items() if runs] if library.AVAILABLE else []
LATTICE = ("wavelength", "basis", "n_cells", "metric", "table", "weight")


@pytest.fixture(params=EXECUTABLE)
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    before = library.use_instruction_set(request.param)
    yield request.param
    library.use_instruction_set(before)


@dataclass(frozen=True)
class PixelScene:
    """Arguments of ``pixel_sum``: a grid of samples on several panels, two sources, some orientations."""

    rays: RayScene
    lattice: LatticeScene

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that takes a gradient, by name."""
        of_lattice = {
            name: t for name, t in zip(self.lattice.names, self.lattice.present, strict=True) if name in LATTICE
        }
        of_rays = dict(zip(self.rays.names, self.rays.tensors, strict=True))
        return {**of_rays, **of_lattice, "source_weight": 0.5 + uniform(20, 2)}

    def arguments(self, tensors: dict[str, Tensor], **changes: Any) -> tuple[Any, ...]:
        """Positional arguments of ``pixel_sum`` with ``tensors`` and changed settings."""
        names = self.rays.names
        panels = PanelFrames(*(tensors[name] for name in PanelFrames._fields))
        beam = BeamFrame(
            *(tensors[name] if name in names else getattr(self.rays.beam, name) for name in BeamFrame._fields)
        )
        grid = self.rays.samples
        assert isinstance(grid, SampleGrid)
        samples = grid._replace(layer_step=tensors["layer_step"])
        table = StructureFactorTable(tensors["table"], self.lattice.first) if "table" in tensors else None
        of_lattice = LatticeTensors(*(table if name == "table" else tensors[name] for name in LATTICE))
        settings: LatticeSettings = replace(self.lattice.settings, **changes)
        return panels, beam, samples, tensors["source_weight"], of_lattice, self.rays.settings, settings


def in_two_steps(
    panels: PanelFrames,
    beam: BeamFrame,
    samples: SampleGrid,
    source_weight: Tensor,
    lattice: LatticeTensors,
    rays: Any,
    settings: LatticeSettings,
) -> Tensor:
    diffracted, weight = pixel_rays(panels, beam, samples, rays, settings.backend)
    sums = lattice_sum(diffracted, beam.incident, *lattice, settings)
    return sum_in_pixels(weight * source_weight, sums, samples.layers * samples.oversample**2)


def scene(
    shape: str = "square", table: str | None = None, grid: tuple[int, int, int] = (40, 2, 3), **settings: Any
) -> PixelScene:
    """``grid`` = (pixels, layers, oversample)."""
    return PixelScene(grid_scene(*grid), lattice_scene(shape, table, sizes=(1, 2, 7), **settings))


def value_and_gradients(
    operator: Callable[..., Tensor], pixels: PixelScene, only: str | None = None, **changes: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    leaves = {name: t.clone().requires_grad_(only in (None, name)) for name, t in pixels.tensors.items()}
    value = operator(*pixels.arguments(leaves, **changes))
    moving = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
    weighting = normal(21, *value.shape)
    found = torch.autograd.grad(value, list(moving.values()), weighting, materialize_grads=True)
    return value.detach(), dict(zip(moving, found, strict=True))


SCENES: dict[str, Callable[[], PixelScene]] = {
    "square": scene,
    "square-one-sample": lambda: scene(grid=(300, 1, 1)),
    "square-four-samples": lambda: scene(grid=(100, 1, 2)),
    "square-more-samples-than-lanes": lambda: scene(grid=(5, 3, 5)),
    "square-one-pixel": lambda: scene(grid=(1, 1, 1)),
    "square-tricubic": lambda: scene("square", "tricubic", n_cells=(2.0, 3.0, 2.0)),
    "square-nothing-within-dmin": lambda: scene(dmin=100.0),
    "round-nearest": lambda: scene("round", "nearest"),
    "gauss": lambda: scene("gauss", n_cells=(1.5, 2.0, 1.0)),
    "tophat": lambda: scene("tophat", n_cells=(1.0, 2.0, 1.5)),
    "gauss_hkl-tricubic": lambda: scene("gauss_hkl", "tricubic", n_cells=(1.5, 2.0, 1.0)),
}


@pytest.mark.parametrize("name", SCENES)
def test_one_pass_is_two_steps(name: str, instruction_set: str) -> None:
    pixels = SCENES[name]()
    expected, expected_gradients = value_and_gradients(in_two_steps, pixels, backend="reference")
    found, found_gradients = value_and_gradients(pixel_sum, pixels, backend="native")
    assert worst(found, expected) < 1e-12
    for argument, gradient in found_gradients.items():
        assert worst(gradient, expected_gradients[argument]) < 1e-11, argument


@pytest.mark.parametrize("only", sorted({*scene("gauss", "nearest").tensors} - {"axis"}))  # no formula has the axis
def test_a_gradient_asked_for_alone_is_the_same(only: str) -> None:
    pixels = scene("gauss" if only == "metric" else "square", "nearest")
    _, every = value_and_gradients(pixel_sum, pixels, backend="native")
    _, alone = value_and_gradients(pixel_sum, pixels, only, backend="native")
    assert bool(every[only].any())
    assert worst(alone[only], every[only]) < 1e-14


def test_fast_precision_is_close_in_value_and_gradient() -> None:
    pixels = scene(grid=(300, 1, 1), n_cells=(20.0, 20.0, 20.0))
    expected, expected_gradients = value_and_gradients(pixel_sum, pixels, backend="native")
    found, found_gradients = value_and_gradients(pixel_sum, pixels, backend="native", precision="fast")
    assert worst(found, expected) < 2e-5
    for argument, gradient in found_gradients.items():
        assert worst(gradient, expected_gradients[argument]) < 1e-3, argument


def test_second_derivatives_are_those_of_two_steps() -> None:
    pixels = scene(grid=(4, 1, 1), dmin=0.0)

    def twice(operator: Callable[..., Tensor]) -> list[Tensor]:
        leaves = {name: t.clone().requires_grad_() for name, t in pixels.tensors.items()}
        value = operator(*pixels.arguments(leaves, backend="native"))
        (first,) = torch.autograd.grad(value.sum(), leaves["basis"], create_graph=True)
        wanted = [leaves["basis"], leaves["wavelength"]]
        return list(torch.autograd.grad((first * normal(22, *first.shape)).sum(), wanted))

    for found, expected in zip(twice(pixel_sum), twice(in_two_steps), strict=True):
        assert bool(expected.any())
        assert worst(found, expected) < 1e-11


def test_any_number_of_threads_gives_the_same_bits() -> None:
    pixels, before = scene(grid=(900, 1, 2)), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            value, gradients = value_and_gradients(pixel_sum, pixels, backend="native")
            results.append([value, *gradients.values()])
    finally:
        torch.set_num_threads(before)
    for one, *others in zip(*results, strict=True):
        assert all(torch.equal(one, other) for other in others)


def test_forward_mode_and_transforms_take_the_two_operators() -> None:
    pixels = scene(grid=(6, 1, 2))
    tensors = pixels.tensors

    def moved(basis: Tensor) -> Tensor:
        return pixel_sum(*pixels.arguments({**tensors, "basis": basis}, backend="native"))

    forward, reverse = (
        torch.func.jacfwd(moved)(tensors["basis"]),
        torch.autograd.functional.jacobian(moved, tensors["basis"]),
    )
    assert bool(reverse.any())
    assert worst(forward, reverse) < 1e-12


def test_it_fuses_where_the_c_kernels_serve_alone() -> None:
    pixels = scene()
    *_, rays, settings = pixels.arguments(pixels.tensors)
    tensors = list(pixels.tensors.values())
    assert fuses(tensors, rays, settings)
    assert not fuses(tensors, rays._replace(curved=True), settings)
    assert not fuses(tensors, rays, replace(settings, backend="reference"))
    assert not fuses([tensor.to("meta") for tensor in tensors], rays, settings)


def test_a_pixel_on_a_panel_that_is_not_there_is_an_error() -> None:
    pixels = scene()
    panels, beam, samples, *rest = pixels.arguments(pixels.tensors, backend="native")
    with pytest.raises(IndexError, match="a pixel lies on a panel"):
        pixel_sum(panels, beam, samples._replace(panel=samples.panel + 100), *rest)


def test_pixel_sum_operators_pass_opcheck() -> None:
    pixels = scene("square", "nearest", grid=(5, 1, 2))
    panels, beam, samples, source_weight, of_lattice, rays, settings = pixels.arguments(pixels.tensors)
    of_rays = [*panels, *(beam.incident,) * 3, beam.kahn_factor, *sample_tensors(samples)]
    inputs = [*of_rays, beam.incident.new_empty(0), beam.incident, *of_lattice[:4], of_lattice.table.values]
    inputs += [of_lattice.weight, source_weight]
    of_both = LatticeStatics.of(settings, of_lattice.table, torch.float64)
    indices, choices, limits = PixelSumStatics(RayStatics.of(samples, rays), of_both).flat
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    torch.library.opcheck(pixel_sum_op.pixel_sum_value, (leaves, list(indices), choices, limits))
    wanted = [True] * len(inputs)
    torch.library.opcheck(
        pixel_sum_op.pixel_sum_gradient, (normal(1, 5), inputs, list(indices), choices, limits, wanted)
    )
