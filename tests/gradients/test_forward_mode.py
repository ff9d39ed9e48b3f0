"""Forward mode and reverse mode are one derivative, and torch.func transforms go through the Renderer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.func import jacfwd, jacrev, jvp, vmap

from nbtorch.config import RenderSettings
from nbtorch.render import Renderer
from tests.helpers.gradients import differentiable, image_of
from tests.helpers.pairwise import covering
from tests.helpers.scenes import FEATURES, RICH, Features, allowed, spot

# torch compiles its own forward rules with torch.jit.script, which torch itself calls deprecated
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

NAMES = ("mode", "shape", "detector", "beam", "interpolation")
SCENES = covering({name: FEATURES[name] for name in NAMES}, allowed)
SOURCES = replace(RICH, beam="sources", mosaic="nanobragg", shape="gauss", detector="sensor", mode="cached")


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: "-".join(map(str, scene.values())))
def test_forward_mode_is_the_transpose_of_reverse_mode(scene: dict[str, Any]) -> None:
    """u·(J v) by forward mode equals (u·J) v by reverse mode, for all parameters at once."""
    image, moves = image_of(spot(Features(**scene)))
    directions = tuple(torch.randn_like(move) for move in moves)
    value, along = jvp(image, tuple(move.detach() for move in moves), directions)
    weights = torch.randn_like(value)
    reverse = torch.autograd.grad(image(*moves) @ weights, moves, allow_unused=True, materialize_grads=True)
    expected = sum((g * d).sum() for g, d in zip(reverse, directions, strict=True))
    scale = sum((g * d).abs().sum() for g, d in zip(reverse, directions, strict=True))
    # rtol of the sum of magnitudes; worst seen 1.1e-15
    assert float((weights @ along - expected).abs()) < 1e-14 * float(scale)


@pytest.mark.parametrize("features", [RICH, SOURCES], ids=str)
def test_jacfwd_equals_jacrev_for_every_parameter(features: Features) -> None:
    """jacfwd runs vmap over jvp, jacrev vmap over vjp."""
    renderer = spot(features)
    image, moves = image_of(renderer)
    which = tuple(range(len(moves)))
    start = tuple(move.detach() for move in moves)
    forward, reverse = jacfwd(image, argnums=which)(*start), jacrev(image, argnums=which)(*start)
    for name, f, r in zip(renderer.experiment.state_dict(), forward, reverse, strict=False):
        # of each parameter's largest; worst seen 3.4e-15
        assert float((f - r).abs().max()) <= 1e-14 * float(r.abs().max()), name


def test_vmap_renders_a_batch_of_parameter_sets() -> None:
    renderer = spot(RICH)
    image, moves = image_of(renderer)
    batch = tuple(1e-3 * torch.randn(3, *move.shape, dtype=move.dtype) for move in moves)
    with torch.no_grad():
        together = vmap(image)(*batch)
        alone = torch.stack([image(*(part[i] for part in batch)) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-14, atol=0)  # worst seen 2.6e-16


def test_blocks_do_not_change_forward_mode() -> None:
    """Several blocks are recomputed in a backward; forward mode cannot and does not need to be."""
    renderer = spot(RICH)
    chunked = Renderer(renderer.experiment, renderer.pixels, replace(renderer.settings, block_bytes=1))
    found = []
    for each in (renderer, chunked):
        image, moves = image_of(each, differentiable(each))
        ones = tuple(torch.ones_like(move) for move in moves)
        found.append(jvp(image, tuple(move.detach() for move in moves), ones)[1])
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=0)  # worst seen 0


def test_automatic_oversampling_works_inside_a_transform() -> None:
    features = Features(shape="gauss_hkl")
    renderer = spot(features)
    automatic = Renderer(renderer.experiment, renderer.pixels, RenderSettings(oversample=None, backend="reference"))
    image, moves = image_of(automatic, ("crystal.rotation",))
    torch.testing.assert_close(jacfwd(image)(moves[0].detach()), jacrev(image)(moves[0].detach()))
