"""Gradients where a formula written carelessly divides by zero, or where a rotation has no direction."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch

from nbtorch.config import (
    BeamConfig,
    CrystalConfig,
    DetectorConfig,
    Exposure,
    MosaicConfig,
    PanelConfig,
    RenderSettings,
    Shape,
)
from nbtorch.models import Experiment
from nbtorch.render import Renderer, pixel_list
from tests.helpers.gradients import differentiable, gradients, image_of
from tests.helpers.scenes import structure_factors

SHAPES: tuple[Shape, ...] = ("square", "round", "gauss", "gauss_hkl")
BEAM = BeamConfig(wavelength=1.0, kahn_factor=0.7)
CRYSTAL = CrystalConfig(cell=(20.0, 25.0, 30.0, 90.0, 90.0, 90.0), n_cells=(5.0, 4.0, 6.0))


Place = tuple[float, float, float]
PIXEL = 0.3  # mm


def panel(centre: Place) -> PanelConfig:
    """Nine pixels across lab y and z, the middle of pixel (1, 1) at ``centre`` (mm); MOSFLM's axes."""
    x, y, z = centre
    origin = (x, y + 1.5 * PIXEL, z - 1.5 * PIXEL)
    return PanelConfig((0.0, 0.0, 1.0), (0.0, -1.0, 0.0), origin, (PIXEL, PIXEL), (3, 3))


def render(
    crystal: CrystalConfig, beam: BeamConfig, config: DetectorConfig, exposure: Exposure | None = None
) -> Renderer:
    """The pixel in the middle and two beside it."""
    scene = Experiment.from_config(crystal, beam, config, structure_factors(), exposure)
    slow, fast = torch.tensor([(1, 1), (0, 2), (2, 1)]).T
    return Renderer(scene, pixel_list(config, 0 * slow, slow, fast), RenderSettings(backend="reference"))


def check(renderer: Renderer, among: tuple[str, ...], moving: set[str]) -> None:
    """Finite differences for the parameters that start with one of ``among``; those of ``moving`` are not zero."""
    names = tuple(name for name in differentiable(renderer) if name.startswith(among))
    image, moves = image_of(renderer, names)
    assert torch.autograd.gradcheck(image, tuple(moves))
    found = gradients(renderer)
    assert all(bool(torch.isfinite(value).all()) for value in found.values())
    small = {name: found[name] for name in moving if float(found[name].abs().max()) < 1e-3}
    assert not small


def bragg_scene(shape: Shape) -> Renderer:
    """The middle of pixel (1, 1) meets (h, k, l) = (0, 4, 3) exactly.

    The beam travels along x − q/2 and the ray along x + q/2, with q = 4 b* + 3 c* along lab y and z.
    """
    y, z = 4 / 25 / 2, 3 / 30 / 2
    x = (1 - y * y - z * z) ** 0.5
    config = DetectorConfig((panel((64.0, 64 * y / x, 64 * z / x)),))
    return render(replace(CRYSTAL, shape=shape), replace(BEAM, direction=(x, -y, -z)), config)


@pytest.mark.parametrize("shape", SHAPES)
def test_exact_bragg_condition(shape: Shape) -> None:
    renderer = bragg_scene(shape)
    with torch.no_grad():
        off = renderer.terms(0, 1, 1).lattice.hkl - torch.tensor([0.0, 4.0, 3.0])
    assert float(off.abs().max()) < 5e-15  # worst seen 4.2e-15, in h: cos 90° is 6e-17, times the lengths
    moving = {"crystal.cell", "crystal.rotation", "crystal.n_cells", "beam.wavelength"}
    check(renderer, ("crystal", "beam.wavelength", "beam.direction"), moving)


@pytest.mark.parametrize(("shape", "kahn_factor"), list(zip(SHAPES, (0.7, 0.0, -1.0, 1.0), strict=True)))
def test_direct_beam_on_a_pixel(shape: Shape, kahn_factor: float) -> None:
    """There diffracted = incident: q is 0, and the polarization has no azimuth."""
    config = DetectorConfig((panel((100.0, 0.0, 0.0)),))
    renderer = render(replace(CRYSTAL, shape=shape), replace(BEAM, kahn_factor=kahn_factor), config)
    with torch.no_grad():
        assert float(renderer.terms(0, 1, 1).lattice.scattering.abs().max()) == 0
    check(renderer, ("beam", "crystal.n_cells", "detector.origin"), {"crystal.n_cells", "detector.origin"})


def off_centre(crystal: CrystalConfig, exposure: Exposure | None = None) -> Renderer:
    """25° from the beam, a fraction of a spot away from the reflection nearest to it."""
    return render(crystal, BEAM, DetectorConfig((panel((90.0, 40.0, 2.5)),)), exposure)


@pytest.mark.parametrize("kind", ["antithetic", "nanobragg"])
def test_zero_mosaic_spread(kind: Literal["antithetic", "nanobragg"]) -> None:
    renderer = off_centre(replace(CRYSTAL, mosaic=MosaicConfig(0.0, 4, kind), misset=(2.0, 3.0, 4.0)))
    check(renderer, ("crystal",), {"crystal.misset"})
    spread = float(gradients(renderer)["crystal.mosaic_spread"])
    if kind == "antithetic":  # ±v: the first order cancels at zero spread
        assert abs(spread) < 1e-12  # worst seen 5.0e-16
    else:
        assert abs(spread) > 1e-3


@pytest.mark.parametrize("spread", [(0.0, 0.0, 0.0), (0.0, 2.0, 0.0)])
def test_zero_anisotropic_spread(spread: tuple[float, float, float]) -> None:
    renderer = off_centre(replace(CRYSTAL, mosaic=MosaicConfig(spread, 8), misset=(2.0, 3.0, 4.0)))
    check(renderer, ("crystal",), {"crystal.misset"})
    found = gradients(renderer)["crystal.mosaic_spread"].abs()
    if max(spread) == 0:  # ±v: the first order cancels
        assert float(found.max()) < 1e-12
    else:  # but not where the other axes spread, since v has all three components
        assert float(found.min()) > 1e-3


def test_knots_without_drift() -> None:
    renderer = off_centre(replace(CRYSTAL, knots=(0.0, 1.0, 3.0)), Exposure(0.5, 1.0, 2))
    check(renderer, ("crystal",), {"crystal.rotation_knots", "crystal.cell_knots", "crystal.rotation"})


def test_zero_rotation_vectors_and_zero_spindle_angle() -> None:
    renderer = off_centre(CRYSTAL, Exposure(0.0, 0.0, 1))
    zero = ("crystal.rotation", "crystal.misset", "detector.rotation", "detector.shift")
    assert all(float(renderer.experiment.get_parameter(name).detach().abs().max()) == 0 for name in zero)
    check(renderer, zero, set(zero))
    # at spindle angle 0 the axis turns nothing
    assert float(gradients(renderer)["crystal.spindle_axis"].abs().max()) == 0


@pytest.mark.parametrize(("x", "z"), [("100", "001"), ("010", "001"), ("001", "010")])
def test_beam_along_a_lab_axis(x: str, z: str) -> None:
    """The scene is turned with the beam, which has zero divergence."""
    beam, up = (torch.tensor([float(digit) for digit in digits]) for digits in (x, z))
    turn = torch.stack([beam, torch.linalg.cross(up, beam), up], dim=1)  # lab x, y, z to the turned frame

    def turned(vector: Place) -> Place:
        a, b, c = (turn @ torch.tensor(vector)).tolist()
        return a, b, c

    flat = panel((90.0, 40.0, 2.5))
    moved = replace(flat, **{name: turned(getattr(flat, name)) for name in ("fast_axis", "slow_axis", "origin")})
    rows = [(row[0], row[1], row[2]) for row in turn.tolist()]
    crystal = replace(CRYSTAL, orientation=(rows[0], rows[1], rows[2]), misset=(2.0, 3.0, 4.0))
    stated = replace(BEAM, direction=turned((1.0, 0.0, 0.0)), polarization_axis=turned((0.0, 0.0, 1.0)))
    renderer = render(crystal, stated, DetectorConfig((moved,)), Exposure(10.0, 1.0, 2))
    check(renderer, ("beam", "crystal.spindle_axis", "crystal.misset"), {"beam.direction", "beam.divergence"})


@pytest.mark.parametrize("curved", [False, True])
def test_polarization_along_the_scattering(curved: bool) -> None:
    """The ray of pixel (1, 1) lies in the plane of beam and E vector, and is at a right angle to B."""
    config = DetectorConfig((panel((70.0, 0.0, 68.5)),), curved=curved)
    check(render(CRYSTAL, BEAM, config), ("beam",), {"beam.kahn_factor", "beam.direction", "beam.wavelength"})


@pytest.mark.parametrize("n", [(1.0, 4.0, 6.0), (1.0, 1.0, 1.0)])
def test_one_cell_along_an_axis(n: Place) -> None:
    """nanoBragg leaves out an axis of N ≤ 1: N itself has a kink there, everything else is smooth."""
    renderer = off_centre(replace(CRYSTAL, n_cells=n))
    others = tuple(f"crystal.{name}" for name in ("cell", "rotation", "misset", "spindle_axis"))
    check(renderer, (*others, "beam.wavelength"), {"beam.fluence"})
    gradient = gradients(renderer)["crystal.n_cells"]
    assert [bool(value == 0) for value in gradient] == [count == 1 for count in n]
