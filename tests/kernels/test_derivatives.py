"""Derivatives of both operators: finite differences, singular points, forward against reverse, second order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.autograd.forward_ad as forward
from torch import Tensor

from nbtorch.kernels import (
    LatticeTangents,
    RayTangents,
    lattice_jvp,
    lattice_sum,
    pixel_rays,
    pixel_rays_jvp,
    reference,
)
from nbtorch.kernels.reference import RaySettings
from tests.kernels.scenarios import (
    ARGUMENTS,
    LATTICE_SCENES,
    LatticeScene,
    RayScene,
    grid_scene,
    lattice_scene,
    normal,
    ray_scene,
    worst,
)

SMALL = (4, 2, 3)  # samples, sources, orientations: a Jacobian by finite differences is paid per element


def native(scene: LatticeScene) -> Callable[..., Tensor]:
    return scene.function(lattice_sum, backend="native", precision="double")


@pytest.mark.parametrize("table", [None, "nearest", "tricubic"])
@pytest.mark.parametrize("shape", ["square", "round", "gauss", "gauss_hkl"])
def test_native_gradient_and_tangent_agree_with_finite_differences(shape: str, table: str | None) -> None:
    # an axis below 1 is left out of the square shape; at exactly 1 its derivative to N has two sides
    scene = lattice_scene(shape, table, (3.0, 2.5, 0.5), sizes=SMALL)
    tensors = [t.clone() for t, name in zip(scene.present, scene.names, strict=True) if name != "table"]
    at = scene.names.index("table") if table else None

    def summed(*moved: Tensor) -> Tensor:
        # a table of 200,000 amplitudes has its own test: one that is linear, without finite differences
        whole = moved if at is None else (*moved[:at], scene.present[at], *moved[at:])
        return native(scene)(*whole)

    leaves = [t.requires_grad_() for t in tensors]
    # values up to 1e6 and indices that change by 80 per unit of a direction: rtol is what eps = 1e-7 leaves
    assert torch.autograd.gradcheck(summed, leaves, eps=1e-7, atol=1e-2, rtol=1e-4, check_forward_ad=True)


def on_reflections(n_cells: tuple[float, float, float], shape: str) -> LatticeScene:
    """Rays that meet reflections exactly: the direct beam, integer indices, zeros of the interference function."""
    scene = lattice_scene(shape, n_cells=n_cells, cell=(64.0, 64.0, 64.0, 90.0, 90.0, 90.0), sizes=(1, 1, 1))
    incident = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    basis = 64 * torch.eye(3, dtype=torch.float64)[None]  # a power of two: the indices below are exact
    hkl = torch.tensor([[0, 0, 0], [1, 0, 0], [2, -1, 3], [0.25, 1, 0], [0.25, 0.25, 2]], dtype=torch.float64)
    wavelength = torch.ones(1, dtype=torch.float64)
    rest = scene.present[4:]
    return LatticeScene(
        (hkl / 64 + incident, incident, wavelength, basis, rest[0], rest[1], None, rest[2]), scene.settings
    )


@pytest.mark.parametrize("n_cells", [(4.0, 4.0, 4.0), (1.0, 4.0, 1.0), (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("shape", ["square", "round", "gauss_hkl"])
def test_derivatives_are_right_on_a_reflection(shape: str, n_cells: tuple[float, float, float]) -> None:
    scene = on_reflections(n_cells, shape)
    names = [name for name in scene.names if not (name == "n_cells" and shape == "square")]
    held = scene.present[scene.names.index("n_cells")]

    def summed(*moved: Tensor) -> Tensor:
        by_name = {"n_cells": held, **dict(zip(names, moved, strict=True))}
        return native(scene)(*(by_name[name] for name in scene.names))

    leaves = [t.clone().requires_grad_() for t, name in zip(scene.present, scene.names, strict=True) if name in names]
    # next to a zero of the interference function the third derivative leaves 4e-7 of the peak in a finite difference
    peak = scene.settings.default_F**2 * float(held.prod()) ** 2
    assert torch.autograd.gradcheck(summed, leaves, eps=1e-7, atol=5e-2 + 1e-6 * peak, rtol=1e-4, check_forward_ad=True)
    for of_native, of_twin in zip(
        torch.autograd.grad(native(scene)(*(full := scene.leaves())).sum(), full, materialize_grads=True),
        torch.autograd.grad(
            scene.function(reference.lattice_sum)(*(twin := scene.leaves())).sum(), twin, materialize_grads=True
        ),
        strict=True,
    ):
        assert bool(of_native.isfinite().all())
        torch.testing.assert_close(of_native, of_twin, rtol=1e-11, atol=64e-12 * peak)


@pytest.mark.parametrize("name", ["square", "square-cubic-N20", "round", "gauss", "gauss_hkl", "one-orientation"])
def test_forward_jacobian_equals_reverse_jacobian(name: str) -> None:
    scene = LATTICE_SCENES[name]()
    few = [
        tensor[:4] if label == "diffracted" else tensor
        for tensor, label in zip(scene.present, scene.names, strict=True)
    ]
    which = tuple(range(len(few)))
    columns = torch.func.jacfwd(native(scene), which)(*few)
    rows = torch.func.jacrev(scene.function(reference.lattice_sum), which)(*few)
    for label, column, row in zip(scene.names, columns, rows, strict=True):
        assert worst(column, row) < 2e-12, label
        if float(row.abs().max()) > 0:
            assert float(column.abs().max()) > 0, label  # zero tangents without a word are the defect feared


def test_native_jacobian_by_rows_and_by_columns_agree_for_the_table() -> None:
    scene = lattice_scene("square", "tricubic", sizes=(20, 1, 2))
    at = scene.names.index("table")
    direction = normal(8, *scene.present[at].shape)

    def of_table(values: Tensor) -> Tensor:
        return native(scene)(*scene.present[:at], values, *scene.present[at + 1 :])

    leaf = scene.present[at].clone().requires_grad_()
    weighting = normal(9, 20, 1)
    (row,) = torch.autograd.grad(of_table(leaf), leaf, weighting)
    _, column = torch.func.jvp(of_table, (scene.present[at],), (direction,))
    torch.testing.assert_close((row * direction).sum(), (column * weighting).sum(), rtol=1e-12, atol=0)


def test_dual_numbers_go_through_the_native_sum() -> None:
    scene = lattice_scene()
    moved = normal(8, *scene.present[0].shape)
    tangents = []
    for function in (native(scene), scene.function(reference.lattice_sum)):
        with forward.dual_level():
            dual = forward.make_dual(scene.present[0], moved)
            tangents.append(forward.unpack_dual(function(dual, *scene.present[1:])).tangent)
    assert tangents[0] is not None
    assert worst(tangents[0], tangents[1]) < 2e-12


def test_second_derivatives_are_the_twins() -> None:
    scene = lattice_scene("gauss_hkl", sizes=(5, 1, 2))
    results = []
    for function in (native(scene), scene.function(reference.lattice_sum)):
        leaves = scene.leaves()
        firsts = torch.autograd.grad(function(*leaves).sin().sum(), leaves, create_graph=True)
        total = sum((first * normal(i, *first.shape)).sum() for i, first in enumerate(firsts))
        results.append(torch.autograd.grad(total, leaves))
    for found, expected in zip(*results, strict=True):
        assert worst(found, expected) < 1e-9


def test_batches_of_scenes_are_summed_one_by_one() -> None:
    scene = lattice_scene(sizes=(10, 1, 3))
    many = torch.stack([scene.present[0], scene.present[0].flip(0)])
    found = torch.func.vmap(native(scene), in_dims=(0, *[None] * (len(scene.present) - 1)))(many, *scene.present[1:])
    for one, expected in zip(many, found, strict=True):
        assert torch.equal(native(scene)(one, *scene.present[1:]), expected)


def tangents_of(scene: LatticeScene, count: int) -> LatticeTangents:
    """Tangents of every kind; the basis moves as a cell does, then as spindle or mosaic do, then not at all."""
    given: dict[str, Any] = {
        name: normal(20 + i, count, *tensor.shape)
        for i, (name, tensor) in enumerate(zip(scene.names, scene.present, strict=True))
    }
    basis = scene.present[3]
    given["basis"][0] = normal(40, 3, 3) @ basis
    given["basis"][1] = basis @ normal(41, 3, 3)
    given["basis"][-1] = 0
    given["weight"][0] = 0
    return LatticeTangents(**given)


@pytest.mark.parametrize("name", LATTICE_SCENES)
def test_jacobian_columns_are_the_twins(name: str) -> None:
    scene = LATTICE_SCENES[name]()
    tangents = tangents_of(scene, 4)
    value, found = lattice_jvp(*scene.function(lambda *a: a, backend="native")(*scene.present), tangents)  # type: ignore[misc]
    twin, expected = lattice_jvp(*scene.function(lambda *a: a, backend="reference")(*scene.present), tangents)  # type: ignore[misc]
    assert worst(value, twin) < (2e-10 if "N500" in name else 1e-12)
    for of_found, of_expected in zip(found, expected, strict=True):
        assert worst(of_found, of_expected) < (2e-10 if "N500" in name else 2e-12)


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_each_argument_moves_alone(argument: str) -> None:
    scene = lattice_scene("gauss", "tricubic")
    whole = tangents_of(scene, 2)
    alone = LatticeTangents(**{argument: getattr(whole, argument)})
    results = [
        lattice_jvp(*scene.function(lambda *a: a, backend=backend)(*scene.present), alone)[1]  # type: ignore[misc]
        for backend in ("native", "reference")
    ]
    assert float(results[1].abs().max()) > 0
    assert worst(*results) < 2e-12


def test_tangents_of_different_counts_are_refused() -> None:
    scene = lattice_scene()
    with pytest.raises(ValueError, match="one leading axis"):
        lattice_jvp(*scene.arguments(), LatticeTangents(n_cells=normal(1, 2, 3), weight=normal(2, 3, 7)))


@pytest.mark.parametrize("settings", [{}, {"point_pixel": True}, {"polarized": False}])
def test_ray_gradient_and_tangent_agree_with_finite_differences(settings: dict[str, bool]) -> None:
    scene = ray_scene(5, 2, **settings)
    leaves = [tensor.clone().requires_grad_() for tensor in scene.tensors]

    def scaled(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        diffracted, weight = scene.function(pixel_rays, backend="native")(*tensors)
        return diffracted, weight * (0.01 if scene.settings.point_pixel else 1e6)

    # an absorption of 0 has no derivative (below it there is no sensor): that panel's is held
    held = leaves[2]
    leaves[2] = held[[0, 2]].detach().clone().requires_grad_()

    def of_live(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        absorption = torch.stack([tensors[2][0], held[1].detach(), tensors[2][1]])
        return scaled(*tensors[:2], absorption, *tensors[3:])

    assert torch.autograd.gradcheck(of_live, leaves, eps=1e-6, atol=1e-7, rtol=1e-5, check_forward_ad=True)


@pytest.mark.parametrize("settings", [{}, {"point_pixel": True}, {"polarized": False}, {"curved": True}])
@pytest.mark.parametrize("scene", [ray_scene(100), grid_scene()], ids=["listed", "grid"])
def test_ray_jacobian_columns_are_the_twins(settings: dict[str, bool], scene: RayScene) -> None:
    scene = replace(scene, settings=RaySettings(**settings))
    moved = (normal(30 + i, 3, *tensor.shape) for i, tensor in enumerate(scene.tensors))
    tangents = RayTangents(**dict(zip(scene.names, moved, strict=True)))
    arguments = (scene.panels, scene.beam, scene.samples, scene.settings, tangents)
    values, found = pixel_rays_jvp(*arguments, backend="native")
    twins, expected = pixel_rays_jvp(*arguments, backend="reference")
    for one, other in zip((*values, *found), (*twins, *expected), strict=True):
        assert worst(one, other) < 2e-14


@pytest.mark.parametrize("field", RayTangents._fields)
def test_each_ray_argument_moves_alone(field: str) -> None:
    scene = grid_scene() if field == "layer_step" else ray_scene(100)
    by_name = dict(zip(scene.names, scene.tensors, strict=True))
    tangents = RayTangents(**{field: normal(30, 2, *by_name[field].shape)})
    arguments = (scene.panels, scene.beam, scene.samples, scene.settings, tangents)
    _, found = pixel_rays_jvp(*arguments, backend="native")
    _, expected = pixel_rays_jvp(*arguments, backend="reference")
    assert max(float(part.abs().max()) for part in expected) > 0 or field == "axis"
    for one, other in zip(found, expected, strict=True):
        assert worst(one, other) < 1e-12


@pytest.mark.parametrize("scene", [ray_scene(20), grid_scene(4)], ids=["listed", "grid"])
def test_ray_jacobian_by_columns_equals_rows_and_second_derivatives_the_twins(scene: RayScene) -> None:
    directions = [normal(30 + i, *tensor.shape) for i, tensor in enumerate(scene.tensors)]

    def along(function: Callable[..., Any]) -> Callable[[Tensor], Tensor]:
        def moved(steps: Tensor) -> Tensor:
            points = [t + step * d for t, step, d in zip(scene.tensors, steps, directions, strict=True)]
            diffracted, weight = function(*points)
            return torch.cat([diffracted.reshape(-1), 1e6 * weight.reshape(-1)])

        return moved

    zero = torch.zeros(len(directions), dtype=torch.float64)
    fast, twin = along(scene.function(pixel_rays, backend="native")), along(scene.function(reference.pixel_rays))
    assert worst(torch.func.jacfwd(fast)(zero), torch.func.jacrev(twin)(zero)) < 1e-13
    assert worst(torch.func.jacrev(fast)(zero), torch.func.jacrev(twin)(zero)) < 1e-13
    hessians = [torch.autograd.functional.hessian(lambda x, f=f: f(x).sin().sum(), zero) for f in (fast, twin)]
    assert worst(*hessians) < 1e-12
