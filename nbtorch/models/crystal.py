"""The crystal: cell, orientation, mosaic spread, size and spindle, as parameters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from nbtorch.config import CrystalConfig, Exposure, MosaicConfig
from nbtorch.functional import cell as cells
from nbtorch.functional import lattice, random, rotation, spline
from nbtorch.units import DEGREES

MOSAIC_SETS = {
    "antithetic": lambda mosaic: random.antithetic_mosaic_vectors(mosaic.domains),
    "nanobragg": lambda mosaic: random.nanobragg_mosaic_vectors(mosaic.seed, mosaic.domains, mosaic.spread * DEGREES),
}


def mosaic_vectors(mosaic: MosaicConfig) -> np.ndarray:
    """Unit-spread rotation vectors [domains, 3] of the set that ``mosaic`` names."""
    return np.asarray(MOSAIC_SETS[mosaic.kind](mosaic))


class Crystal(nn.Module):
    """A crystal at goniometer zero, and where its vectors point during an exposure.

    Parameters: ``cell`` [6] (Å, degrees), ``rotation`` [3] (degrees; a rotation vector in the lab frame about the
    start orientation, so zero is where ``config`` put it), ``misset`` [3] (degrees, about lab x, y, z),
    ``mosaic_spread`` [] (degrees; rms rotation about each axis, for the antithetic set) or, anisotropic, [3] (about a*,
    c × a* and c), ``n_cells`` [3], ``spindle_axis`` [3]. With n ``knots`` it drifts: ``rotation_knots`` [n, 3] and
    ``cell_knots`` [n, 6], at the spindle angles of the knots, are added to ``rotation`` and ``cell``.
    """

    knots: Tensor
    curvatures: Tensor
    orientation: Tensor
    mosaic: Tensor
    fixed_rotation: Tensor
    setting_rotation: Tensor

    def __init__(
        self, config: CrystalConfig, *, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        self.config = config

        def tensor(value: object) -> Tensor:
            return torch.as_tensor(np.asarray(value, dtype=float), dtype=dtype, device=device)

        self.cell = nn.Parameter(tensor(config.cell))
        self.rotation = nn.Parameter(tensor((0.0, 0.0, 0.0)))
        self.misset = nn.Parameter(tensor(config.misset))
        self.mosaic_spread = nn.Parameter(tensor(config.mosaic.spread))
        self.n_cells = nn.Parameter(tensor(config.n_cells))
        self.spindle_axis = nn.Parameter(tensor(config.goniometer.axis))
        self.register_buffer("knots", tensor(config.knots))
        if config.knots:
            self.rotation_knots = nn.Parameter(tensor(np.zeros((len(config.knots), 3))))
            self.cell_knots = nn.Parameter(tensor(np.zeros((len(config.knots), 6))))
            self.register_buffer("curvatures", spline.natural_curvatures(self.knots))
        self.register_buffer("orientation", tensor(config.orientation))
        self.register_buffer("mosaic", tensor(mosaic_vectors(config.mosaic)))
        self.register_buffer("fixed_rotation", tensor(config.goniometer.fixed_rotation))
        self.register_buffer("setting_rotation", tensor(config.goniometer.setting_rotation))

    @property
    def drifts(self) -> bool:
        """Whether orientation and cell change with the spindle angle."""
        return bool(self.config.knots)

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Rows a, b, c (Å) and a*, b*, c* (Å⁻¹), [3, 3] each, in the lab at goniometer zero; the mean over the knots of
        a crystal that drifts."""
        return self._rows(self.mean_cell(), self.lab_rotation())

    def vectors_at(self, phi: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`vectors`, [J, 3, 3] each, as they are when the spindle is at ``phi`` [J] (degrees)."""
        if not self.drifts:
            direct, reciprocal = self.vectors()
            return direct.expand(len(phi), 3, 3), reciprocal.expand(len(phi), 3, 3)
        weights = spline.spline_weights(phi, self.knots, self.curvatures)
        turn = self._turned(self.rotation + weights @ self.rotation_knots)
        return self._rows(self.cell + weights @ self.cell_knots, turn)

    def reflections(self, hkl: Tensor, phi: Tensor) -> Tensor:
        """Reciprocal vectors [n, 3] (Å⁻¹) of ``hkl`` [n, 3] in the lab at goniometer zero, as the crystal is when the
        spindle is at ``phi`` [n] (degrees)."""
        if not self.drifts:
            return hkl @ self.vectors()[1]
        return (hkl[:, None] @ self.vectors_at(phi)[1])[:, 0]

    def mean_cell(self) -> Tensor:
        """The cell [6] (Å, degrees), the mean over the knots."""
        return self.cell + self.cell_knots.mean(0) if self.drifts else self.cell

    def lab_rotation(self) -> Tensor:
        """misset · exp(rotation) · U [3, 3], for column vectors of the standard setting; the mean over the knots."""
        return self._turned(self.rotation + self.rotation_knots.mean(0) if self.drifts else self.rotation)

    def _turned(self, rotation_vector: Tensor) -> Tensor:
        """misset · exp(rotation) · U [..., 3, 3] of rotation vectors [..., 3] (degrees)."""
        about_start = rotation.rotation_matrix(rotation_vector * DEGREES)
        return rotation.misset_matrix(self.misset * DEGREES) @ about_start @ self.orientation

    def _rows(self, cell: Tensor, lab_rotation: Tensor) -> tuple[Tensor, Tensor]:
        """Direct and reciprocal rows [..., 3, 3] of ``cell`` [..., 6] (Å, degrees) turned into the lab."""
        radians = torch.cat([cell[..., :3], cell[..., 3:] * DEGREES], dim=-1)
        direct, reciprocal = cells.CONSTRUCTIONS[self.config.construction](radians)
        turn = lab_rotation.transpose(-1, -2)  # of row vectors
        return direct @ turn, reciprocal @ turn

    def spindle_rotations(self, *exposures: Exposure) -> Tensor:
        """Setting · spindle · fixed rotations [J, 3, 3] of the steps of ``exposures``, one after the other."""
        spin = rotation.axis_rotation(rotation.unit(self.spindle_axis), self._angles(exposures) * DEGREES)
        return self.setting_rotation @ spin @ self.fixed_rotation

    def _angles(self, exposures: Sequence[Exposure]) -> Tensor:
        """Spindle angles [J] (degrees) of the steps of ``exposures``, one after the other."""
        return torch.cat([spindle_angles(exposure, self.cell) for exposure in exposures])

    def mosaic_rotations(self) -> Tensor:
        """Rotations [M, 3, 3] of the mosaic domains, at goniometer zero.

        exp(spread·v) as nanoBragg's. Three spreads, ours: exp(V·diag(spread)·v), where the columns of V are unit
        vectors along a*, c × a* and c of the (mean) crystal in the lab.
        """
        if not self.config.mosaic.anisotropic:
            return rotation.rotation_matrix(self.mosaic_spread * DEGREES * self.mosaic)
        along = self.mosaic_spread * DEGREES * self.mosaic
        return rotation.rotation_matrix(along @ self.lab_rotation().transpose(-1, -2))

    def basis(self, exposure: Exposure) -> Tensor:
        """Rows a, b, c [J·M, 3, 3] (Å) of every spindle step (outer) and mosaic domain (inner).

        The antithetic set acts in the crystal frame, R·U_m·v; nanoBragg's after the spindle, U_m·R·v.
        """
        return self.bases([exposure], self.vectors()[0])[0]

    def bases(self, exposures: Sequence[Exposure], direct: Tensor) -> list[Tensor]:
        """:meth:`basis` of every one of ``exposures``; ``direct`` [3, 3] is the first of :meth:`vectors`.

        A crystal that drifts is, in every spindle step, what it is at the angle of that step.
        """
        if self.drifts:
            direct = self.vectors_at(self._angles(exposures))[0][:, None]
        spindle, mosaic = self.spindle_rotations(*exposures)[:, None], self.mosaic_rotations()
        turned = mosaic @ spindle if self.config.mosaic.kind == "nanobragg" else spindle @ mosaic
        basis = (direct @ turned.transpose(-1, -2)).flatten(0, 1)
        return list(basis.split([exposure.steps * len(mosaic) for exposure in exposures]))

    def metric(self, reciprocal: Tensor) -> Tensor:
        """The metric [3, 3] that the radial shapes see; ``reciprocal`` [3, 3] is the second of :meth:`vectors`.

        See :func:`nbtorch.functional.lattice.shape_metric`.
        """
        return lattice.shape_metric(self.config.shape, self.n_cells, reciprocal, self.config.fudge)

    def extra_repr(self) -> str:
        a, b, c, alpha, beta, gamma = self.cell.tolist()
        return f"cell={a:g} {b:g} {c:g} {alpha:g} {beta:g} {gamma:g}, shape={self.config.shape}"


def spindle_angles(exposure: Exposure, like: Tensor) -> Tensor:
    """Spindle angles [J] (degrees) of ``exposure``, with the dtype and device of ``like``.

    nanoBragg: a step at exactly 0 keeps the vectors of the step before it, for the first step those of the last one
    (of the pixel before); ``reuse_stale_at_zero`` reproduces that.
    """
    step = exposure.oscillation / exposure.steps
    first = exposure.phi_start + (step / 2 if exposure.sampling == "midpoint" else 0.0)
    angles = first + step * torch.arange(exposure.steps, dtype=like.dtype, device=like.device)
    if exposure.reuse_stale_at_zero:
        angles = torch.where(angles == 0, angles.roll(1), angles)
    return angles
