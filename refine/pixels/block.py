"""One crystal's data: what is rendered for its shoeboxes, and how that changes with the parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nbtorch.config import Exposure, RenderSettings
from nbtorch.models import Experiment
from nbtorch.render import PixelSelection, Renderer
from nbtorch.render.scene import Scene, scenes
from nbtorch.render.tangents import SceneTangents, scenes_and_tangents, serves
from refine.frames.shoeboxes import Shoeboxes, background_columns
from refine.parameters.amplitudes import BoxAmplitudes, box_amplitudes, shining_in
from refine.parameters.panel_columns import PanelColumns, merged
from refine.parameters.parameter_set import ParameterSet

_JACOBIAN_BYTES = 2**30  # the columns of one block are computed in groups that stay below it


class FrameRenderers(nn.Module):
    """The distinct pixels of every frame of a block, frame after frame; what frames share is derived once."""

    def __init__(
        self,
        experiment: Experiment,
        selections: Sequence[tuple[Exposure, PixelSelection]],
        settings: RenderSettings,
    ) -> None:
        super().__init__()
        self.experiment = experiment
        self.settings = settings
        self.exposures = [exposure for exposure, _ in selections]
        self.renderers = [Renderer(experiment, pixels, settings) for _, pixels in selections]

    def forward(self) -> list[Scene]:
        """The scene of every frame."""
        return scenes(self.experiment, self.settings, self.exposures)

    def photons(self, of_frames: Sequence[Scene]) -> Tensor:
        """Photons [P] of every pixel in the frames' scenes."""
        pairs = zip(self.renderers, of_frames, strict=True)
        return torch.cat([renderer.render(scene) for renderer, scene in pairs])

    def columns(self, of_frames: Sequence[tuple[Scene, SceneTangents]]) -> tuple[Tensor, Tensor]:
        """Photons [P] of every pixel and their tangents [T, P]."""
        pairs = zip(self.renderers, of_frames, strict=True)
        parts = [renderer.columns(scene, dots) for renderer, (scene, dots) in pairs]
        return torch.cat([photons for photons, _ in parts]), torch.cat([columns for _, columns in parts], dim=1)


class Block:
    """A still, or a scan: its experiment, its shoeboxes, and the spots rendered for them.

    ``exposures`` is the spindle range of every frame; ``background`` a kind of
    :func:`refine.frames.shoeboxes.background_columns`.
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
        self.amplitudes: BoxAmplitudes | None = None  # those that are free, where they are
        self._own = tuple(self.renderers.named_parameters())

    def render(self, changes: Mapping[str, Tensor]) -> Tensor:
        """Spots [B, Q], without background, with the model tensors ``changes`` in the place of the experiment's own.

        "scale" in ``changes`` multiplies every spot of the block.
        """
        photons = self.renderers.photons(self._scenes(changes))
        photons = photons * changes["scale"] if "scale" in changes else photons
        return torch.where(self.boxes.valid, photons[self.boxes.position], 0)

    def _scenes(self, changes: Mapping[str, Tensor]) -> list[Scene]:
        """The scene of every frame with ``changes``."""
        # the experiment's own tensors are where it started: no derivative by them is ever asked for
        tensors = {name: value.detach() for name, value in self._own}
        tensors |= {f"experiment.{name}": value for name, value in changes.items() if name != "scale"}
        found: list[Scene] = torch.func.functional_call(self.renderers, tensors, (), tie_weights=False)
        return found

    def model(self, parameters: ParameterSet) -> Tensor:
        """Spots [B, Q] at the current values."""
        with torch.no_grad():
            return self.render(parameters.changes(self.index))

    @torch.no_grad()
    def jacobian(self, parameters: ParameterSet) -> tuple[Tensor, Tensor]:
        """Spots [B, Q] and their derivatives [B, Q, T] by the free parameters that move this block."""
        spots, columns = self.panel_columns(parameters)
        return spots, columns.expanded()

    @torch.no_grad()
    def panel_columns(self, parameters: ParameterSet) -> tuple[Tensor, PanelColumns]:
        """:meth:`jacobian` in as few columns as the panels allow."""
        every = parameters.of_block(self.index)
        amplitudes = self.amplitudes
        place = every if amplitudes is None else amplitudes.others(every)
        values = parameters.values.detach()[place]

        if not place:
            if amplitudes is not None and every:
                return self._with_jvp(parameters)
            none = torch.zeros(*self.boxes.valid.shape, 0, dtype=values.dtype)
            return self.model(parameters), PanelColumns(none, self.boxes.panel, None)

        def derive(free: Tensor) -> list[Scene]:
            return self._scenes(parameters.changes(self.index, free, place))

        of_frames = scenes_and_tangents(derive, values)
        if not serves(of_frames[0][0], self.renderers.settings):
            return self._with_jvp(parameters)
        few, spread = merged([dots for _, dots in of_frames]) or (None, None)
        if few is not None:
            of_frames = [(scene, dots) for (scene, _), dots in zip(of_frames, few, strict=True)]
        if any(dots.number for _, dots in of_frames):
            photons, columns = self.renderers.columns(of_frames)
        else:  # a scale alone
            photons = self.renderers.photons([scene for scene, _ in of_frames])
            columns = photons.new_zeros(len(place), len(photons))
        photons, columns = self._scaled(parameters, place, photons, columns, spread)
        valid = self.boxes.valid
        spots = torch.where(valid, photons[self.boxes.position], 0)
        columns = columns.T.contiguous()[self.boxes.position] * valid[..., None]
        found = PanelColumns(columns, self.boxes.panel, spread)
        if amplitudes is None:
            return spots, found
        by_amplitudes = self._by_amplitudes(parameters, [scene for scene, _ in of_frames], amplitudes)
        return spots, amplitudes.joined(found, by_amplitudes, every, len(self.experiment.detector.config.panels))

    def _with_jvp(self, parameters: ParameterSet) -> tuple[Tensor, PanelColumns]:
        """:meth:`panel_columns` without any saving."""
        spots, columns = self.forward_mode(parameters)
        return spots, PanelColumns(columns, self.boxes.panel, None)

    def find_amplitudes(self, parameters: ParameterSet) -> None:
        """Find out which free amplitudes shine in which boxes, at the current values."""
        factors, of_frames = self.experiment.structure_factors, self._scenes(parameters.changes(self.index))
        pairs = zip(of_frames, self.renderers.renderers, strict=True)
        found = [shining_in(scene, renderer.pixels, factors) for scene, renderer in pairs]
        shining = torch.cat(found)[self.boxes.position]
        shining = torch.where(self.boxes.valid[..., None], shining, -1).flatten(1)
        self.amplitudes = box_amplitudes(shining, parameters)

    def _by_amplitudes(self, parameters: ParameterSet, found: Sequence[Scene], amplitudes: BoxAmplitudes) -> Tensor:
        """Derivatives [B, Q, C] of every box's pixels by the amplitudes that shine in it."""
        table = self.experiment.structure_factors.directions(amplitudes.along)
        _, columns = self.renderers.columns([(scene, SceneTangents(table=table)) for scene in found])
        columns = columns * parameters.changes(self.index).get("scale", 1)
        own = columns.T.contiguous()[self.boxes.position]
        return own * (self.boxes.valid[..., None] & (amplitudes.parameter >= 0)[:, None])

    def _scaled(
        self, parameters: ParameterSet, place: Sequence[int], photons: Tensor, columns: Tensor, spread: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """``photons`` [P] and their ``columns`` [R, P] by the parameters at ``place``, times the block's scale where it
        has one."""
        scale = parameters.changes(self.index).get("scale")
        if scale is None:
            return photons, columns
        # linear, as all that a parameter moves
        entries = [parameters.parameters_[i].entries_of(self.index) for i in place]
        moved = [sum(entry.coefficient for entry in of_one if entry.tensor == "scale") for of_one in entries]
        by_scale = columns.new_tensor(moved)
        by_scale = by_scale if spread is None else spread[0] @ by_scale  # a scale moves no panel: on all the same
        return photons * scale, columns * scale + by_scale[:, None] * photons

    @torch.no_grad()
    def forward_mode(self, parameters: ParameterSet) -> tuple[Tensor, Tensor]:
        """:meth:`jacobian` by PyTorch's forward mode, for any backend, device and mode; several times slower."""
        values = parameters.values.detach()[parameters.of_block(self.index)]

        def spots(free: Tensor) -> Tensor:
            return self.render(parameters.changes(self.index, free))

        def column(direction: Tensor) -> Tensor:
            moved: Tensor = torch.func.jvp(spots, (values,), (direction,))[1]
            return moved

        each = self.boxes.valid.numel() * values.element_size() * 16
        group = max(1, min(len(values), _JACOBIAN_BYTES // each))
        directions = torch.eye(len(values), dtype=values.dtype, device=values.device)
        columns: Tensor = torch.func.vmap(column, chunk_size=group)(directions)
        return self.model(parameters), columns.permute(1, 2, 0)
