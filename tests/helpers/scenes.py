"""Small scenes for the tests of the forward model: one spot on a few pixels, with any mixture of features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from nbtorch.config import (
    BeamConfig,
    CrystalConfig,
    DetectorConfig,
    Exposure,
    GoniometerConfig,
    MosaicConfig,
    PanelConfig,
    PanelGroup,
    PhiSampling,
    RenderSettings,
    Shape,
    SourceConfig,
)
from nbtorch.functional.lattice import TOPHAT_EDGE, radius_squared
from nbtorch.models import Beam, Crystal, Detector, Experiment, StructureFactors
from nbtorch.render import PixelSelection, Renderer, full_frame, pixel_list

FEATURES: dict[str, tuple[object, ...]] = {
    "mode": ("exact", "cached", "running_thick", "running_polar", "running_omega", "running_all"),
    "shape": ("square", "round", "gauss", "tophat", "gauss_hkl"),
    "detector": ("bare", "sensor", "layers", "curved", "point"),
    "beam": ("single", "spread", "sources"),
    "mosaic": ("none", "antithetic", "nanobragg", "anisotropic"),
    "drifts": (False, True),
    "interpolation": ("nearest", "tricubic"),
    "panels": (1, 2),
    "sampling": ("midpoint", "left"),
    "oversample": (1, 2),
    "water": (False, True),
    "polarized": (True, False),
}


@dataclass(frozen=True)
class Features:
    """What a scene passes a parameter through; the names and values are those of ``FEATURES``."""

    mode: str = "exact"
    shape: Shape = "square"
    detector: str = "bare"
    beam: str = "single"
    mosaic: str = "none"
    drifts: bool = False
    interpolation: Literal["nearest", "tricubic"] = "nearest"
    panels: int = 1
    sampling: PhiSampling = "midpoint"
    oversample: int = 1
    water: bool = False
    polarized: bool = True

    def __str__(self) -> str:
        return "-".join(
            [self.mode, self.shape, self.detector, self.beam, f"mosaic_{self.mosaic}", self.interpolation]
            + [f"{self.panels}panels", self.sampling, f"over{self.oversample}"]
            + ["drifts"] * self.drifts
            + ["water"] * self.water
            + ["nopolar"] * (not self.polarized)
        )


RICH = Features(
    shape="round",
    detector="layers",
    beam="spread",
    mosaic="antithetic",
    interpolation="tricubic",
    panels=2,
    oversample=2,
    water=True,
)


def allowed(features: dict[str, object]) -> bool:
    """A point pixel's "solid angle" is about 100, and the running product of hundreds of them overflows."""
    return not (features["detector"] == "point" and features["mode"] in ("running_omega", "running_all"))


def crystal_config(features: Features) -> CrystalConfig:
    mosaic = {
        "none": MosaicConfig(),
        "antithetic": MosaicConfig(3.0, 4),
        "nanobragg": MosaicConfig(3.0, 3, "nanobragg"),
        "anisotropic": MosaicConfig((3.0, 1.5, 4.0), 4),
    }[features.mosaic]
    return CrystalConfig(
        cell=(21.0, 24.0, 27.0, 82.0, 97.0, 104.0),
        orientation=((0.36, 0.48, -0.8), (-0.8, 0.6, 0.0), (0.48, 0.64, 0.6)),
        misset=(3.0, -5.0, 8.0),
        n_cells=(5.0, 4.0, 6.0),
        shape=features.shape,
        fudge=0.4 if features.shape == "tophat" else 1.1,  # wide enough that several pixels lie inside
        mosaic=mosaic,
        goniometer=GoniometerConfig(axis=(0.1, 0.2, 1.0)),
        knots=(19.0, 20.5, 21.0, 24.0) if features.drifts else (),
    )


def beam_config(features: Features) -> BeamConfig:
    config = BeamConfig(
        wavelength=1.0,
        direction=(1.0, 0.02, -0.03),
        polarization_axis=(0.1, 1.0, 0.3),
        kahn_factor=0.7 if features.polarized else None,
    )
    if features.beam == "spread":
        spectrum = ((-0.01, 0.7), (0.01, 1.3))
        return replace(config, spectrum=spectrum, divergence=((-4.0, 3.0, 1.0), (5.0, -2.0, 0.6)))
    if features.beam == "sources":
        directions = ((-1.0, 0.01, 0.02), (-1.0, -0.005, 0.0), (-1.0, 0.0, -0.01))
        weights = (1.0, 0.5, 2.0)
        sources = (
            SourceConfig(d, 0.99 + 0.01 * i, w) for i, (d, w) in enumerate(zip(directions, weights, strict=True))
        )
        return replace(config, sources=tuple(sources))
    return config


def detector_config(features: Features) -> DetectorConfig:
    sensor = features.detector in ("sensor", "layers")
    panel = PanelConfig(
        fast_axis=(0.05, 0.1, 1.0),
        slow_axis=(-0.1, -1.0, 0.08),
        origin=(95.0, 41.0, 22.0),
        pixel_size=(0.6, 0.7),
        size=(18, 16),
        thickness=0.5 if sensor else 0.0,
        attenuation_length=0.4,
    )
    second = replace(panel, name="second", origin=(93.0, 14.0, -50.0), slow_axis=(0.05, -1.0, -0.1))
    arm = PanelGroup("arm", (1,))
    return DetectorConfig(
        panels=(panel, second)[: features.panels],
        hierarchy=PanelGroup("detector", (0,), (arm,)) if features.panels == 2 else None,
        layers=3 if features.detector == "layers" else 1,
        curved=features.detector == "curved",
        point_pixel=features.detector == "point",
    )


def structure_factors(dtype: torch.dtype = torch.float64, device: str | None = None) -> StructureFactors:
    """Five amplitudes shared by every reflection within ±12: few enough to differentiate by hand."""
    index = np.arange(-12, 13)
    hkl = np.stack(np.meshgrid(index, index, index, indexing="ij"), axis=-1).reshape(-1, 3)
    group = hkl @ np.array([1, 2, 3]) % 5
    amplitudes = np.array([60.0, 85.0, 100.0, 120.0, 75.0])
    return StructureFactors(hkl, amplitudes[group], group=group, default_F=10.0, dtype=dtype, device=device)


def experiment(features: Features, dtype: torch.dtype = torch.float64, device: str | None = None) -> Experiment:
    """The experiment of ``features``; two panels form two nested rigid groups."""
    detector = detector_config(features)
    groups = [group for _, group in detector.hierarchy.walk()] if detector.hierarchy else None
    return Experiment(
        Crystal(crystal_config(features), dtype=dtype, device=device),
        Beam(beam_config(features), dtype=dtype, device=device),
        Detector(detector, groups, dtype=dtype, device=device),
        structure_factors(dtype, device),
        Exposure(phi_start=20.0, oscillation=2.0, steps=2, sampling=features.sampling),
    )


def settings(features: Features) -> RenderSettings:
    """Render settings on the reference backend, which is the definition."""
    name, _, which = features.mode.partition("_")
    running = {f"running_{flag}": which in (flag, "all") for flag in ("thick", "polar", "omega")}
    return RenderSettings(
        mode=name,  # type: ignore[arg-type]  # one of the three, by FEATURES
        oversample=features.oversample,
        interpolation=features.interpolation,
        water=2e-5 if features.water else 0.0,
        backend="reference",
        **running,
    )


AROUND = ((0, 0), (0, 1), (1, 0), (-1, -1), (1, -1), (-1, 1))  # (slow, fast) from the brightest pixel


def spot_pixels(scene: Experiment, count: int = 6) -> PixelSelection:
    """``count`` pixels in all, shared between the panels, on and beside the brightest spot of each."""
    config = scene.detector.config
    with torch.no_grad():
        images = Renderer(scene, full_frame(config), RenderSettings(backend="reference")).images()
    chosen = []
    for panel, image in enumerate(images):
        # away from the edge, so that the neighbours are there
        inner = image[1:-1, 1:-1]
        slow, fast = divmod(int(inner.argmax()), inner.shape[1])
        here = AROUND[: count // len(images)]
        chosen += [(panel, slow + 1 + down, fast + 1 + along) for down, along in here]
    index = torch.tensor(chosen)
    return pixel_list(config, index[:, 0], index[:, 1], index[:, 2])


CLEAR = 5e-5  # in h: more than the 3e-5 that gradcheck's steps of 1e-6 move a sample


def kink_distance(renderer: Renderer) -> float:
    """How far (in h) the nearest sample of the image is from a place where the image has no derivative.

    Halfway between reflections the nearest one changes; at whole indices the slope of the tricubic table does; the
    edge of the top hat is a step.
    """
    found, pixels = [], renderer.pixels
    for panel, slow, fast in zip(pixels.panel, pixels.slow, pixels.fast, strict=True):
        terms = renderer.terms(int(panel), int(slow), int(fast)).lattice
        offset = terms.hkl - terms.nearest
        found.append((0.5 - offset.abs()).abs().min())
        if renderer.settings.interpolation == "tricubic":
            found.append(offset.abs().min())
        if renderer.experiment.crystal.config.shape == "tophat":
            inside = radius_squared(offset, renderer.scene().metric)
            found.append((torch.sqrt(inside) - TOPHAT_EDGE**0.5).abs().min() / 5)  # 5 cells: radius is 5 in h
    return float(torch.stack(found).min())


def spot(features: Features, count: int = 6) -> Renderer:
    """A renderer of ``count`` pixels on a spot of the scene with ``features``, in float64, away from every kink."""
    with torch.no_grad():
        for nudge in range(100):
            scene = experiment(features)
            scene.crystal.misset += 0.01 * nudge
            renderer = Renderer(scene, spot_pixels(scene, count), settings(features))
            if kink_distance(renderer) > CLEAR:
                return renderer
    raise AssertionError(f"no scene clear of kinks: {features}")
