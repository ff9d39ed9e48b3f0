"""The spreads that only the closed form averages over, as variances: an image is linear in them at zero."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from nbtorch.errors import ConfigError
from nbtorch.spreads import COVARIANCE_PLACES, SpreadConfig


class Spreads(nn.Module):
    """Variances of an experiment's spreads; see :class:`nbtorch.spreads.SpreadConfig` for what each is of.

    Parameters: ``mosaic`` [] or [3] (degrees²), ``bandwidth`` [1] or [W] (relative², of each line), ``divergence``
    [2] (mrad²), ``cell`` [3] (relative²), ``covariance`` [6] (Å⁻²), ``point_spread`` [] (pixels²), and ``coupling``
    [3], the off-diagonal N, which is no variance.
    """

    def __init__(
        self,
        config: SpreadConfig | None = None,
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        config = config or SpreadConfig()

        def parameter(value: object) -> nn.Parameter:
            return nn.Parameter(torch.as_tensor(np.asarray(value, dtype=float), dtype=dtype, device=device))

        self.mosaic = parameter(np.square(config.mosaic))
        self.bandwidth = parameter(np.square(np.atleast_1d(config.bandwidth)))
        self.divergence = parameter(np.square(config.divergence))
        self.cell = parameter(np.square(config.cell))
        self.covariance = parameter(config.covariance)
        self.point_spread = parameter(np.square(config.point_spread))
        self.coupling = parameter(config.coupling)

    def covariance_matrix(self) -> Tensor:
        """The covariance [3, 3] (Å⁻²) in the axes of the crystal."""
        return self.covariance[torch.as_tensor(COVARIANCE_PLACES, device=self.covariance.device)]

    def of_sources(self, count: int, lines: int) -> Tensor:
        """The relative variance of the wavelength [count] of every source; the ``lines`` of a direction are innermost.

        Raises ConfigError where the widths are neither one nor one a line.
        """
        if len(self.bandwidth) == 1:
            return self.bandwidth.expand(count)
        if len(self.bandwidth) != lines:
            raise ConfigError(
                f"bandwidth of {len(self.bandwidth)} lines",
                f"the spectrum has {lines}",
                "Give one number, or one a line",
            )
        return self.bandwidth.repeat(count // lines)
