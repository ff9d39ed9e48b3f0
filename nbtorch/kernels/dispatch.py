"""Which backend serves a call: C kernels on the CPU, Triton's on a GPU, the PyTorch twin for everything else."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from nbtorch.config import LatticeSettings
from nbtorch.errors import ConfigError
from nbtorch.functional.polarization import polarization_axes
from nbtorch.functional.structure_factor import StructureFactorTable
from nbtorch.kernels import blocks, reference
from nbtorch.kernels.direct import has_memory, transforming
from nbtorch.kernels.gpu import serves
from nbtorch.kernels.lattice_function import LatticeStatics, LatticeSum
from nbtorch.kernels.native import lattice_op, library, pixel_sum_op, rays_op
from nbtorch.kernels.pixel_sum_function import PixelSum, PixelSumStatics
from nbtorch.kernels.rays_function import PixelRays, RayStatics, sample_tensors
from nbtorch.kernels.reference import BeamFrame, LatticeTensors, PanelFrames, RaySettings, SampleGrid, Samples

logger = logging.getLogger("nbtorch")
NATIVE_DTYPES = (torch.float32, torch.float64)
BACKENDS = ("auto", "reference", "native", "triton")


@cache
def _tell_that_twin_serves(reason: str) -> None:
    """Once a process and reason: on a GPU the twin is right, and slower."""
    logger.warning("%s; the PyTorch reference serves on the GPU, slower.", reason)


@cache
def _tell_that_reference_serves() -> None:
    """Once a process. A log line and not a warning: the images are the same, only slower."""
    logger.warning("%s; the PyTorch reference serves, slower. %s.", library.WHY_ABSENT, library.HOW_TO_GET_IT)


def uses_native(backend: str, tensors: Sequence[Tensor]) -> bool:
    """Whether the C kernels serve a call with ``tensors``.

    "auto" takes them for float tensors on the CPU when they were compiled. Raises ConfigError for an unknown backend,
    and when "native" is asked for and cannot be had.
    """
    if backend not in BACKENDS:
        raise ConfigError(f"backend={backend!r}", "it is not a known backend", f"Use one of: {', '.join(BACKENDS)}")
    if backend in ("reference", "triton"):
        return False
    suits = all(tensor.device.type == "cpu" and tensor.dtype in NATIVE_DTYPES for tensor in tensors)
    if backend == "native":
        library.require()
        if not suits:
            kinds = sorted({f"{tensor.dtype} on {tensor.device.type}" for tensor in tensors})
            raise ConfigError(
                "backend='native'",
                f"the C kernels take float32 and float64 tensors on the CPU, not {', '.join(kinds)}",
                "Use backend='auto', or move the tensors",
            )
        return True
    if suits and not library.AVAILABLE:
        _tell_that_reference_serves()
    return suits and library.AVAILABLE


def uses_triton(backend: str, tensors: Sequence[Tensor], table: Tensor | None) -> bool:
    """Whether the Triton kernels serve a lattice sum of ``tensors``; ``table``: its amplitudes.

    "auto" takes them on a GPU that they are compiled for. Amplitudes that take gradients, transforms and PyTorch's
    compiler are the twin's. Raises ConfigError when "triton" is asked for and cannot be had.
    """
    if backend not in ("auto", "triton") or not tensors:
        return False
    device = tensors[0].device
    if backend == "auto" and device.type != "cuda":
        return False
    reason = serves.why_not(device)
    if backend == "triton" and reason:
        raise ConfigError("backend='triton'", reason, serves.HOW_TO_GET_IT)
    if reason:
        _tell_that_twin_serves(reason)
        return False
    moves_table = table is not None and table.requires_grad and torch.is_grad_enabled()
    plain = not transforming() and not torch.compiler.is_compiling() and all(map(has_memory, tensors))
    return plain and not moves_table and serves.suits(tensors)


def lattice_sum(
    diffracted: Tensor,
    incident: Tensor,
    wavelength: Tensor,
    basis: Tensor,
    n_cells: Tensor,
    metric: Tensor,
    table: StructureFactorTable | None,
    weight: Tensor,
    settings: LatticeSettings,
) -> Tensor:
    """Σ_k weight_k·|F_cell|²·|F_latt|² [P, S] over K orientations, by the backend that suits.

    Arguments and source: :func:`nbtorch.kernels.reference.lattice_sum`. Differentiable in every tensor, in reverse and
    forward mode, and under ``torch.func``. Raises ConfigError when the native backend is asked for and cannot serve.
    """
    values = None if table is None else table.values
    tensors = (diffracted, incident, wavelength, basis, n_cells, metric, values, weight)
    present = [t for t in tensors if t is not None]
    triton = uses_triton(settings.backend, present, values)
    if not triton and not uses_native(settings.backend, present):
        return blocks.lattice_sum(diffracted, incident, wavelength, basis, n_cells, metric, table, weight, settings)
    statics = LatticeStatics.of(settings, table, diffracted.dtype, "triton" if triton else "native")
    if torch.compiler.is_compiling():  # the compiler knows operators, not functions with a forward rule
        value: Tensor = lattice_op.lattice_value(lattice_op.flat_tensors(tensors), *statics.flat)
        return value
    summed: Tensor = LatticeSum.apply(statics, *tensors)
    return summed


def pixel_rays(
    panels: PanelFrames, beam: BeamFrame, samples: Samples | SampleGrid, settings: RaySettings, backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    """(diffracted [P, 3] unit, weight [P, S] = capture·polarization·solid angle) of ``samples``.

    Arguments and source: :func:`nbtorch.kernels.reference.pixel_rays`. Differentiable like :func:`lattice_sum`.
    A curved detector is served by the twin even where native is asked for: no real one is, and nothing waits for it.
    """
    floats = (*panels, *beam, *sample_tensors(samples))
    if not uses_native(backend, floats) or settings.curved:
        return reference.pixel_rays(panels, beam, samples, settings)
    along_e, along_b = polarization_axes(beam.incident, beam.polarization_axis)
    statics = RayStatics.of(samples, settings)
    tensors = (*panels, beam.incident, along_e, along_b, beam.kahn_factor, *sample_tensors(samples))
    rays = (
        rays_op.rays_value(tensors, *statics.flat)
        if torch.compiler.is_compiling()
        else PixelRays.apply(statics, *tensors)
    )
    diffracted, weight = rays
    return diffracted, weight


def fuses(tensors: Sequence[Tensor], rays: RaySettings, settings: LatticeSettings) -> bool:
    """Whether :func:`pixel_sum` is one pass over ``tensors``, whose memory is O(pixels) also with its gradient.

    It is where the C kernels serve, for values and reverse mode.
    """
    if rays.curved or not uses_native(settings.backend, tensors):
        return False
    return torch.compiler.is_compiling() or (not transforming() and all(map(has_memory, tensors)))


def pixel_sum(
    panels: PanelFrames,
    beam: BeamFrame,
    samples: SampleGrid,
    source_weight: Tensor,
    lattice: LatticeTensors,
    rays: RaySettings,
    settings: LatticeSettings,
) -> Tensor:
    """Σ over the samples and sources of each pixel of source weight·ray weight·lattice sum [pixels].

    :func:`pixel_rays` and :func:`lattice_sum` in one pass where they :func:`fuse <fuses>`, else one after the other.
    source_weight: [S].
    """
    wavelength, basis, n_cells, metric, table, weight = lattice
    of_lattice = (wavelength, basis, n_cells, metric, None if table is None else table.values, weight)
    floats = (*panels, *beam, *sample_tensors(samples), source_weight, *(t for t in of_lattice if t is not None))
    if not fuses(floats, rays, settings):
        diffracted, of_rays = pixel_rays(panels, beam, samples, rays, settings.backend)
        sums = lattice_sum(diffracted, beam.incident, *lattice, settings)
        return reference.sum_in_pixels(of_rays * source_weight, sums, samples.layers * samples.oversample**2)
    along_e, along_b = polarization_axes(beam.incident, beam.polarization_axis)
    tensors = (*panels, beam.incident, along_e, along_b, beam.kahn_factor, *sample_tensors(samples))
    statics = PixelSumStatics(RayStatics.of(samples, rays), LatticeStatics.of(settings, table, wavelength.dtype))
    if torch.compiler.is_compiling():
        inputs = statics.inputs(source_weight, (*tensors, beam.incident, *of_lattice))
        value: Tensor = pixel_sum_op.pixel_sum_value(inputs, *statics.flat)
        return value
    summed: Tensor = PixelSum.apply(statics, source_weight, *tensors, beam.incident, *of_lattice)
    return summed
