"""The closed form of an image against samples."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from nbtorch.config import RenderSettings
from nbtorch.functional.lattice import GAUSS_WIDTH
from nbtorch.render import Renderer
from nbtorch.spreads import SpreadConfig
from tests.helpers.closed import BOX, EVERY, POINTS, SAMPLED, Spot, around, worst


def normal(count: int) -> list[tuple[float, float]]:
    """(place, weight) of ``count`` even steps over ±6 rms widths of a normal distribution."""
    x = np.linspace(-6, 6, count)
    return list(zip(x.tolist(), np.exp(-0.5 * x**2).tolist(), strict=True))


@pytest.mark.parametrize("shape", ["gauss_hkl", "gauss"])
def test_without_spreads_it_is_the_sampled_image(shape: Any) -> None:
    spot = Spot(20.0 if shape == "gauss_hkl" else 6.0, shape=shape, spectrum=((-0.001, 0.7), (0.001, 1.3)))
    pixels = around(spot)
    whole = replace(POINTS, culling=0.0)  # what is cut otherwise: tests/kernels/test_profile_native.py
    assert worst(spot.render(pixels, whole), spot.render(pixels, SAMPLED)) < 1e-11  # worst seen 3e-13


# (cells, spread, most domains, its error): the error of the peak falls nearly as the number of domains
@pytest.mark.parametrize(
    ("n_cells", "spread", "domains", "bound"),
    [(20.0, 0.05, 2**14, 1e-3), (20.0, 0.2, 2**16, 1.5e-3), (50.0, 0.1, 2**17, 2.5e-3)],
)
def test_sampled_images_converge_to_it_at_the_rate_of_their_sequence(
    n_cells: float, spread: float, domains: int, bound: float
) -> None:
    spot = Spot(n_cells, spread, pixel=0.02)
    step = max(1, round(math.radians(spread) * 50 / 10 / 0.02))
    pixels = around(spot, half=8, step=step)
    closed = spot.render(pixels, replace(POINTS, relinearize=True))
    errors = [worst(replace(spot, domains=n).render(pixels, SAMPLED), closed) for n in (domains // 64, domains)]
    assert errors[1] < bound
    assert errors[0] / errors[1] > 8  # a drawn set of random rotations would gain √64


SPREADS: dict[str, tuple[Spot, Spot, float]] = {
    "anisotropic mosaic": (Spot(10.0, (0.1, 0.2, 0.05)), Spot(10.0, (0.1, 0.2, 0.05), 2**15), 1.5e-3),
    "bandwidth": (
        Spot(20.0, spreads=SpreadConfig(bandwidth=0.004)),
        Spot(20.0, spectrum=tuple((0.004 * x, w) for x, w in normal(601))),
        1e-3,
    ),
    "two lines with widths": (
        Spot(20.0, spectrum=((-0.004, 1.0), (0.004, 0.5)), spreads=SpreadConfig(bandwidth=(0.002, 0.003))),
        Spot(
            20.0,
            spectrum=tuple(
                (middle + (1 + middle) * width * x, share * w / sigma)
                for middle, width, share, sigma in ((-0.004, 0.002, 1.0, 1.0), (0.004, 0.003, 0.5, 1.0))
                for x, w in normal(401)
            ),
        ),
        1e-3,
    ),
    "divergence": (
        Spot(20.0, spreads=SpreadConfig(divergence=(0.6, 0.3))),
        Spot(20.0, divergence=tuple((0.6 * x, 0.3 * y, u * w) for x, u in normal(41) for y, w in normal(41))),
        1e-3,
    ),
    "spindle": (Spot(20.0, oscillation=0.3), Spot(20.0, oscillation=0.3, steps=600), 1e-3),
    "spindle in three pieces": (Spot(20.0, oscillation=3.0), Spot(20.0, oscillation=3.0, steps=6000), 1e-3),
    "mosaic, bandwidth and spindle": (
        Spot(10.0, 0.1, oscillation=0.2, spreads=SpreadConfig(bandwidth=0.002)),
        Spot(10.0, 0.1, 2**13, tuple((0.002 * x, w) for x, w in normal(30)), oscillation=0.2, steps=20),
        4e-3,
    ),
}


@pytest.mark.parametrize("name", SPREADS)
def test_it_is_the_mean_of_samples(name: str) -> None:
    closed, sampled, bound = SPREADS[name]
    pixels = around(closed)
    assert worst(closed.render(pixels), sampled.render(pixels, SAMPLED)) < bound


def test_pixel_box_and_point_spread_are_means_over_the_place() -> None:
    spot = Spot(20.0, pixel=0.1)
    pixels = around(spot, half=3)
    fine = spot.render(pixels, RenderSettings(oversample=40))
    assert Renderer(spot.experiment(), pixels, BOX).scene().oversample > 3
    assert worst(spot.render(pixels, BOX), fine) < 1.5e-3
    # point spread: a mean over images of shifted detectors; the 1.1 of the slow axis is the pixel's
    blurred = replace(spot, spreads=SpreadConfig(point_spread=0.3))
    pixels, weights = around(spot, half=1), normal(17)
    total = torch.zeros(len(pixels), dtype=torch.float64)
    with torch.no_grad():
        moved = spot.experiment()
        start = moved.detector.origin.clone()
        renderer = Renderer(moved, pixels, POINTS)
        fast, slow = moved.detector.frames()[0, :2]
        for x, u in weights:
            for y, w in weights:
                moved.detector.origin.copy_(start + 0.3 * (0.1 * x * fast + 0.11 * y * slow))
                total += u * w * renderer()
    total /= sum(w for _, w in weights) ** 2
    assert worst(blurred.render(pixels), total) < 2e-3


def test_spread_of_the_cell_is_the_mean_over_cells() -> None:
    spot, spread = Spot(20.0), 0.002
    pixels, weights = around(spot), normal(201)
    total = torch.zeros(len(pixels), dtype=torch.float64)
    with torch.no_grad():
        scene = spot.experiment()
        cell = scene.crystal.cell.clone()
        rotation = scene.crystal.vectors()[0]
        for x, w in weights:
            scene.crystal.cell[2] = cell[2] * (1 + spread * x)
            # the axes a and b keep their directions, and so does c
            assert torch.allclose(scene.crystal.vectors()[0][0], rotation[0], atol=1e-9)
            total += w * Renderer(scene, pixels, POINTS)()
    closed = replace(spot, spreads=SpreadConfig(cell=(0.0, 0.0, spread)))
    assert worst(closed.render(pixels), total / sum(w for _, w in weights)) < 1e-3


def test_coupled_cells_are_a_full_matrix_n() -> None:
    """diffBragg's off-diagonal N: |F_latt|² = det(N)²·exp(−2·fudge·|N·δ|²/0.63)."""
    spot = Spot(20.0, spreads=SpreadConfig(coupling=(3.0, -2.0, 4.0)))
    pixels = around(spot)
    experiment = spot.experiment()
    renderer = Renderer(experiment, pixels, POINTS)
    n = torch.tensor([[20.0, 3.0, -2.0], [3.0, 20.0, 4.0], [-2.0, 4.0, 40.0]], dtype=torch.float64)
    middle = len(pixels) // 2
    place = int(pixels.panel[middle]), int(pixels.slow[middle]), int(pixels.fast[middle])
    terms, scene = renderer.profile_terms(*place), renderer.scene()
    assert scene.profile is not None
    square = ((n @ terms.offset.reshape(3)) ** 2).sum()
    expected = torch.linalg.det(n) ** 2 * torch.exp(-2 * 1.1 * square.detach() / GAUSS_WIDTH)
    assert float((terms.average * scene.profile.scale).detach()) == pytest.approx(float(expected), rel=1e-12)
    assert worst(renderer().detach(), replace(spot, spreads=None).render(pixels)) > 0.05


def test_a_covariance_of_the_crystal_turns_with_it() -> None:
    """A covariance along c alone, in the axes a*, c × a*, c, is a mosaic-free crystal that is shorter along c."""
    cell = (79.0, 70.0, 38.0, 90.0, 90.0, 90.0)
    spot = Spot(20.0, cell=cell)
    own = GAUSS_WIDTH / 4 / 1.1
    extra = own / 20.0**2 / 38.0**2 - own / 40.0**2 / 38.0**2
    spread = replace(spot, spreads=SpreadConfig(covariance=(0.0, 0.0, extra, 0.0, 0.0, 0.0)))
    pixels = around(spot)
    with torch.no_grad():
        short = spot.experiment()
        short.crystal.n_cells[2] = 20.0
        expected = Renderer(short, pixels, POINTS)()
        # the light per unit cell is spread over more, and the peak of a crystal of half the cells is a quarter
        assert worst(spread.render(pixels), 2 * expected) < 1e-9


def test_wide_spreads_sum_the_neighbours_and_keep_the_light() -> None:
    spot = Spot(20.0, 0.5, spreads=SpreadConfig(bandwidth=0.004))
    wide = Renderer(spot.experiment(), around(spot), POINTS).scene().closed
    assert wide is not None
    assert min(wide.reach) > 0
    assert wide.iterated
    narrow = Renderer(Spot(20.0, 0.01).experiment(), around(spot), POINTS).scene().closed
    assert narrow is not None
    assert narrow.reach == (0, 0, 0)
    assert not narrow.iterated
    # all the light that domains send: with the nearest reflection alone some of it would be missing
    grid = around(Spot(20.0, 0.5), half=12, step=8)
    sampled = Spot(20.0, 0.5, 2**13).render(grid, SAMPLED).sum()
    closed = Spot(20.0, 0.5).render(grid).sum()
    assert float(closed / sampled) == pytest.approx(1, abs=1e-2)


def test_water_is_added_as_to_samples() -> None:
    spot = Spot(20.0)
    pixels, water = around(spot, half=2), {"water": 2e-5}
    closed = spot.render(pixels, replace(POINTS, **water)) - spot.render(pixels, POINTS)
    sampled = spot.render(pixels, replace(SAMPLED, **water)) - spot.render(pixels, SAMPLED)
    assert float(sampled.min()) > 0
    assert worst(closed, sampled) < 1e-9


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "relinearize": ({}, {"relinearize": False}),
    "pixel_box": ({}, {"pixel_box": True}),
    "oversample": ({}, {"oversample": 2}),
    "dmin": ({}, {"dmin": 50.0}),
    **{
        name: ({"spreads": SpreadConfig(**{name: getattr(EVERY, name)})}, {})
        for name in ("mosaic", "bandwidth", "divergence", "cell", "covariance", "point_spread", "coupling")
    },
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_option_changes_the_image(name: str) -> None:
    of_spot, of_settings = CHANGES[name]
    spot = Spot(20.0, 0.04, spectrum=((-0.002, 0.7), (0.003, 1.3)))
    pixels = around(spot, half=3)
    changed = replace(spot, **of_spot).render(pixels, replace(POINTS, **of_settings))
    assert worst(changed, spot.render(pixels)) > 1e-5
