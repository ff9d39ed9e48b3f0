"""Claim: the cost of a lattice term, alone, with its gradient, and with the columns of 12 parameters."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.measuring import timed
from benchmarks.scenes import SCENES, renderer
from nbtorch.config import LatticeSettings, Precision, RenderSettings, Shape
from nbtorch.kernels import LatticeTangents, lattice_jvp, lattice_sum, pixel_rays

PIXELS = 128
N_TANGENTS = 12  # nine of cell and misset, three of the detector
CASES: tuple[tuple[Shape, Precision, float], ...] = (
    ("square", "double", 0.0),
    ("square", "fast", 0.0),
    ("round", "double", 0.0),
    ("gauss_hkl", "double", 0.0),
    ("gauss_hkl", "double", 1e-10),
    ("gauss_hkl", "fast", 1e-10),
)


def measure(shape: Shape, precision: Precision, culling: float) -> dict[str, Any]:
    """One row: nanoseconds per evaluation of scene c on a small detector."""
    scene = SCENES["c"].scaled(PIXELS)
    model = renderer(scene, shape, RenderSettings())
    with torch.no_grad():
        shared = model.scene()
        diffracted, _ = pixel_rays(shared.panels, shared.beam, shared.samples_of(model.pixels), shared.rays)
    settings = LatticeSettings(shape=shape, default_F=100.0, precision=precision, culling=culling)
    tensors = [diffracted, shared.beam.incident, shared.wavelength, shared.basis, shared.n_cells, shared.metric]
    weight = shared.orientation_weight
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    tangents = LatticeTangents(
        diffracted=torch.randn(N_TANGENTS, *diffracted.shape, dtype=torch.float64),
        basis=torch.randn(N_TANGENTS, 1, 3, 3, dtype=torch.float64) @ shared.basis.detach(),
    )
    plain = [tensor.detach() for tensor in tensors]
    nano = 1e9 / scene.evaluations
    return {
        "shape": shape,
        "precision": precision,
        "culling": culling,
        "forward ns": timed(lambda: lattice_sum(*plain, None, weight, settings)).cpu * nano,
        "with gradient ns": timed(lambda: lattice_sum(*leaves, None, weight, settings).sum().backward()).cpu * nano,
        f"{N_TANGENTS} columns ns": timed(lambda: lattice_jvp(*plain, None, weight, settings, tangents)).cpu * nano,
    }


def run() -> list[dict[str, Any]]:
    """The whole table."""
    return [measure(*case) for case in CASES]
