"""The detector: panels, and the rigid bodies they form, as parameters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from nbtorch.config import DetectorConfig, PanelConfig, PanelGroup
from nbtorch.errors import ConfigError
from nbtorch.functional.rotation import rotation_matrix, unit
from nbtorch.kernels.reference import PanelFrames, RaySettings
from nbtorch.units import DEGREES


def start_frame(panel: PanelConfig) -> np.ndarray:
    """Rows fast, slow, normal (unit), origin (mm) [4, 3] of ``panel``; a derived normal leads away from the sample."""
    fast, slow = (np.array(v) / np.linalg.norm(v) for v in (panel.fast_axis, panel.slow_axis))
    origin = np.array(panel.origin)
    if panel.normal is not None:
        return np.stack([fast, slow, np.array(panel.normal) / np.linalg.norm(panel.normal), origin])
    normal = np.cross(fast, slow)
    normal /= np.linalg.norm(normal)
    return np.stack([fast, slow, -normal if normal @ origin < 0 else normal, origin])


def panel_centre(panel: PanelConfig) -> np.ndarray:
    """The centre [3] of ``panel`` (mm)."""
    fast, slow, _, origin = start_frame(panel)
    width, height = (count * size for count, size in zip(panel.size, panel.pixel_size, strict=True))
    return np.asarray(origin + fast * width / 2 + slow * height / 2)


def group_frame(config: DetectorConfig, group: PanelGroup) -> np.ndarray:
    """Rows fast, slow, normal and pivot (mm) [4, 3] of a rigid group at the start.

    The pivot is the mean of its panels' centres, the normal their mean normal, the fast axis its first panel's.
    """
    members = [config.panels[index] for index in group.all_panels()]
    normal = np.mean([start_frame(panel)[2] for panel in members], axis=0)
    normal /= np.linalg.norm(normal)
    fast = start_frame(members[0])[0]
    fast = fast - (fast @ normal) * normal
    fast /= np.linalg.norm(fast)
    # right- or left-handed as the first panel is, so that "slow" points along its slow axis
    slow = np.cross(normal, fast)
    slow *= np.sign(slow @ start_frame(members[0])[1])
    return np.stack([fast, slow, normal, np.mean([panel_centre(panel) for panel in members], axis=0)])


def root_group(config: DetectorConfig) -> PanelGroup:
    """The whole detector as one group: the root of the hierarchy, or all panels."""
    return config.hierarchy or PanelGroup("detector", tuple(range(len(config.panels))))


class Detector(nn.Module):
    """Panels in the lab, moved as rigid groups.

    Parameters: ``fast_axis``, ``slow_axis`` [N, 3], ``origin`` [N, 3] (mm), ``thickness`` [N] (mm), ``absorption``
    [N] (µ, mm⁻¹; 0 without a sensor), and for every group ``shift`` [G, 3] (mm) and ``rotation`` [G, 3] (degrees, a
    rotation vector), both along the group's START fast, slow and normal axes, about its pivot ``pivot`` [G, 3].
    ``groups`` lists the rigid bodies, by default the whole detector alone; groups of one depth must not overlap, and
    deeper ones move first.
    """

    group_axes: Tensor
    pivot: Tensor
    explicit_normal: Tensor
    normal_sign: Tensor
    pixel_size: Tensor
    body: Tensor

    def __init__(
        self,
        config: DetectorConfig,
        groups: Sequence[PanelGroup] | None = None,
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.groups = tuple(groups) if groups is not None else (root_group(config),)

        def tensor(value: object) -> Tensor:
            return torch.as_tensor(np.asarray(value, dtype=float), dtype=dtype, device=device)

        frames = np.stack([start_frame(panel) for panel in config.panels])
        self.fast_axis = nn.Parameter(tensor(frames[:, 0]))
        self.slow_axis = nn.Parameter(tensor(frames[:, 1]))
        self.origin = nn.Parameter(tensor(frames[:, 3]))
        self.thickness = nn.Parameter(tensor([panel.thickness for panel in config.panels]))
        self.absorption = nn.Parameter(tensor([_absorption(panel) for panel in config.panels]))
        self.shift = nn.Parameter(tensor(np.zeros((len(self.groups), 3))))
        self.rotation = nn.Parameter(tensor(np.zeros((len(self.groups), 3))))
        bodies = np.array([group_frame(config, group) for group in self.groups]).reshape(-1, 4, 3)
        self.register_buffer("group_axes", tensor(bodies[:, :3]))
        self.register_buffer("pivot", tensor(bodies[:, 3]))
        explicit = np.array([panel.normal is not None for panel in config.panels])
        cross = np.cross(frames[:, 0], frames[:, 1])
        self.register_buffer("explicit_normal", tensor(np.where(explicit[:, None], frames[:, 2], 0.0)))
        self.register_buffer("normal_sign", tensor(np.where(explicit, 0.0, np.sign((cross * frames[:, 2]).sum(1)))))
        self.register_buffer("pixel_size", tensor([panel.pixel_size for panel in config.panels]))
        body = _bodies_by_depth(config, self.groups)
        self.register_buffer("body", torch.as_tensor(body, device=device))

    def frames(self) -> Tensor:
        """Rows fast, slow, normal (unit), origin (mm) [N, 4, 3] of every panel, after the groups have moved."""
        fast, slow = unit(self.fast_axis), unit(self.slow_axis)
        cross = torch.linalg.cross(fast, slow)
        normal = self.explicit_normal + self.normal_sign[:, None] * cross / cross.norm(dim=-1, keepdim=True)
        axes = torch.stack([fast, slow, normal], dim=1)
        origin: Tensor = self.origin
        if len(self.groups) == 0:
            return torch.cat([axes, origin[:, None]], dim=1)
        turn, shift = self._motions()
        pivot = torch.cat([self.pivot, torch.zeros_like(self.pivot[:1])])
        for body in self.body:  # deepest groups first; the last row of `turn` and `shift` moves nothing
            rotate = turn[body]
            origin = _apply(rotate, origin - pivot[body]) + pivot[body] + shift[body]
            axes = axes @ rotate.transpose(-1, -2)
        return torch.cat([axes, origin[:, None]], dim=1)

    def _motions(self) -> tuple[Tensor, Tensor]:
        """Rotations [G + 1, 3, 3] and shifts [G + 1, 3] in the lab; the last of each is none."""
        vectors = (self.rotation[:, :, None] * self.group_axes).sum(1) * DEGREES
        shifts = (self.shift[:, :, None] * self.group_axes).sum(1)
        eye = torch.eye(3, dtype=vectors.dtype, device=vectors.device)[None]
        return torch.cat([rotation_matrix(vectors), eye]), torch.cat([shifts, torch.zeros_like(shifts[:1])])

    def panel_frames(self) -> PanelFrames:
        """The panels as :func:`nbtorch.kernels.pixel_rays` takes them."""
        return PanelFrames(self.frames(), self.pixel_size, self.absorption)

    def ray_settings(self, *, polarized: bool = True) -> RaySettings:
        """The choices of :func:`nbtorch.kernels.pixel_rays` that belong to this detector."""
        return RaySettings(self.config.curved, self.config.point_pixel, polarized, self.config.curved_distance)


def _absorption(panel: PanelConfig) -> float:
    """µ (mm⁻¹) of the sensor, 0 where there is none."""
    return 1 / panel.attenuation_length if panel.thickness > 0 else 0.0


def _apply(matrix: Tensor, vector: Tensor) -> Tensor:
    """matrix [N, 3, 3] applied to column vectors [N, 3]."""
    return (matrix @ vector[..., None])[..., 0]


def _bodies_by_depth(config: DetectorConfig, groups: Sequence[PanelGroup]) -> np.ndarray:
    """Index of the group that moves each panel [L, N], one row a depth, deepest first; len(groups) where none does.

    Raises ConfigError where two groups of one depth share a panel.
    """
    depth_of = {group.name: depth for depth, group in root_group(config).walk()}
    depths = [depth_of.get(group.name, 0) for group in groups]
    rows = []
    for depth in sorted(set(depths), reverse=True):
        row = np.full(len(config.panels), len(groups))
        for index, group in enumerate(groups):
            members = list(group.all_panels()) if depths[index] == depth else []
            if (row[members] != len(groups)).any():
                raise ConfigError(f"group {group.name}", "it shares panels with a group of its depth", "Give each once")
            row[members] = index
        rows.append(row)
    return np.array(rows).reshape(-1, len(config.panels))
