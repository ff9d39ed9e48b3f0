"""Which pixels: full frame, ROI, mask, shoeboxes or any list are one concept, a list of (panel, slow, fast)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nbtorch.config import DetectorConfig
from nbtorch.errors import DataError


@dataclass(frozen=True)
class PixelSelection:
    """P pixels of a detector. panel, slow, fast: [P] integer tensors; shapes: (slow, fast) count of every panel."""

    panel: Tensor
    slow: Tensor
    fast: Tensor
    shapes: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.panel)

    def __getitem__(self, chosen: slice | Tensor) -> PixelSelection:
        """The pixels at ``chosen`` (a slice, positions or a boolean tensor [P])."""
        return PixelSelection(self.panel[chosen], self.slow[chosen], self.fast[chosen], self.shapes)

    def to(self, device: torch.device | str) -> PixelSelection:
        """The same pixels on ``device``."""
        return PixelSelection(self.panel.to(device), self.slow.to(device), self.fast.to(device), self.shapes)

    def images(self, values: Tensor, fill: float = 0.0) -> list[Tensor]:
        """One image [slow, fast] a panel with ``values`` [P] in their places and ``fill`` elsewhere."""
        images = []
        for index, shape in enumerate(self.shapes):
            here = (self.panel == index).to(values.device)
            image = torch.full(shape, fill, dtype=values.dtype, device=values.device)
            place = self.slow.to(values.device)[here], self.fast.to(values.device)[here]
            images.append(image.index_put(place, values[here]))
        return images

    def gather(self, images: Sequence[np.ndarray | Tensor]) -> Tensor:
        """The values [P] of ``images``, one [slow, fast] a panel, at these pixels. Raises DataError on other shapes."""
        given = tuple(tuple(image.shape) for image in images)
        if given != self.shapes:
            raise DataError(f"images of shape {given}", f"the detector has panels of {self.shapes}", "Check the files")
        tensors = [torch.as_tensor(image, device=self.panel.device) for image in images]
        offsets = np.concatenate([[0], np.cumsum([slow * fast for slow, fast in self.shapes])[:-1]])
        start = torch.as_tensor(offsets, device=self.panel.device)[self.panel]
        width = torch.tensor([fast for _, fast in self.shapes], device=self.panel.device)[self.panel]
        return torch.cat([tensor.reshape(-1) for tensor in tensors])[start + self.slow * width + self.fast]


def panel_shapes(detector: DetectorConfig) -> tuple[tuple[int, int], ...]:
    """(slow, fast) pixel counts of every panel."""
    return tuple((panel.size[1], panel.size[0]) for panel in detector.panels)


def pixel_list(detector: DetectorConfig, panel: Tensor, slow: Tensor, fast: Tensor) -> PixelSelection:
    """Any pixels, [P] each. Raises DataError for one outside its panel."""
    shapes = panel_shapes(detector)
    panel, slow, fast = (torch.as_tensor(index, dtype=torch.long) for index in (panel, slow, fast))
    limits = torch.tensor(shapes, device=panel.device)
    inside = (panel >= 0) & (panel < len(shapes))
    limit = limits[torch.where(inside, panel, 0)]
    inside &= (slow >= 0) & (slow < limit[:, 0]) & (fast >= 0) & (fast < limit[:, 1])
    if not bool(inside.all()):
        first = int(torch.nonzero(~inside)[0, 0])
        where = f"pixel (panel {int(panel[first])}, slow {int(slow[first])}, fast {int(fast[first])})"
        raise DataError(where, f"it lies outside the detector, whose panels measure {shapes[:4]}", "Check the indices")
    return PixelSelection(panel, slow, fast, shapes)


def masked(detector: DetectorConfig, masks: Sequence[np.ndarray | Tensor]) -> PixelSelection:
    """The pixels where ``masks``, one bool [slow, fast] a panel, are true. Raises DataError on other shapes."""
    shapes = panel_shapes(detector)
    given = tuple(tuple(mask.shape) for mask in masks)
    if given != shapes:
        raise DataError(f"a mask of shape {given}", f"the detector has panels of {shapes}", "Give a mask of that size")
    parts = []
    for index, mask in enumerate(masks):
        slow, fast = torch.nonzero(torch.as_tensor(mask), as_tuple=True)
        parts.append((torch.full_like(slow, index), slow, fast))
    panel, slow, fast = (torch.cat(part) for part in zip(*parts, strict=True))
    return PixelSelection(panel, slow, fast, shapes)


def full_frame(detector: DetectorConfig) -> PixelSelection:
    """Every pixel of every panel."""
    return masked(detector, [torch.ones(shape, dtype=torch.bool) for shape in panel_shapes(detector)])


def roi(detector: DetectorConfig, fast: tuple[int, int], slow: tuple[int, int], panel: int = 0) -> PixelSelection:
    """The rectangle ``fast`` = (first, last), ``slow`` = (first, last), inclusive, of one panel."""
    slow_index, fast_index = torch.meshgrid(
        torch.arange(slow[0], slow[1] + 1), torch.arange(fast[0], fast[1] + 1), indexing="ij"
    )
    here = torch.full_like(slow_index, panel).reshape(-1)
    return pixel_list(detector, here, slow_index.reshape(-1), fast_index.reshape(-1))


def shoeboxes(detector: DetectorConfig, centres: np.ndarray, half_width: int) -> tuple[PixelSelection, Tensor]:
    """Square boxes around predicted spots, and the spot [P] that each pixel belongs to.

    centres: [n, 3] panel, fast, slow (pixels, 0 at the corner of the first). A box is 2·half_width + 1 pixels wide and
    is cut at the edge of its panel; a pixel of two boxes appears twice.
    """
    shapes = panel_shapes(detector)
    panels, fasts, slows, spots = [], [], [], []
    for spot, (panel, fast, slow) in enumerate(centres):
        rows, columns = shapes[int(panel)]
        s = np.arange(max(0, int(slow) - half_width), min(rows, int(slow) + half_width + 1))
        f = np.arange(max(0, int(fast) - half_width), min(columns, int(fast) + half_width + 1))
        grid = np.stack(np.meshgrid(s, f, indexing="ij")).reshape(2, -1)
        slows.append(grid[0]), fasts.append(grid[1])
        panels.append(np.full(grid.shape[1], int(panel))), spots.append(np.full(grid.shape[1], spot))
    if not spots:
        raise DataError("an empty list of shoeboxes", "there is nothing to render", "Give at least one spot")
    panel, slow, fast, spot = (torch.as_tensor(np.concatenate(part)) for part in (panels, slows, fasts, spots))
    return pixel_list(detector, panel, slow, fast), spot
