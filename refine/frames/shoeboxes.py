"""Shoeboxes: the pixels around each reflection over all frames it touches, padded to one size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from nbtorch.config import DetectorConfig
from nbtorch.errors import DataError
from nbtorch.render import PixelSelection
from nbtorch.render.pixels import panel_shapes

MAX_PIXELS = 10**8  # of one block's boxes: 6 GB of numbers, more than any real block holds


@dataclass(frozen=True)
class BoxPlan:
    """Where shoeboxes lie, a row a reflection: hkl [B, 3], panel [B], half-open ranges [B, 2] in pixels and frames."""

    hkl: np.ndarray
    panel: np.ndarray
    fast: np.ndarray
    slow: np.ndarray
    frame: np.ndarray

    def __len__(self) -> int:
        return len(self.panel)

    def __getitem__(self, chosen: np.ndarray) -> BoxPlan:
        return BoxPlan(self.hkl[chosen], self.panel[chosen], self.fast[chosen], self.slow[chosen], self.frame[chosen])


@dataclass(frozen=True)
class Shoeboxes:
    """Pixels of B reflections, padded to Q each. frame, slow, fast, counts, valid: [B, Q]; panel [B], hkl [B, 3].

    ``position`` [B, Q] is where a pixel's model value lies among the P distinct pixels of ``selections``, one
    selection a frame, so that a pixel of two boxes is rendered once; padding points at 0. ``gain`` (ADU a photon) and
    ``readout`` (ADU) are those of the pixel's panel, [B].
    """

    hkl: Tensor
    panel: Tensor
    frame: Tensor
    slow: Tensor
    fast: Tensor
    counts: Tensor
    valid: Tensor
    position: Tensor
    selections: tuple[tuple[int, PixelSelection], ...]
    gain: Tensor
    readout: Tensor

    def __len__(self) -> int:
        return len(self.panel)

    @property
    def place(self) -> Tensor:
        """Fast, slow and frame [B, Q, 3] of every pixel."""
        return torch.stack([self.fast, self.slow, self.frame.to(self.fast)], dim=-1)

    @property
    def n_pixels(self) -> int:
        """Valid pixels of all boxes."""
        return int(self.valid.sum())


def plan_boxes(
    detector: DetectorConfig,
    hkl: np.ndarray,
    panel: np.ndarray,
    centre: np.ndarray,
    half: tuple[int, int],
    n_frames: int,
) -> tuple[BoxPlan, np.ndarray]:
    """Boxes of 2·half[0] + 1 pixels and 2·half[1] + 1 frames around ``centre`` [n, 3] = (fast, slow, frame).

    Cut at the edges of panel and scan. Returns the plan and the indices [B] of the reflections that have a box.
    """
    shapes = np.array(panel_shapes(detector))[panel]
    middle = np.floor(centre).astype(int)
    reach = np.array([half[0], half[0], half[1]])
    low, high = middle - reach, middle + reach + 1
    limit = np.stack([shapes[:, 1], shapes[:, 0], np.full(len(panel), n_frames)], axis=1)
    low, high = np.clip(low, 0, limit), np.clip(high, 0, limit)
    keep = np.nonzero((high > low).all(1))[0]
    ranges = np.stack([low, high], axis=2)[keep]
    return BoxPlan(hkl[keep], panel[keep], ranges[:, 0], ranges[:, 1], ranges[:, 2]), keep


class Pixels(Protocol):
    """Where the pixels of an experiment come from. ``shapes``: (slow, fast) pixels of every panel."""

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]: ...

    def fetch(self, plan: BoxPlan) -> None:
        """Make ready the pixels of ``plan``."""

    def at(self, number: int, panel: int, slow: np.ndarray, fast: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Counts and validity of the pixels [m] at ``slow``, ``fast`` of one panel of one frame."""


def cut(plan: BoxPlan, pixels: Pixels, noise: tuple[np.ndarray, np.ndarray]) -> Shoeboxes:
    """The ``pixels`` of ``plan``. noise: gain and read-out noise of every panel.

    Raises DataError for an empty plan or an absurd number of pixels.
    """
    if len(plan) == 0:
        raise DataError("an empty list of shoeboxes", "no reflection is predicted where pixels were measured", _HINT)
    width = int(_sizes(plan).prod(1).max())
    if width * len(plan) > MAX_PIXELS:
        raise DataError(
            f"{len(plan)} boxes of {width} pixels", "they exceed the memory", "Set loss.box_half_width lower"
        )
    pixels.fetch(plan)
    inside, place = box_pixels(plan)
    arrays = dict(zip(("frame", "slow", "fast"), place, strict=True))
    arrays |= {"counts": np.zeros(inside.shape), "valid": np.zeros(inside.shape, dtype=bool)}
    box, pixel = np.nonzero(inside)
    key = np.stack([place[0][box, pixel], plan.panel[box]])
    order = np.lexsort(key)
    first = np.nonzero(np.r_[True, (np.diff(key[:, order]) != 0).any(0)])[0] if len(order) else order
    for chosen in np.split(order, first[1:]):
        where = box[chosen], pixel[chosen]
        counts, good = pixels.at(int(key[0, chosen[0]]), int(key[1, chosen[0]]), place[1][where], place[2][where])
        arrays["valid"][where] = good
        arrays["counts"][where] = np.where(good, counts, 0)
    return _assemble(plan, arrays, pixels.shapes, noise)


def _sizes(plan: BoxPlan) -> np.ndarray:
    """Frames, slow and fast pixels [B, 3] of every box."""
    return np.stack([np.diff(r, axis=1)[:, 0] for r in (plan.frame, plan.slow, plan.fast)], axis=1)


def box_pixels(plan: BoxPlan) -> tuple[np.ndarray, np.ndarray]:
    """Which of Q places [B, Q] of each box hold a pixel, and its frame, slow and fast [3, B, Q]; 0 elsewhere.

    Q is what the largest box holds; fast runs fastest.
    """
    sizes = _sizes(plan)
    width = int(sizes.prod(1).max())
    number = np.broadcast_to(np.arange(width), (len(plan), width))
    inside = number < sizes.prod(1)[:, None]
    across = number % sizes[:, 2:]
    down, along = (number // sizes[:, 2:]) % sizes[:, 1:2], number // (sizes[:, 1:2] * sizes[:, 2:])
    begins = (plan.frame[:, :1], plan.slow[:, :1], plan.fast[:, :1])
    place = [np.where(inside, low + step, 0) for low, step in zip(begins, (along, down, across), strict=True)]
    return inside, np.stack(place)


_HINT = "Compare data.experiment with the frames, or draw the predictions with --check"


def _assemble(
    plan: BoxPlan,
    arrays: dict[str, np.ndarray],
    shapes: tuple[tuple[int, int], ...],
    noise: tuple[np.ndarray, np.ndarray],
) -> Shoeboxes:
    """Tensors of the padded ``arrays``, and the distinct pixels of each frame."""
    good = arrays["valid"]
    panel = np.broadcast_to(plan.panel[:, None], good.shape)
    key = np.stack([arrays["frame"], panel, arrays["slow"], arrays["fast"]], axis=-1)[good].astype(int)
    if len(key) == 0:
        raise DataError("the shoeboxes", "every pixel of them is masked", "Check the mask and the trusted range")
    # one number a pixel sorts ten times as fast as four
    largest = key.max(0) + 1
    number = np.ravel_multi_index(tuple(key.T), tuple(largest))
    chosen, inverse = np.unique(number, return_inverse=True)
    distinct = np.stack(np.unravel_index(chosen, tuple(largest)), axis=1)
    position = np.zeros(good.shape, dtype=int)
    position[good] = inverse.ravel()
    selections = []
    for z in np.unique(distinct[:, 0]):
        rows = torch.as_tensor(distinct[distinct[:, 0] == z])
        selections.append((int(z), PixelSelection(rows[:, 1], rows[:, 2], rows[:, 3], shapes)))
    tensor = {name: torch.as_tensor(values) for name, values in arrays.items()}
    return Shoeboxes(
        hkl=torch.as_tensor(np.ascontiguousarray(plan.hkl)),
        panel=torch.as_tensor(np.ascontiguousarray(plan.panel)),
        frame=tensor["frame"].long(),
        slow=tensor["slow"].double(),
        fast=tensor["fast"].double(),
        counts=tensor["counts"],
        valid=torch.as_tensor(good),
        position=torch.as_tensor(position),
        selections=tuple(selections),
        gain=torch.as_tensor(noise[0][plan.panel]),
        readout=torch.as_tensor(noise[1][plan.panel]),
    )


def background_columns(boxes: Shoeboxes, kind: str) -> Tensor:
    """Design [B, Q, C] of the background: a tilted "plane" a frame, one constant a frame, or one constant in all.

    "plane" (C = 3 a frame), "frame" (C = 1 a frame), "constant" (C = 1). Frames count from the box's first, and a
    plane is written about the centre of the box in half widths, so that its three columns are of one size.
    """
    if kind == "constant":
        return boxes.valid.to(boxes.counts)[..., None]
    first = torch.where(boxes.valid, boxes.frame, boxes.frame.max() + 1).amin(1, keepdim=True)
    local = torch.where(boxes.valid, boxes.frame - first, 0)
    here = torch.nn.functional.one_hot(local, int(local.max()) + 1).to(boxes.counts) * boxes.valid[..., None]
    if kind == "frame":
        return here
    across = [here]
    for coordinate in (boxes.fast, boxes.slow):
        weight = boxes.valid.to(coordinate)
        mean = (coordinate * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)  # 0: all masked
        spread = ((coordinate - mean) * weight).abs().amax(1, keepdim=True).clamp(min=1)
        across.append(here * ((coordinate - mean) / spread)[..., None])
    return torch.cat(across, dim=-1)
