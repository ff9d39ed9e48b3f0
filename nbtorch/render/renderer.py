"""An experiment and a pixel selection → photons per pixel."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nbtorch.config import Exposure, RenderSettings
from nbtorch.errors import ConfigError
from nbtorch.functional import scaling
from nbtorch.kernels import profile_reference, reference
from nbtorch.kernels.direct import transforming
from nbtorch.kernels.dispatch import uses_native
from nbtorch.kernels.profile_reference import ProfileTerms
from nbtorch.models.experiment import Experiment
from nbtorch.render.modes import MODES, final_factors, running_intensity, with_background
from nbtorch.render.pixels import PixelSelection, full_frame
from nbtorch.render.samples import Terms
from nbtorch.render.scene import Scene, auto_oversample, scenes
from nbtorch.render.tangents import SceneTangents, intensity_and_tangents, scene_tensors

Progress = Callable[[int, int], None]
_NATIVE_BYTES = 96  # of one sample, with its gradient, where the C kernels serve; they take float64
_NATIVE_SOURCE_BYTES = 40  # and of each of its sources
_FUSED_BYTES = 48  # of one pixel, where its samples are not kept
_SHOWN = 2 * 10**7  # lattice terms between two calls of a progress function: a fraction of a second
_RAY_NUMBERS = 40  # that autograd keeps for one sample and source, counted on the reference
_PROFILE_NUMBERS = 500  # of one reflection in closed form, with its gradient
_LIT_SHARE = 0.2  # of the samples that have light, where only they are computed
_TERM_NUMBERS = 24  # and for each of its orientations, where the reference sums them


class Renderer(nn.Module):
    """Renders ``pixels`` (default: the full frame) of ``experiment``: forward returns photons [P].

    Pixels are rendered in blocks of about ``settings.block_bytes``; blocks never change a value. Nothing is stored of a
    sample for the backward: the C kernels recompute it, and where they do not serve every one of several blocks is.
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
        return self.render(self.scene(exposure), progress)

    def render(self, scene: Scene, progress: Progress | None = None) -> Tensor:
        """Photons [P] of every selected pixel in ``scene``, which frames of one scan derive together."""
        pixels = self.pixels.to(scene.basis.device)
        size = self._block_size(scene)
        if progress is not None:
            size = min(size, max(1, _SHOWN // (scene.per_pixel * len(scene.wavelength) * len(scene.basis))))
        stores = not self._fused(scene) and torch.is_grad_enabled() and not transforming()
        recompute = len(pixels) > size and stores
        blocks = []
        for start in range(0, max(len(pixels), 1), size):
            block = pixels[start : start + size]
            if recompute:
                blocks.append(checkpoint(self._photons, scene, block, use_reentrant=False, preserve_rng_state=False))
            else:
                blocks.append(self._photons(scene, block))
            if progress is not None:
                progress(min(start + size, len(pixels)), len(pixels))
        return torch.cat(blocks) if len(blocks) > 1 else blocks[0]

    def images(self, exposure: Exposure | None = None, progress: Progress | None = None) -> list[Tensor]:
        """One image [slow, fast] of photons a panel; pixels that are not selected are 0."""
        return self.pixels.images(self(exposure, progress))

    def scene(self, exposure: Exposure | None = None) -> Scene:
        """Everything the pixels share, derived from the parameters as they are now."""
        return scenes(self.experiment, self.settings, [exposure or self.experiment.exposure])[0]

    def auto_oversample(self) -> int:
        """The oversampling that ``settings.oversample`` None stands for."""
        return auto_oversample(self.experiment)

    def terms(self, panel: int, slow: int, fast: int, exposure: Exposure | None = None) -> Terms:
        """Every intermediate of one pixel, selected or not, in the order of the sum."""
        scene = self.scene(exposure)
        if scene.profile is not None:
            raise ConfigError("terms with averaging='closed'", "it has no samples to list", "Use profile_terms")
        device = scene.basis.device
        index = [torch.tensor([value], device=device) for value in (panel, slow, fast)]
        pixel = PixelSelection(index[0], index[1], index[2], self.pixels.shapes)
        samples = scene.samples_of(pixel)
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

    def profile_terms(self, panel: int, slow: int, fast: int, exposure: Exposure | None = None) -> ProfileTerms:
        """Every intermediate of one pixel in closed form. Raises ConfigError where samples are summed."""
        scene = self.scene(exposure)
        if scene.profile is None or scene.closed is None:
            raise ConfigError("profile_terms with averaging='sampled'", "it has samples to list", "Use terms")
        index = [torch.tensor([value], device=scene.basis.device) for value in (panel, slow, fast)]
        pixel = PixelSelection(index[0], index[1], index[2], self.pixels.shapes)
        samples = scene.samples_of(pixel).listed()
        position = reference.ray_terms(scene.panels, scene.beam, samples, scene.rays).position
        spread = profile_reference.place_covariance(scene.panels, samples.panel, scene.profile.pixel)
        return profile_reference.profile_terms(position, spread, scene.beam.incident, scene.profile, scene.closed)

    def _unscaled(self, scene: Scene, rays: reference.RayTerms, lattice: reference.LatticeTerms) -> Tensor:
        """I(p) [] of the one pixel of ``rays``."""
        if self.settings.mode == "running":
            return running_intensity(scene, rays, self.settings)[0]
        intensity = reference.lattice_intensities(lattice) @ scene.orientation_weight
        return with_background(scene, (intensity * scene.source_weight).sum())

    @torch.no_grad()
    def columns(self, scene: Scene, dots: SceneTangents) -> tuple[Tensor, Tensor]:
        """Photons [P] and their tangents [T, P] along T tangents ``dots`` of ``scene``; mode "exact" alone.

        Not differentiable. Raises ConfigError in another mode.
        """
        pixels, many = self.pixels.to(scene.basis.device), 1 + dots.number
        size = max(1, self._block_size(scene) // many)
        starts = range(0, max(len(pixels), 1), size)
        blocks = [self._photons(scene, pixels[start : start + size], dots) for start in starts]
        return torch.cat([block[0] for block in blocks]), torch.cat([block[1:] for block in blocks], dim=1)

    def _photons(self, scene: Scene, pixels: PixelSelection, dots: SceneTangents | None = None) -> Tensor:
        """Photons [P] of a block, with ``dots`` [1 + T, P] with their tangents: the single normalization step."""
        samples = scene.samples_of(pixels)
        if dots is None:
            intensity = MODES[self.settings.mode](scene, samples, self.settings)
        else:
            intensity = intensity_and_tangents(scene, samples, dots, self.settings)
        return scaling.photons(intensity, scene.fluence, scene.steps)

    def _block_size(self, scene: Scene) -> int:
        """Pixels in a block, so that a block takes about ``block_bytes``."""
        samples, sources = scene.per_pixel, len(scene.wavelength)
        if self._fused(scene):
            return max(1, self.settings.block_bytes // _FUSED_BYTES)
        tensors = [tensor for tensor in scene_tensors(scene) if tensor is not None]
        if scene.closed is not None:
            reflections = math.prod(2 * n + 1 for n in scene.closed.reach)
            numbers = _PROFILE_NUMBERS * (1 if self.settings.backend == "reference" else _LIT_SHARE)
            terms = samples * sources * len(scene.basis) * reflections
            each = max(1, int(terms * numbers)) * scene.basis.element_size()
        elif self.settings.mode != "running" and uses_native(self.settings.backend, tensors):
            each = samples * (_NATIVE_BYTES + _NATIVE_SOURCE_BYTES * sources)
        else:
            of_terms = _TERM_NUMBERS * len(scene.basis)
            each = samples * sources * (_RAY_NUMBERS + of_terms) * scene.basis.element_size()
        return max(1, self.settings.block_bytes // each)

    def _fused(self, scene: Scene) -> bool:
        """Whether nothing is kept of a sample, so that pixels alone take memory."""
        return self.settings.mode == "exact" and scene.background is None and scene.fused
