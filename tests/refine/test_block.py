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
from refine.block import Block
from refine.parameters import Entry, Parameter, ParameterSet
from refine.shoeboxes import BoxPlan, Shoeboxes, cut
from tests.helpers.gradients import SCALE
from tests.helpers.scenes import Features, experiment, spot_pixels

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
    "bare": replace(RICH, shape="round", detector="bare", beam="single", mosaic="none", oversample=1, water=False),
    "point": replace(RICH, detector="point", water=False, panels=1),
}


def shoeboxes(shot: Experiment, frames: int) -> Shoeboxes:
    """A box of 3 × 3 pixels about the spot of each panel, in every frame."""
    centres = spot_pixels(shot, len(shot.detector.config.panels))
    middle = [torch.stack([x, x + 3], dim=1).numpy() - 1 for x in (centres.fast, centres.slow)]
    count = len(centres)
    every = np.tile([0, frames], (count, 1))
    plan = BoxPlan(np.zeros((count, 3), dtype=int), centres.panel.numpy(), middle[0], middle[1], every)
    blank = [np.zeros(shape) for shape in SHAPES[: len(shot.detector.config.panels)]]
    ones = np.ones(len(blank))
    return cut(plan, [blank] * frames, [[image == 0 for image in blank]] * frames, (ones, ones))


def every_parameter(shot: Experiment, left_out: tuple[str, ...] = ()) -> ParameterSet:
    """Every number of every model as a parameter of its own, and a scale."""
    tensors = {name: value.detach().clone() for name, value in shot.named_parameters()}
    tensors["scale"] = torch.tensor([1.7], dtype=torch.float64)
    rows = []
    for name, value in tensors.items():
        for index in range(0 if name in left_out else value.numel()):
            entry = Entry(name, index, SCALE.get(name, 1.0))
            rows.append(Parameter(f"{name}[{index}]", "", 0.0, 1.0, (entry,), block=0))
    return ParameterSet(rows, [tensors])


def block_of(features: Features, exposures: tuple[Exposure, ...], **changes: object) -> tuple[Block, ParameterSet]:
    """The block of the scene with ``features``, and all that may move in it."""
    shot = experiment(features)
    with torch.no_grad():
        shot.detector.rotation += 0.3
        shot.crystal.rotation += 0.2
    settings = {"oversample": features.oversample, "interpolation": features.interpolation}
    settings |= {"water": 2e-5 if features.water else 0.0}
    rendering = RenderSettings(**(settings | changes))  # type: ignore[arg-type]
    # µ = 0 is a switch to capture 1, and has no derivative
    bare = () if features.detector in ("sensor", "layers") else ("detector.absorption",)
    block = Block(0, shot, exposures, shoeboxes(shot, len(exposures)), rendering, "constant")
    return block, every_parameter(shot, bare)


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
    """The largest difference, in units of the largest of its column."""
    scale = expected.flatten(0, -2).abs().amax(0)
    assert bool((scale > 0).all())  # every parameter moves the image
    return float(((found - expected).abs() / scale).max())


@pytest.mark.parametrize("exposures", [STILL, SCAN], ids=["still", "scan"])
@pytest.mark.parametrize("name", SCENES)
def test_jacobian_is_reverse_mode_through_the_renderer(name: str, exposures: tuple[Exposure, ...]) -> None:
    block, parameters = block_of(SCENES[name], exposures)
    _, jacobian = block.jacobian(parameters)
    weights = torch.rand(6, *block.boxes.valid.shape, dtype=torch.float64)
    found = torch.einsum("ubq,bqt->ut", weights, jacobian)
    expected = reverse_mode(block, parameters, weights)
    still = expected.abs().amax(0) < 1e-12 * expected.abs().max()  # no spindle, no spread in ``point`` and ``bare``
    assert float(found[:, still].abs().max(initial=0) if False else found[:, still].abs().sum()) < 1e-9
    assert worst(found[:, ~still], expected[:, ~still]) < 1e-9
