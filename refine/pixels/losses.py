"""How far data are from a model: deviance or chi-square, and the variance that weights them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Noise:
    """Noise of B boxes: gain [B, 1] ADU a photon, readout [B, 1] ADU, model_error a fraction of the signal."""

    gain: Tensor
    readout: Tensor
    model_error: float = 0.0
    counting: bool = True  # Poisson counts: the loss is the deviance


def variance(noise: Noise, total: Tensor, signal: Tensor, floor: Tensor) -> Tensor:
    """Variance [B, Q] of pixels whose model is ``total``, of which ``signal`` is the spot.

    gain·total + readout² + (model_error·signal)²; total is kept above ``floor`` [B, 1], the least that makes sense.
    """
    return noise.gain * torch.maximum(total, floor) + noise.readout**2 + (noise.model_error * signal) ** 2


def deviance(counts: Tensor, total: Tensor) -> Tensor:
    """Poisson deviance [B, Q] = 2(y·ln(y/µ) − (y − µ)); at zero counts 2µ."""
    mean = total.clamp(min=1e-12)
    return 2 * (torch.xlogy(counts, counts / mean) - (counts - mean))


def chi_square(counts: Tensor, total: Tensor, spread: Tensor) -> Tensor:
    """(y − µ)²/variance [B, Q]."""
    return (counts - total) ** 2 / spread


def huber_weight(reduced: Tensor, threshold: float) -> Tensor:
    """Weight [B] of boxes whose reduced chi-square is ``reduced`` [B]: 1 up to ``threshold``², then falling as 1/√."""
    return (threshold / reduced.clamp(min=1e-12).sqrt()).clamp(max=1.0)
