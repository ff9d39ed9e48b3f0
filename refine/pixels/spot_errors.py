"""Random effects of single spots: how far each may lie from where the model puts it, and how much broader it may be.

Real spots are not their model: a crystal of several blocks, a rocking curve of another form, a point spread. A bright
spot would tell its place to a thousandth of a pixel, were its form known; it is not, and what every spot of a frame is
off by is the better measure. So each spot gets a shift and a broadening of its own, normally distributed about 0 with
the spread seen over all, and they are solved for with its scale and background (Henderson's mixed model equations,
Biometrics 31, 423, 1975).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_LEAST_VARIANCE = 0.05  # px², frames²: of a spot that one pixel or frame holds


@dataclass(frozen=True)
class SpotErrors:
    """Standard deviations: ``shift`` in pixels along both axes, ``delay`` in frames, ``broadening`` of ln(width)."""

    shift: float
    delay: float
    broadening: float

    @property
    def sigmas(self) -> tuple[float, ...]:
        """σ of every column of :func:`error_columns`."""
        return self.shift, self.shift, self.delay, self.broadening, self.broadening


def error_columns(signal: Tensor, place: Tensor) -> Tensor:
    """Derivatives [B, Q, 5] of spots ``signal`` [B, Q] by shift fast, slow and frame, and by ln(width) on and across.

    place: [B, Q, 3] fast, slow, frame of every pixel. A spot of any form is taken as the Gaussian of its own first two
    moments, whose derivatives are the spot times (x − c)/σ² and (x − c)²/σ² − 1. A spot on one frame has no frame to be
    late by: that column is 0.
    """
    share = (signal / signal.sum(1, keepdim=True).clamp(min=1e-300))[..., None]
    from_centre = place - (share * place).sum(1, keepdim=True)
    variance = (share * from_centre**2).sum(1, keepdim=True)
    spread = torch.where(variance > 1e-9, variance.clamp(min=_LEAST_VARIANCE), torch.inf)
    shifts = from_centre / spread
    excess = torch.where(spread.isfinite(), from_centre * shifts - 1, 0)
    widths = torch.stack([excess[..., :2].sum(-1), excess[..., 2]], dim=-1)
    return signal[..., None] * torch.cat([shifts, widths], dim=-1)
