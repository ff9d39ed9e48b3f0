"""One crystal's data: what is rendered for its shoeboxes, and how that changes with the parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nbtorch.config import Exposure, RenderSettings
from nbtorch.models import Experiment
from nbtorch.render import PixelSelection, Renderer
from refine.parameters import ParameterSet
from refine.shoeboxes import Shoeboxes, background_columns

_JACOBIAN_BYTES = 2**30  # the columns of one block are computed in groups that stay below it


class FrameRenderers(nn.Module):
    """Photons [P] of the distinct pixels of every frame of a block, frame after frame."""

    def __init__(
        self,
        experiment: Experiment,
        selections: Sequence[tuple[Exposure, PixelSelection]],
        settings: RenderSettings,
    ) -> None:
        super().__init__()
        self.experiment = experiment
        self.exposures = [exposure for exposure, _ in selections]
        self.renderers = nn.ModuleList(Renderer(experiment, pixels, settings) for _, pixels in selections)

    def forward(self) -> Tensor:
        frames = zip(self.renderers, self.exposures, strict=True)
        return torch.cat([renderer(exposure) for renderer, exposure in frames])


class Block:
    """A still, or a scan: its experiment, its shoeboxes, and the spots rendered for them.

    ``exposures`` is the spindle range of every frame; ``background`` a kind of
    :func:`refine.shoeboxes.background_columns`.
    """

    def __init__(
        self,
        index: int,
        experiment: Experiment,
        exposures: Sequence[Exposure],
        boxes: Shoeboxes,
        settings: RenderSettings,
        background: str,
    ) -> None:
        self.index = index
        self.experiment = experiment
        self.boxes = boxes
        self.columns = background_columns(boxes, background)
        self.exposures = tuple(exposures)
        selections = [(exposures[frame], pixels) for frame, pixels in boxes.selections]
        self.renderers = FrameRenderers(experiment, selections, settings)

    def render(self, changes: Mapping[str, Tensor]) -> Tensor:
        """Spots [B, Q], without background, with the model tensors ``changes`` in the place of the experiment's own.

        "scale" in ``changes`` multiplies every spot of the block.
        """
        tensors = {f"experiment.{name}": value for name, value in changes.items() if name != "scale"}
        photons = torch.func.functional_call(self.renderers, tensors, (), tie_weights=False)
        photons = photons * changes["scale"] if "scale" in changes else photons
        return torch.where(self.boxes.valid, photons[self.boxes.position], 0)

    def model(self, parameters: ParameterSet) -> Tensor:
        """Spots [B, Q] at the current values."""
        with torch.no_grad():
            return self.render(parameters.changes(self.index))

    def jacobian(self, parameters: ParameterSet) -> tuple[Tensor, Tensor]:
        """Spots [B, Q] and their derivatives [B, Q, T] by the free parameters that move this block."""
        place = parameters.of_block(self.index)
        values = parameters.values.detach()[place]

        if not place:
            return self.model(parameters), torch.zeros(*self.boxes.valid.shape, 0, dtype=values.dtype)

        def column(direction: Tensor) -> Tensor:
            def spots(free: Tensor) -> Tensor:
                return self.render(parameters.changes(self.index, free))

            moved: Tensor = torch.func.jvp(spots, (values,), (direction,))[1]
            return moved

        each = self.boxes.valid.numel() * values.element_size() * 16
        group = max(1, min(len(place), _JACOBIAN_BYTES // each))
        directions = torch.eye(len(place), dtype=values.dtype, device=values.device)
        columns: Tensor = torch.func.vmap(column, chunk_size=group)(directions)
        return self.model(parameters), columns.permute(1, 2, 0)
