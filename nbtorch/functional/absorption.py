"""How much light a sensor layer absorbs, and how deep on average."""

from __future__ import annotations

import torch
from torch import Tensor


def capture(diffracted: Tensor, normal: Tensor, depth: Tensor, layer: Tensor, absorption: Tensor) -> Tensor:
    """Fraction [P] of the light that a layer absorbs: exp(−depth·µ/parallax) − exp(−(depth+layer)·µ/parallax).

    diffracted, normal: [P, 3] unit. depth: [P] mm, front of the layer. layer: [P] mm. absorption: [P] µ in mm⁻¹;
    where it is 0 there is no sensor and the fraction is 1. parallax = diffracted·normal.
    """
    path = absorption / (diffracted * normal).sum(-1)
    # exp(−a) − exp(−b) written with expm1, which keeps the digits of a thin layer
    absorbed = -torch.exp(-depth * path) * torch.expm1(-layer * path)
    return torch.where(absorption > 0, absorbed, 1)


def mean_depth(parallax: Tensor, thickness: Tensor, absorption: Tensor) -> Tensor:
    """Mean path [...] (mm along the ray) at which an absorbed photon is absorbed: 1/µ − L·e^(−µL)/(1 − e^(−µL)).

    L = thickness/parallax. parallax: [...] cosine to the normal; thickness (mm), absorption (mm⁻¹): [...].
    """
    length = thickness / parallax
    exponent = absorption * length
    sensor = exponent > 0
    safe = torch.where(sensor, exponent, 1)
    # 1/x − 1/(e^x − 1), in units of L; expm1 keeps it exact for thin sensors down to x ≈ 1e-8
    fraction = 1 / safe - 1 / torch.expm1(safe)
    return torch.where(sensor, length * fraction, 0)


def dxtbx_depth(parallax: Tensor, thickness: Tensor, absorption: Tensor) -> Tensor:
    """The path [...] (mm) that dxtbx's parallax correction takes: 1/µ − (L + 1/µ)·e^(−µL).

    It leaves out the division by 1 − e^(−µL) of :func:`mean_depth`; for comparison with DIALS's columns.
    """
    length = thickness / parallax
    exponent = absorption * length
    sensor = exponent > 0
    safe = torch.where(sensor, exponent, 1)
    fraction = (1 - torch.exp(-safe) * (safe + 1)) / safe
    return torch.where(sensor, length * fraction, 0)
