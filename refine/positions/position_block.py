"""Where the reflections of one still or scan are predicted, against where their spots were seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nbtorch.config import Exposure, ScanConfig
from nbtorch.functional.cell import dual
from nbtorch.functional.prediction import turn
from nbtorch.functional.rotation import unit
from nbtorch.models import Experiment
from nbtorch.render.predict import frame_number, mean_wave, predict, spindle_angle, spindle_of
from nbtorch.units import DEGREES
from refine.parameters.panel_columns import Directions, directions
from refine.parameters.parameter_set import ParameterSet
from refine.positions.position_packs import PositionPack
from refine.scene.scene import FitExperiment
from refine.spots.observations import Observations


class Residuals(NamedTuple):
    """fast, slow (pixels), and frame (a scan) or excitation error (a still, Å⁻¹): observed − predicted, [n, 3]."""

    value: Tensor
    valid: Tensor


class Positions(nn.Module):
    """Where the reflections of one experiment are predicted: [n, 3] of fast, slow, and frame or excitation error."""

    def __init__(
        self, experiment: Experiment, observed: Observations, scan: ScanConfig | None, exposure: Exposure, parallax: str
    ) -> None:
        super().__init__()
        self.experiment = experiment
        self.observed = observed
        self.scan = scan
        self.exposure = exposure
        self.parallax = parallax

    def forward(self, hkl: Tensor, panel: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions [n, 3] and whether they are valid [n], of ``hkl`` [n, 3] on ``panel`` [n] near ``frame`` [n]."""
        if self.scan is not None:
            phi = spindle_angle(frame, self.scan)
            spot = predict(self.experiment, hkl, panel, observed_phi=phi, parallax=self.parallax)
            assert spot.phi is not None
            third = frame_number(spot.phi, self.scan)
        else:
            spot = predict(self.experiment, hkl, panel, exposure=self.exposure, parallax=self.parallax)
            third = excitation_error(self.experiment, hkl, self.exposure)
        return torch.stack([spot.fast, spot.slow, third], dim=-1), spot.valid


def excitation_error(experiment: Experiment, hkl: Tensor, exposure: Exposure) -> Tensor:
    """|k₀ + r| − |k₀| [n] (Å⁻¹) of reflections ``hkl`` [n, 3] at the middle of ``exposure``: 0 on the Ewald sphere."""
    middle = Exposure(exposure.phi_start + exposure.oscillation / 2)
    crystal = experiment.crystal
    direct, _ = crystal.vectors()
    stars = dual(direct @ crystal.spindle_rotations(middle)[0].transpose(-1, -2))
    wave = mean_wave(experiment)
    return (wave + hkl.to(stars) @ stars).norm(dim=-1) - wave.norm()


@torch.no_grad()
def spindle_share(experiment: Experiment, hkl: Tensor, phi: Tensor) -> Tensor:
    """|ζ| [n]: how directly the spindle drives reflections ``hkl`` [n, 3] through the sphere at ``phi`` [n] (degrees).

    ζ = m₂·(s₁ × s₀)/|s₁ × s₀| (Kabsch, Acta Cryst. D66, 133, 2010): a rocking curve lasts 1/|ζ| longer than across the
    spindle, so that its frame is known that much worse.
    """
    spindle, wave = spindle_of(experiment), mean_wave(experiment)
    reciprocal = experiment.crystal.reflections(hkl.to(wave), phi)
    across = torch.linalg.cross(wave + turn(reciprocal, spindle, phi * DEGREES), wave.expand(len(hkl), 3))
    return (unit(across) @ (spindle.setting @ spindle.axis)).abs()


class PositionBlock:
    """The positions of one experiment, as the solver takes them."""

    def __init__(self, index: int, positions: Positions) -> None:
        self.index = index
        self.positions = positions
        seen = positions.observed
        third = seen.frame if positions.scan is not None else torch.zeros_like(seen.fast)
        self.target = torch.stack([seen.fast, seen.slow, third], dim=-1)
        self.spindle_share = torch.ones_like(seen.fast)
        if positions.scan is not None:
            phi = spindle_angle(seen.frame, positions.scan)
            self.spindle_share = spindle_share(positions.experiment, seen.hkl, phi).clamp(min=_LEAST_SHARE)
        self.sharpness = _sharpness(seen, self.spindle_share, still=positions.scan is None)
        self._along: tuple[tuple[ParameterSet, tuple[int, ...]], Directions] | None = None
        self._last: tuple[ParameterSet, Tensor, Residuals] | None = None

    def predicted(self, changes: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Predictions [n, 3] and validity [n] with the model tensors ``changes``."""
        tensors = {f"experiment.{name}": value for name, value in changes.items() if name != "scale"}
        seen = self.positions.observed
        spots = seen.hkl, seen.panel, seen.frame
        result: tuple[Tensor, Tensor] = torch.func.functional_call(self.positions, tensors, spots, tie_weights=False)
        return result

    def residuals(self, parameters: ParameterSet) -> Residuals:
        """Observed − predicted at the current values."""
        if not self.knows(parameters):
            with torch.no_grad():
                self.remember(parameters, *self.predicted(parameters.changes(self.index)))
        assert self._last is not None
        return self._last[2]

    def knows(self, parameters: ParameterSet) -> bool:
        """Whether the residuals at the current values are known."""
        now = parameters.values.detach()
        return self._last is not None and self._last[0] is parameters and torch.equal(self._last[1], now)

    def remember(self, parameters: ParameterSet, value: Tensor, valid: Tensor) -> None:
        """Keep the residuals with the values that they belong to: a step asks for them several times."""
        self._last = parameters, parameters.values.detach().clone(), Residuals(self.target - value, valid)

    def jacobian(self, parameters: ParameterSet) -> Tensor:
        """Derivatives [n, 3, T] of the predictions."""
        return PositionPack([self]).jacobians(parameters)[0]

    def few_directions(self, parameters: ParameterSet, place: Sequence[int]) -> Directions:
        """The directions for the parameters at ``place``, made once for the same of them."""
        asked = parameters, tuple(place)
        if self._along is None or self._along[0][0] is not parameters or self._along[0][1] != asked[1]:
            self._along = asked, directions(parameters, place, self.positions.experiment.detector)
        return self._along[1]


def block_of(expt: FitExperiment, observed: Observations, parallax: str) -> PositionBlock:
    """The positions of the spots ``observed`` on the frames of ``expt``."""
    scan = None if expt.still else expt.entry.scan
    return PositionBlock(expt.index, Positions(expt.model, observed, scan, expt.exposures(1)[0], parallax))


def _sharpness(seen: Observations, share: Tensor, *, still: bool) -> Tensor:
    """How well each spot tells its three numbers [n, 3], of 1; ``share`` [n] is |ζ|."""
    whole = torch.stack([torch.ones_like(share), torch.ones_like(share), share], dim=1)
    # A rocking curve cut by the first or last frame has no centre to compare with, and its spot is a part of one: the
    # more so the longer it lasts.
    cut = share[:, None] * torch.tensor(_CUT, dtype=share.dtype, device=share.device)
    return torch.where((seen.whole | still)[:, None], whole, cut)


_LEAST_SHARE = 0.02


_CUT = (0.4, 0.4, 0.2)  # sharpness of spots that are cut by the end of the scan
