"""An experiment and a pixel selection → photons per pixel."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nbtorch.config import Exposure, LatticeSettings, RenderSettings
from nbtorch.functional import background, scaling
from nbtorch.kernels import reference
from nbtorch.models.experiment import Experiment
from nbtorch.render.modes import MODES, Scene, final_factors, running_intensity
from nbtorch.render.pixels import PixelSelection, full_frame
from nbtorch.render.samples import Terms, sample_points

Progress = Callable[[int, int], None]
_RAY_BYTES = 40  # numbers that autograd keeps for one sample and source, counted on the reference
_TERM_BYTES = 24  # and for each of its orientations, where the reference sums them


class Renderer(nn.Module):
    """Renders ``pixels`` (default: the full frame) of ``experiment``: forward returns photons [P].

    Pixels are rendered in blocks of about ``settings.block_bytes``; blocks never change a value. With several blocks
    a backward recomputes each one instead of storing it.
    """

    def __init__(
        self,
        experiment: Experiment,
        pixels: PixelSelection | None = None,
        settings: RenderSettings | None = None,
    ) -> None:
        super().__init__()
        self.experiment = experiment
        self.pixels = full_frame(experiment.detector.config) if pixels is None else pixels
        self.settings = settings or RenderSettings()

    def forward(self, exposure: Exposure | None = None, progress: Progress | None = None) -> Tensor:
        """Photons [P] of every selected pixel.

        exposure: the spindle range, by default the experiment's. progress: called with (pixels done, pixels in all)
        after every block.
        """
        scene = self.scene(exposure)
        pixels = self.pixels.to(scene.basis.device)
        size = self._block_size(scene)
        recompute = len(pixels) > size and torch.is_grad_enabled() and not _transforming()
        blocks = []
        for start in range(0, max(len(pixels), 1), size):
            block = pixels[start : start + size]
            if recompute:
                blocks.append(checkpoint(self._photons, scene, block, use_reentrant=False))
            else:
                blocks.append(self._photons(scene, block))
            if progress is not None:
                progress(min(start + size, len(pixels)), len(pixels))
        return torch.cat(blocks)

    def images(self, exposure: Exposure | None = None, progress: Progress | None = None) -> list[Tensor]:
        """One image [slow, fast] of photons a panel; pixels that are not selected are 0."""
        return self.pixels.images(self(exposure, progress))

    def scene(self, exposure: Exposure | None = None) -> Scene:
        """Everything the pixels share, derived from the parameters as they are now."""
        experiment, settings = self.experiment, self.settings
        crystal, beam, detector = experiment.crystal, experiment.beam, experiment.detector
        exposure = exposure or experiment.exposure
        incident, wavelength, weight = beam.sources()
        basis = crystal.basis(exposure)
        oversample = settings.oversample or self.auto_oversample()
        return Scene(
            panels=detector.panel_frames(),
            beam=beam.frame(),
            wavelength=wavelength,
            source_weight=weight,
            basis=basis,
            n_cells=crystal.n_cells,
            metric=crystal.metric(),
            table=experiment.structure_factors.table(),
            orientation_weight=torch.ones_like(basis[:, 0, 0]),
            background=background.water_intensity(beam.fluence, settings.water),
            fluence=beam.fluence,
            steps=len(incident) * len(basis) * oversample**2,
            rays=detector.ray_settings(polarized=beam.polarized),
            lattice=self._lattice_settings(),
            layers=detector.config.layers,
            oversample=oversample,
        )

    @torch.no_grad()
    def auto_oversample(self) -> int:
        """ceil(3·(largest crystal width)/(λ·distance/d)), at least 1: nanoBragg's own choice."""
        experiment = self.experiment
        widths = experiment.crystal.n_cells * experiment.crystal.cell[:3] * 1e-7  # Å → mm
        frame, pixel = experiment.detector.frames()[0], experiment.detector.pixel_size[0, 0]
        distance = (frame[3] * frame[2]).sum()
        wavelength = experiment.beam.sources()[1][0] * 1e-7
        return max(1, math.ceil(float(3 * widths.max() / (wavelength * distance / pixel))))

    def terms(self, panel: int, slow: int, fast: int, exposure: Exposure | None = None) -> Terms:
        """Every intermediate of one pixel, selected or not, in the order of the sum."""
        scene = self.scene(exposure)
        device = scene.basis.device
        index = [torch.tensor([value], device=device) for value in (panel, slow, fast)]
        pixel = PixelSelection(index[0], index[1], index[2], self.pixels.shapes)
        samples = sample_points(pixel, self.experiment.detector, scene.oversample)
        rays = reference.ray_terms(scene.panels, scene.beam, samples, scene.rays)
        lattice = reference.lattice_terms(
            rays.diffracted,
            scene.beam.incident,
            scene.wavelength,
            scene.basis,
            scene.n_cells,
            scene.metric,
            scene.table,
            scene.lattice,
        )
        capture, polarization, solid_angle = (factor[0] for factor in final_factors(scene, rays, self.settings))
        return Terms(
            frame=scene.panels.frame[panel],
            rays=rays,
            lattice=lattice,
            incident=scene.beam.incident,
            wavelength=scene.wavelength,
            basis=scene.basis,
            reciprocal=self.experiment.crystal.vectors()[1],
            n_cells=scene.n_cells,
            intensity=self._unscaled(scene, rays, lattice),
            capture=capture,
            polarization=polarization,
            solid_angle=solid_angle,
            fluence=scene.fluence,
            steps=scene.steps,
            photons=self._photons(scene, pixel)[0],
        )

    def _unscaled(self, scene: Scene, rays: reference.RayTerms, lattice: reference.LatticeTerms) -> Tensor:
        """I(p) [] of the one pixel of ``rays``."""
        if self.settings.mode == "running":
            return running_intensity(scene, rays, self.settings)[0]
        intensity = reference.lattice_intensities(lattice) @ scene.orientation_weight
        return (intensity * scene.source_weight).sum() + scene.background

    def _photons(self, scene: Scene, pixels: PixelSelection) -> Tensor:
        """Photons [P] of a block: the single normalization step."""
        samples = sample_points(pixels, self.experiment.detector, scene.oversample)
        intensity = MODES[self.settings.mode](scene, samples, self.settings)
        return scaling.photons(intensity, scene.fluence, scene.steps)

    def _lattice_settings(self) -> LatticeSettings:
        settings = self.settings
        return LatticeSettings(
            shape=self.experiment.crystal.config.shape,
            interpolation=settings.interpolation,
            default_F=self.experiment.structure_factors.default_F,
            dmin=settings.dmin,
            precision=settings.precision,
            culling=settings.culling,
            backend=settings.backend,
        )

    def _block_size(self, scene: Scene) -> int:
        """Pixels in a block, so that a block takes about ``block_bytes``."""
        fused = self.settings.backend != "reference" and self.settings.mode != "running"
        numbers = _RAY_BYTES + (0 if fused else _TERM_BYTES * len(scene.basis))
        each = scene.per_pixel * len(scene.wavelength) * numbers * scene.basis.element_size()
        return max(1, self.settings.block_bytes // each)


def _transforming() -> bool:
    """Whether a torch.func transform or forward-mode differentiation runs, which checkpoints do not support."""
    return torch._C._functorch.peek_interpreter_stack() is not None or torch.autograd.forward_ad._current_level >= 0
