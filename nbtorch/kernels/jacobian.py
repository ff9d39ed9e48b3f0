"""Columns of the Jacobian: T tangents of the two operators in one pass, memory O(P·S·T).

``torch.func.jacfwd`` through :func:`nbtorch.kernels.lattice_sum` takes the same way; these are for callers that have
their tangents at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nbtorch.config import LatticeSettings
from nbtorch.functional.polarization import polarization_axes
from nbtorch.functional.structure_factor import StructureFactorTable
from nbtorch.functional.tangents import tangents as small_tangents
from nbtorch.kernels import blocks, reference
from nbtorch.kernels.direct import direct
from nbtorch.kernels.dispatch import uses_native, uses_triton
from nbtorch.kernels.lattice_function import LatticeStatics, operators
from nbtorch.kernels.native import lattice_op, rays_op
from nbtorch.kernels.rays_function import RayStatics, sample_tensors
from nbtorch.kernels.reference import BeamFrame, PanelFrames, RaySettings, SampleGrid, Samples


class LatticeTangents(NamedTuple):
    """Tangents of the arguments of ``lattice_sum``, each with a leading axis T; None does not move."""

    diffracted: Tensor | None = None  # [T, P, 3]
    incident: Tensor | None = None  # [T, S, 3]
    wavelength: Tensor | None = None  # [T, S]
    basis: Tensor | None = None  # [T, K, 3, 3]
    n_cells: Tensor | None = None  # [T, 3]
    metric: Tensor | None = None  # [T, 3, 3]
    table: Tensor | None = None  # [T, nh, nk, nl] of the amplitudes
    weight: Tensor | None = None  # [T, K]


class RayTangents(NamedTuple):
    """Tangents of the arguments of ``pixel_rays``, each with a leading axis T; None does not move."""

    frame: Tensor | None = None  # [T, N, 4, 3]
    pixel_size: Tensor | None = None  # [T, N, 2]
    absorption: Tensor | None = None  # [T, N]
    incident: Tensor | None = None  # [T, S, 3]
    axis: Tensor | None = None  # [T, 3]; matters to a curved detector alone
    polarization_axis: Tensor | None = None  # [T, 3]
    kahn_factor: Tensor | None = None  # [T]
    fast: Tensor | None = None  # [T, P]
    slow: Tensor | None = None  # [T, P]
    depth: Tensor | None = None  # [T, P]
    layer: Tensor | None = None  # [T, P]
    layer_step: Tensor | None = None  # [T, N], of a grid, in the place of the four above


def _count(tangents: Sequence[Tensor | None]) -> int:
    """T. Raises ValueError when no tangent is given."""
    lengths = {len(tangent) for tangent in tangents if tangent is not None}
    if len(lengths) != 1:
        raise ValueError(f"tangents must share one leading axis; got lengths {sorted(lengths)}")
    return lengths.pop()


def _push(
    function: Callable[..., tuple[Tensor, ...]], primals: Sequence[Tensor], tangents: Sequence[Tensor | None]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """(outputs, their tangents [T, ...]) of ``function`` by PyTorch's own forward mode, one tangent after the other."""
    columns = []
    outputs: tuple[Tensor, ...] = ()
    for i in range(_count(tangents)):
        moved = tuple(torch.zeros_like(p) if t is None else t[i] for p, t in zip(primals, tangents, strict=True))
        outputs, column = torch.func.jvp(function, tuple(primals), moved)[:2]
        columns.append(column)
    return outputs, tuple(torch.stack(parts) for parts in zip(*columns, strict=True))


def lattice_jvp(
    diffracted: Tensor,
    incident: Tensor,
    wavelength: Tensor,
    basis: Tensor,
    n_cells: Tensor,
    metric: Tensor,
    table: StructureFactorTable | None,
    weight: Tensor,
    settings: LatticeSettings,
    tangents: LatticeTangents,
) -> tuple[Tensor, Tensor]:
    """(value [P, S], tangent [T, P, S]) of :func:`nbtorch.kernels.lattice_sum` along T ``tangents``.

    Not differentiable. The native kernel computes ∂I/∂q once for all tangents of beam and detector, and Σ_k ∂I/∂h ⊗ h
    once for all tangents of the basis of the form Ḃ_k = E·B_k (cell, misset); others cost one contraction each.
    """
    values = None if table is None else table.values
    primals = (diffracted, incident, wavelength, basis, n_cells, metric, values, weight)
    present = [p for p in primals if p is not None]
    triton = tangents.table is None and uses_triton(settings.backend, present, None)
    if triton or uses_native(settings.backend, present):
        statics = LatticeStatics.of(settings, table, diffracted.dtype, "triton" if triton else "native")
        inputs = lattice_op.flat_tensors(primals)
        value, tangent = operators(statics.server).tangents(inputs, tangents, _count(tangents), *statics.flat)
        return value, tangent

    def summed(*moved: Tensor) -> tuple[Tensor]:
        *geometry, weights = moved
        moved_table = None if table is None else StructureFactorTable(geometry.pop(), table.first)
        d, i, wl, b, n, m = geometry
        return (blocks.lattice_sum(d, i, wl, b, n, m, moved_table, weights, settings),)

    of_present = [t for t, p in zip(tangents, primals, strict=True) if p is not None]
    (value,), (tangent,) = _push(summed, present, of_present)
    return value, tangent


def _axes_jvp(beam: BeamFrame, tangents: RayTangents, count: int) -> tuple[list[Tensor], list[Tensor | None]]:
    """E and B of each source, and their tangents; no tangents where neither beam nor polarization moves."""
    primals = (beam.incident, beam.polarization_axis)
    given = (tangents.incident, tangents.polarization_axis)
    if all(tangent is None for tangent in given):
        return list(polarization_axes(*primals)), [None, None]

    def along(steps: Tensor) -> tuple[Tensor, Tensor]:
        moved = [p if t is None else p + torch.tensordot(steps, t, 1) for p, t in zip(primals, given, strict=True)]
        return polarization_axes(*moved)

    axes, columns = small_tangents(along, beam.incident.new_zeros(count))
    return list(axes), list(columns)


def pixel_rays_jvp(
    panels: PanelFrames,
    beam: BeamFrame,
    samples: Samples | SampleGrid,
    settings: RaySettings,
    tangents: RayTangents,
    backend: str = "auto",
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """((diffracted, weight), (their tangents [T, P, 3], [T, P, S])) of ``pixel_rays``. Not differentiable."""
    places, statics = sample_tensors(samples), RayStatics.of(samples, settings)
    if settings.curved or not uses_native(backend, (*panels, *beam, *places)):

        def rays(*moved: Tensor) -> tuple[Tensor, Tensor]:
            listed = statics.listed(*moved[7:])
            return reference.pixel_rays(PanelFrames(*moved[:3]), BeamFrame(*moved[3:7]), listed, settings)

        (diffracted, weight), (dot_diffracted, dot_weight) = _push(rays, (*panels, *beam, *places), tangents)
        return (diffracted, weight), (dot_diffracted, dot_weight)
    count = _count(tangents)
    axes, of_axes = _axes_jvp(beam, tangents, count)
    inputs = (*panels, beam.incident, *axes, beam.kahn_factor, *places)
    moved = (*tangents[:4], *of_axes, *tangents[6:])
    diffracted, weight, dot_diffracted, dot_weight = direct(rays_op.rays_tangents)(inputs, moved, count, *statics.flat)
    return (diffracted, weight), (dot_diffracted, dot_weight)
