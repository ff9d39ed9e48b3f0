"""The coarse stage: spot positions, frames of crossing and excitation errors, by robust least squares.

It brings header geometry to within a pixel, where the pixels themselves take over. Residuals are in units of their own
spread, which is estimated anew (median absolute deviation) every round, and Cauchy's loss keeps wrong indices out.
"""

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
from refine.normal import BlockNormal, assemble, joint
from refine.objective import Linearization, restrained, restraint_loss
from refine.observations import Observations
from refine.panel_columns import Directions, Scores, directions
from refine.parameters import ParameterSet
from refine.position_packs import PositionPack, packs_of
from refine.processes import is_first, listed, total_number

_LEAST = {"pixel": 0.1, "frame": 0.05, "excitation": 2e-5}  # spreads below which residuals are taken as equal
_CUT = (0.4, 0.4, 0.2)  # sharpness of spots that are cut by the end of the scan
_LEAST_SHARE = 0.02
_CAUCHY = (
    1.5  # where a residual's pull starts to fall, in spreads: 95 % of the efficiency of squares on normal residuals
)


class Residuals(NamedTuple):
    """fast, slow (pixels), and frame (a scan) or excitation error (a still, Å⁻¹): observed − predicted, [n, 3]."""

    value: Tensor
    valid: Tensor


class Positions(nn.Module):
    """Where the reflections of one shot are predicted: [n, 3] of fast, slow, and frame or excitation error."""

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
    """The positions of one shot, as the solver takes them."""

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


def _sharpness(seen: Observations, share: Tensor, *, still: bool) -> Tensor:
    """How well each spot tells its three numbers [n, 3], of 1; ``share`` [n] is |ζ|."""
    whole = torch.stack([torch.ones_like(share), torch.ones_like(share), share], dim=1)
    # A rocking curve cut by the first or last frame has no centre to compare with, and its spot is a part of one: the
    # more so the longer it lasts.
    cut = share[:, None] * torch.tensor(_CUT, dtype=share.dtype, device=share.device)
    return torch.where((seen.whole | still)[:, None], whole, cut)


def _curvature(weight: Tensor) -> Tensor:
    """The second derivative of Cauchy's loss over its ``weight``, mean over the three directions of a residual: ≥ 1/3.

    Weights alone would make outliers count as measurements, and sigmas too small.
    """
    return 1 - 2 / 3 * (1 - weight)


class PositionObjective:
    """Robust least squares over the positions of all shots; the interface of :class:`refine.objective.Objective`.

    ``blocks`` and ``spread`` are this process's; the loss, its derivatives and the rms are those of all processes.
    """

    def __init__(self, blocks: Sequence[PositionBlock]) -> None:
        self.blocks = tuple(blocks)
        self.spread = [torch.ones(3, dtype=torch.float64) for _ in blocks]
        self._packs = packs_of(blocks)

    def residuals(self, parameters: ParameterSet) -> list[Residuals]:
        """Observed − predicted of every block at the current values."""
        for pack in self._packs:
            if not all(block.knows(parameters) for block in pack.blocks):
                pack.residuals(parameters)
        return [block.residuals(parameters) for block in self.blocks]

    def _jacobians(self, parameters: ParameterSet) -> list[Tensor]:
        """Derivatives [n, 3, T] of every block's predictions."""
        found = {id(b): c for pack in self._packs for b, c in zip(pack.blocks, pack.jacobians(parameters), strict=True)}
        none = [parameters.start.new_zeros(0, 3, len(parameters.of_block(block.index))) for block in self.blocks]
        return [found.get(id(block), empty) for block, empty in zip(self.blocks, none, strict=True)]

    def estimate_spread(self, parameters: ParameterSet) -> None:
        """Set each shot's spread [3] from its residuals: 1.48 times their median absolute value."""
        for number, (block, (residual, valid)) in enumerate(zip(self.blocks, self.residuals(parameters), strict=True)):
            third = "frame" if block.positions.scan is not None else "excitation"
            least = torch.tensor([_LEAST["pixel"], _LEAST["pixel"], _LEAST[third]], dtype=residual.dtype)
            if bool(valid.any()):
                median = (residual * block.sharpness)[valid].abs().median(dim=0).values
                pixels = (
                    median[:2].mean().expand(2)
                )  # one spread for both axes: neither can be fitted at the other's cost
                self.spread[number] = torch.maximum(1.4826 * torch.cat([pixels, median[2:]]), least)

    def _weighted(self, number: int, parameters: ParameterSet) -> tuple[Tensor, Tensor]:
        """Residuals in spreads [n, 3] and their Cauchy weights [n, 1], one weight a spot."""
        block = self.blocks[number]
        residual, valid = block.residuals(parameters)
        scaled = residual / self.spread[number]
        scaled = torch.where(valid[:, None], scaled * block.sharpness, 0)
        return scaled, 1 / (1 + (scaled**2).sum(1, keepdim=True) / (3 * _CAUCHY**2))

    def loss(self, parameters: ParameterSet, held: Linearization | None = None) -> float:
        """Σ c²·ln(1 + r²/c²) over the spots, and the restraints."""
        total = restraint_loss(parameters) if is_first() else 0.0
        self.residuals(parameters)
        for number in range(len(self.blocks)):
            scaled, _ = self._weighted(number, parameters)
            total += float((3 * _CAUCHY**2 * torch.log1p((scaled**2).sum(1) / (3 * _CAUCHY**2))).sum())
        return total_number(total)

    @torch.no_grad()
    def linearize(self, parameters: ParameterSet) -> Linearization:
        """Loss and normal equations at the current values."""
        normals, scores = [], []
        for number, (block, columns) in enumerate(zip(self.blocks, self._jacobians(parameters), strict=True)):
            columns = columns * (block.sharpness / self.spread[number])[:, :, None]
            scaled, weight = self._weighted(number, parameters)
            weighted = columns * weight[:, :, None]
            curved = (weighted * _curvature(weight)[:, :, None]).transpose(1, 2) @ columns
            score = Scores(torch.einsum("nki,nk->ni", weighted, scaled), curved)
            scores.append(score)
            normals.append(BlockNormal(*score.total()))
        own = assemble(normals, len(parameters.shared), [block.index for block in self.blocks])
        return Linearization(self.loss(parameters), restrained(joint(own), parameters), (), tuple(scores))

    def rms(self, parameters: ParameterSet) -> tuple[float, float]:
        """rms (fast, slow) in pixels over the spots of all shots."""
        rows = [torch.zeros(0, 2, dtype=torch.float64)]
        for residual, valid in self.residuals(parameters):
            rows.append(residual[valid][:, :2])
        both = torch.cat(listed([torch.cat(rows)]))
        fast, slow = (both**2).mean(0).sqrt().tolist() if len(both) else (float("nan"), float("nan"))
        return fast, slow
