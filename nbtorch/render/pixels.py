"""Which pixels: full frame, ROI, mask, shoeboxes or any list are one concept, a list of (panel, slow, fast)."""

from __future__ import annotations

import math
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
    """The rectangle ``fast`` = (first, last), ``slow`` = (first, last), inclusive, of one panel.

    Raises DataError when a corner lies outside the panel.
    """
    corners = (torch.tensor([panel, panel]), torch.tensor(slow), torch.tensor(fast))
    shapes = pixel_list(detector, *corners).shapes
    slow_index, fast_index = torch.meshgrid(
        torch.arange(slow[0], slow[1] + 1), torch.arange(fast[0], fast[1] + 1), indexing="ij"
    )
    here = torch.full_like(slow_index, panel).reshape(-1)
    return PixelSelection(here, slow_index.reshape(-1), fast_index.reshape(-1), shapes)


def shoeboxes(detector: DetectorConfig, centres: np.ndarray, half_width: int) -> tuple[PixelSelection, Tensor]:
    """Square boxes around predicted spots, and the spot [P] that each pixel belongs to.

    centres: [n, 3] panel, fast, slow (pixels, 0 at the corner of the first). A box is 2·half_width + 1 pixels wide and
    is cut at the edge of its panel; a pixel of two boxes appears twice. Raises DataError for an empty list, a panel
    that is not there and a centre that is not finite.
    """
    if len(centres) == 0:
        raise DataError("an empty list of shoeboxes", "there is nothing to render", "Give at least one spot")
    shapes = panel_shapes(detector)
    boxes, spots = [], []
    for spot, (panel, fast, slow) in enumerate(centres):
        box = _box(shapes, int(panel), (float(slow), float(fast)), half_width)
        boxes.append(box)
        spots.append(np.full(box.shape[1], spot))
    where = torch.as_tensor(np.concatenate(boxes, axis=1))
    return pixel_list(detector, where[0], where[1], where[2]), torch.as_tensor(np.concatenate(spots))


def _box(shapes: tuple[tuple[int, int], ...], panel: int, centre: tuple[float, float], half_width: int) -> np.ndarray:
    """panel, slow, fast [3, n] of the pixels within ``half_width`` of the one that ``centre`` (slow, fast) lies in."""
    if not 0 <= panel < len(shapes) or not all(map(math.isfinite, centre)):
        raise DataError(
            f"a shoebox on panel {panel} at slow, fast {centre}",
            f"the detector has {len(shapes)} panels, and a centre is finite",
            "Leave that spot out",
        )
    axes = []
    for position, count in zip(centre, shapes[panel], strict=True):
        middle = math.floor(position)
        axes.append(np.arange(max(0, middle - half_width), min(count, middle + half_width + 1)))
    slow, fast = np.meshgrid(*axes, indexing="ij")
    return np.stack([np.full(slow.size, panel), slow.ravel(), fast.ravel()])
