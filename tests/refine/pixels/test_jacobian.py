"""The Jacobian of a block: one pass over the pixels, and the same numbers as reverse mode and as torch.func."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from nbtorch.config import Exposure, RenderSettings
from nbtorch.models import Experiment
from nbtorch.render import Renderer
from nbtorch.render.tangents import serves
from refine.frames.shoeboxes import BoxPlan, Shoeboxes, cut
from refine.parameters.kinds import CELL_LENGTH
from refine.parameters.parameter_set import Entry, Parameter, ParameterSet
from refine.pixels.block import Block
from tests.helpers.gradients import SCALE
from tests.helpers.scenes import Features, experiment, spot_pixels
from tests.refine.held import HeldPixels

SHAPES = ((16, 18), (16, 18))  # (slow, fast) of the panels of tests.helpers.scenes
STILL = (Exposure(20.0, 0.0),)
SCAN = (Exposure(20.0, 1.0, 2), Exposure(21.0, 1.0, 2), Exposure(22.0, 1.0, 3))
RICH = Features(
    shape="gauss_hkl", detector="layers", beam="spread", mosaic="antithetic", panels=2, oversample=2, water=True
)
SCENES = {
    "rich": RICH,
    "square": replace(RICH, shape="square", beam="sources", interpolation="tricubic"),
    "gauss": replace(RICH, shape="gauss", mosaic="nanobragg", detector="sensor", polarized=False),
    "drifting": replace(RICH, drifts=True, mosaic="anisotropic", oversample=1),
    "bare": replace(RICH, shape="round", detector="bare", beam="single", mosaic="none", oversample=1, water=False),
    "point": replace(RICH, detector="point", water=False, panels=1),
}


def shoeboxes(expt: Experiment, frames: int) -> Shoeboxes:
    """A box of 3 × 3 pixels about the spot of each panel, in every frame."""
    centres = spot_pixels(expt, len(expt.detector.config.panels))
    middle = [torch.stack([x, x + 3], dim=1).numpy() - 1 for x in (centres.fast, centres.slow)]
    count = len(centres)
    every = np.tile([0, frames], (count, 1))
    plan = BoxPlan(np.zeros((count, 3), dtype=int), centres.panel.numpy(), middle[0], middle[1], every)
    blank = [np.zeros(shape) for shape in SHAPES[: len(expt.detector.config.panels)]]
    ones = np.ones(len(blank))
    return cut(plan, HeldPixels([blank] * frames, [[image == 0 for image in blank]] * frames), (ones, ones))


def every_parameter(expt: Experiment, left_out: tuple[str, ...] = ()) -> ParameterSet:
    """Every number of every model as a parameter of its own, and a scale."""
    tensors = {name: value.detach().clone() for name, value in expt.named_parameters()}
    tensors["scale"] = torch.tensor([1.7], dtype=torch.float64)
    rows = []
    for name, value in tensors.items():
        for index in range(0 if name in left_out else value.numel()):
            entry = Entry(name, index, SCALE.get(name, 1.0))
            rows.append(Parameter(f"{name}[{index}]", CELL_LENGTH, "", 0.0, 1.0, (entry,), block=0))
    return ParameterSet(rows, [tensors])


def block_of(features: Features, exposures: tuple[Exposure, ...], **changes: object) -> tuple[Block, ParameterSet]:
    """The block of the scene with ``features``, and all that may move in it."""
    expt = experiment(features)
    with torch.no_grad():
        expt.detector.rotation.add_(0.3)
        expt.crystal.rotation.add_(0.2)
    water = 2e-5 if features.water else 0.0
    # culled, the two ways would leave out other samples, up to 1e-10 of the peak
    rendering = RenderSettings(
        oversample=features.oversample, interpolation=features.interpolation, water=water, culling=0.0
    )
    rendering = replace(rendering, **changes)  # type: ignore[arg-type]
    # µ = 0 is a switch to capture 1, and has no derivative
    bare = () if features.detector in ("sensor", "layers") else ("detector.absorption",)
    block = Block(0, expt, exposures, shoeboxes(expt, len(exposures)), rendering, "constant")
    return block, every_parameter(expt, bare)


def reverse_mode(block: Block, parameters: ParameterSet, weights: Tensor) -> Tensor:
    """Σ weight · ∂spots/∂parameter [U, T] of ``weights`` [U, B, Q], by one Renderer a frame and autograd."""
    values = parameters.values.detach().clone().requires_grad_()
    changes = parameters.changes(0, values)
    images = []
    for frame, pixels in block.boxes.selections:
        renderer = Renderer(block.experiment, pixels, block.renderers.settings)
        moved = {f"experiment.{name}": value for name, value in changes.items() if name != "scale"}
        images.append(torch.func.functional_call(renderer, moved, (block.exposures[frame],)))
    photons = torch.cat(images) * changes["scale"]
    spots = torch.where(block.boxes.valid, photons[block.boxes.position], 0)
    return torch.stack([torch.autograd.grad((spots * w).sum(), values, retain_graph=True)[0] for w in weights])


def worst(found: Tensor, expected: Tensor) -> float:
    """The largest difference, in units of the largest of its column, or 1e-9 of the largest of all where that is 0."""
    columns = expected.flatten(0, -2).abs().amax(0)
    return float(((found - expected).abs() / columns.clamp(min=1e-9 * float(columns.max()))).max())


@pytest.mark.parametrize("exposures", [STILL, SCAN], ids=["still", "scan"])
@pytest.mark.parametrize("name", SCENES)
def test_jacobian_is_reverse_mode_through_the_renderer(name: str, exposures: tuple[Exposure, ...]) -> None:
    block, parameters = block_of(SCENES[name], exposures)
    assert serves(block.renderers()[0], block.renderers.settings)
    _, jacobian = block.jacobian(parameters)
    weights = torch.rand(6, *block.boxes.valid.shape, dtype=torch.float64)
    expected = reverse_mode(block, parameters, weights)
    found = torch.einsum("ubq,bqt->ut", weights, jacobian)
    assert worst(found, expected) < 1e-12  # worst seen 7e-14, of the radial shapes
    moving = {
        p.name.split("[")[0] for p, column in zip(parameters.parameters_, expected.T, strict=True) if column.any()
    }
    assert moving >= {"detector.shift", "detector.rotation", "crystal.cell", "crystal.n_cells", "beam.fluence", "scale"}


@pytest.mark.parametrize("exposures", [STILL, SCAN], ids=["still", "scan"])
@pytest.mark.parametrize("name", ["rich", "square"])
def test_jacobian_is_forward_mode_of_torch_func(name: str, exposures: tuple[Exposure, ...]) -> None:
    block, parameters = block_of(SCENES[name], exposures)
    spots, jacobian = block.jacobian(parameters)
    same, expected = block.forward_mode(parameters)
    torch.testing.assert_close(spots, same, rtol=1e-13, atol=0)
    assert worst(jacobian, expected) < 1e-12  # worst seen 9e-15


@pytest.mark.parametrize("exposures", [STILL, SCAN], ids=["still", "scan"])
def test_jacobian_gives_the_model_itself(exposures: tuple[Exposure, ...]) -> None:
    block, parameters = block_of(RICH, exposures)
    torch.testing.assert_close(block.jacobian(parameters)[0], block.model(parameters), rtol=1e-12, atol=0)


def test_blocks_of_pixels_do_not_change_the_jacobian() -> None:
    whole, parameters = block_of(RICH, SCAN)
    parts, _ = block_of(RICH, SCAN, block_bytes=1)
    for one, other in zip(whole.jacobian(parameters), parts.jacobian(parameters), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12 * float(one.abs().max()))


@pytest.mark.parametrize(
    ("features", "changes"),
    [
        (RICH, {"backend": "reference"}),
        (replace(RICH, detector="curved"), {}),
        (replace(RICH, detector="layers"), {"mode": "cached"}),
    ],
    ids=["reference", "curved", "cached"],
)
def test_what_the_kernels_do_not_serve_takes_forward_mode(features: Features, changes: dict[str, str]) -> None:
    block, parameters = block_of(features, SCAN, **changes)
    assert not serves(block.renderers()[0], block.renderers.settings)
    _, jacobian = block.jacobian(parameters)
    weights = torch.rand(3, *block.boxes.valid.shape, dtype=torch.float64)
    found = torch.einsum("ubq,bqt->ut", weights, jacobian)
    assert worst(found, reverse_mode(block, parameters, weights)) < 1e-12


def test_parameters_that_are_held_have_no_column() -> None:
    block, parameters = block_of(RICH, SCAN)
    _, every = block.jacobian(parameters)
    chosen = [i for i, p in enumerate(parameters.parameters_) if p.name.startswith(("crystal.cell", "scale"))]
    parameters.release(chosen)
    _, few = block.jacobian(parameters)
    torch.testing.assert_close(few, every[..., chosen], rtol=1e-12, atol=1e-12 * float(every.abs().max()))
    parameters.release([])
    spots, none = block.jacobian(parameters)
    assert none.shape == (*spots.shape, 0)


def test_frames_of_a_scan_are_what_each_renders_alone() -> None:
    """What frames share is derived once; only the basis is a frame's own."""
    block, parameters = block_of(RICH, SCAN)
    together = block.model(parameters)
    alone = [
        Renderer(block.experiment, pixels, block.renderers.settings)(SCAN[frame])
        for frame, pixels in block.boxes.selections
    ]
    photons = 1.7 * torch.cat(alone).detach()
    expected = torch.where(block.boxes.valid, photons[block.boxes.position], 0)
    torch.testing.assert_close(together, expected, rtol=1e-14, atol=0)
