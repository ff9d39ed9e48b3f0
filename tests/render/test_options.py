"""Every option changes the image, changes only the cost, or is refused: one that does nothing is a bug."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from nbtorch.config import (
    BeamConfig,
    CrystalConfig,
    DetectorConfig,
    Exposure,
    GoniometerConfig,
    MosaicConfig,
    PanelConfig,
    PanelGroup,
    RenderSettings,
    SourceConfig,
)
from nbtorch.errors import NbtorchError
from nbtorch.models import Experiment
from nbtorch.render import Renderer
from tests.helpers.scenes import Features, beam_config, crystal_config, detector_config, structure_factors

TURN = ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
SENSOR = Features(detector="layers", shape="round", mosaic="nanobragg")
PANEL = detector_config(SENSOR).panels[0]


@dataclass(frozen=True)
class Stated:
    """Everything that a user states about one image."""

    crystal: CrystalConfig = field(default_factory=lambda: crystal_config(SENSOR))
    beam: BeamConfig = field(default_factory=lambda: beam_config(SENSOR))
    detector: DetectorConfig = field(default_factory=lambda: detector_config(SENSOR))
    exposure: Exposure = field(default_factory=lambda: Exposure(20.0, 2.0, 2))
    settings: RenderSettings = field(default_factory=lambda: RenderSettings(backend="reference"))

    def experiment(self) -> Experiment:
        return Experiment.from_config(self.crystal, self.beam, self.detector, structure_factors(), self.exposure)

    def image(self) -> Tensor:
        with torch.no_grad():
            return torch.cat([p.reshape(-1) for p in Renderer(self.experiment(), settings=self.settings).images()])


START = Stated()
# (which config, what must be set for the option to have something to act on, the option)
CHANGES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("settings", {}, {"mode": "cached"}),
    ("settings", {}, {"oversample": 2}),
    ("settings", {"mode": "running"}, {"running_thick": True}),
    ("settings", {"mode": "running"}, {"running_polar": True}),
    ("settings", {"mode": "running"}, {"running_omega": True}),
    ("settings", {}, {"interpolation": "tricubic"}),
    ("settings", {}, {"dmin": 2.2}),
    ("settings", {}, {"water": 1e-4}),
    ("exposure", {}, {"phi_start": 20.5}),
    ("exposure", {}, {"oscillation": 3.0}),
    ("exposure", {}, {"steps": 3}),
    ("exposure", {}, {"sampling": "left"}),
    ("exposure", {"phi_start": -1.0, "sampling": "left"}, {"reuse_stale_at_zero": True}),
    ("detector", {}, {"panels": (replace(PANEL, origin=(95.5, 41.0, 22.0)),)}),
    ("detector", {}, {"layers": 2}),
    ("detector", {}, {"curved": True}),
    ("detector", {"curved": True}, {"curved_distance": 90.0}),
    ("detector", {}, {"point_pixel": True}),
    ("detector", {}, {"layer_step": 0.25}),
    ("beam", {}, {"wavelength": 1.01}),
    ("beam", {}, {"direction": (1.0, 0.03, 0.0)}),
    ("beam", {}, {"polarization_axis": (0.5, 0.2, 1.0)}),
    ("beam", {}, {"kahn_factor": 0.2}),
    ("beam", {}, {"kahn_factor": None}),
    ("beam", {}, {"fluence": 1e28}),
    ("beam", {}, {"spectrum": ((0.0, 1.0), (0.02, 1.0))}),
    ("beam", {"spectrum": ((0.0, 1.0), (0.02, 1.0))}, {"spectrum": ((0.0, 1.0), (0.02, 3.0))}),
    ("beam", {}, {"divergence": ((0.0, 0.0, 1.0), (3.0, 0.0, 1.0))}),
    ("beam", {}, {"divergence": ((0.0, 2.0, 1.0),)}),
    ("beam", {}, {"sources": (SourceConfig((-1.0, 0.0, 0.0), 1.0),)}),
    ("crystal", {}, {"cell": (21.0, 24.0, 27.0, 82.0, 97.0, 103.0)}),
    ("crystal", {}, {"orientation": TURN}),
    ("crystal", {}, {"misset": (3.0, -5.0, 9.0)}),
    ("crystal", {}, {"n_cells": (5.0, 5.0, 6.0)}),
    ("crystal", {}, {"shape": "gauss"}),
    ("crystal", {}, {"fudge": 1.5}),
    ("crystal", {}, {"mosaic": MosaicConfig(2.0, 3, "nanobragg")}),
    ("crystal", {}, {"mosaic": MosaicConfig(3.0, 4, "nanobragg")}),
    ("crystal", {}, {"mosaic": MosaicConfig(3.0, 3)}),
    ("crystal", {}, {"mosaic": MosaicConfig(3.0, 3, "nanobragg", seed=7)}),
    ("crystal", {}, {"goniometer": GoniometerConfig((0.2, 0.2, 1.0))}),
    ("crystal", {}, {"goniometer": GoniometerConfig((0.1, 0.2, 1.0), fixed_rotation=TURN)}),
    ("crystal", {}, {"goniometer": GoniometerConfig((0.1, 0.2, 1.0), setting_rotation=TURN)}),
    ("crystal", {}, {"construction": "nanobragg"}),
]
#: What decides how an image is computed, and not what it shows.
COST = {"settings": {"precision", "culling", "backend", "block_bytes"}}
#: What is not of the image: who uses it instead.
ELSEWHERE = {
    "settings": dict.fromkeys(
        ("averaging", "relinearize", "pixel_box"),
        "the closed form's, of Gaussian crystals alone: tests/render/test_closed.py changes each",
    ),
    "crystal": {
        "space_group": "amplitudes are checked and expanded with it; an .expt is written with it",
        "scan_points": "carried from one .expt to the next",
        "knots": "where the parameters of a drift stand, which start at zero: tests/models/test_crystal.py moves them",
    },
    "detector": {"hierarchy": "groups of panels that a refinement moves: see the test below"},
}


@pytest.mark.parametrize(
    ("which", "start", "changed"), CHANGES, ids=[f"{w}-{'-'.join(c)}-{i}" for i, (w, _, c) in enumerate(CHANGES)]
)
def test_option_changes_the_image(which: str, start: dict[str, Any], changed: dict[str, Any]) -> None:
    stated = replace(getattr(START, which), **start)
    before = replace(START, **{which: stated}).image()
    after = replace(START, **{which: replace(stated, **changed)}).image()
    # more than any rounding would
    assert float((before - after).abs().max()) > 1e-6 * float(before.max())


@pytest.mark.parametrize("which", [f.name for f in fields(Stated)])
def test_no_option_is_left_out(which: str) -> None:
    tested = {name for kind, _, changed in CHANGES if kind == which for name in changed}
    known = tested | COST.get(which, set()) | set(ELSEWHERE.get(which, {}))
    assert known == {f.name for f in fields(getattr(START, which))}


@pytest.mark.parametrize("panel", [{"thickness": 0.4}, {"attenuation_length": 0.5}, {"pixel_size": (0.61, 0.7)}])
@pytest.mark.parametrize("mode", ["exact", "cached"])
def test_property_of_a_panel_changes_the_image(panel: dict[str, Any], mode: str) -> None:
    moved = replace(START.detector, panels=(replace(PANEL, **panel),))
    settings = replace(START.settings, mode=mode)
    before, after = (replace(START, detector=d, settings=settings).image() for d in (START.detector, moved))
    assert float((before - after).abs().max()) > 1e-3 * float(before.max())


def test_hierarchy_says_what_a_shift_of_the_detector_moves() -> None:
    both = replace(START.detector, panels=(PANEL, replace(PANEL, name="second", origin=(93.0, 14.0, -50.0))))
    moves = []
    for hierarchy in (None, PanelGroup("one", (0,))):
        scene = replace(START, detector=replace(both, hierarchy=hierarchy)).experiment()
        with torch.no_grad():
            before = scene.detector.frames()
            scene.detector.shift[0, 0] = 1.0
            moves.append([bool((a != b).any()) for a, b in zip(before, scene.detector.frames(), strict=True)])
    assert moves == [[True, True], [True, False]]


def test_automatic_oversampling_follows_the_size_of_the_crystal() -> None:
    """ceil(3·(largest crystal width)/(λ·distance/d)) (docs/physics.md §4)."""
    for n in (5.0, 1e3):
        crystal = replace(START.crystal, n_cells=(n, 4.0, 6.0))
        renderer = Renderer(replace(START, crystal=crystal).experiment(), settings=RenderSettings(oversample=None))
        with torch.no_grad():
            frame = renderer.experiment.detector.frames()[0]
            distance = float(frame[3] @ frame[2])  # mm
        width = max(21.0 * n, 24.0 * 4, 27.0 * 6)  # Å
        assert renderer.auto_oversample() == math.ceil(3 * width / (1.0 * distance / 0.6))
        assert renderer.scene().oversample == renderer.auto_oversample()
    tiny = replace(START, beam=replace(START.beam, wavelength=50.0))
    assert Renderer(tiny.experiment()).auto_oversample() == 1


REFUSED: list[tuple[type, dict[str, Any], str]] = [
    (RenderSettings, {"mode": "fast"}, "exact, cached, running"),
    (RenderSettings, {"interpolation": "linear"}, "nearest, tricubic"),
    (RenderSettings, {"precision": "half"}, "auto, double, fast"),
    (RenderSettings, {"backend": "cuda"}, "auto, reference, native"),
    (RenderSettings, {"oversample": 0}, "more than zero"),
    (RenderSettings, {"dmin": -1.0}, "zero or more"),
    (RenderSettings, {"water": -1.0}, "zero or more"),
    (RenderSettings, {"culling": -1.0}, "zero or more"),
    (RenderSettings, {"block_bytes": 0}, "more than zero"),
    (RenderSettings, {"running_thick": True}, "only the running sum"),
    (RenderSettings, {"mode": "cached", "running_polar": True}, "only the running sum"),
    (RenderSettings, {"mode": "exact", "running_omega": True}, "only the running sum"),
    (Exposure, {"steps": 0}, "more than zero"),
    (Exposure, {"sampling": "right"}, "midpoint, left"),
    (DetectorConfig, {"panels": ()}, "no panel"),
    (DetectorConfig, {"panels": (PANEL,), "layers": 0}, "more than zero"),
    (DetectorConfig, {"panels": (PANEL,), "layer_step": 0.0}, "more than zero"),
    (DetectorConfig, {"panels": (replace(PANEL, thickness=0.0),), "layers": 2}, "no sensor to slice"),
    (DetectorConfig, {"panels": (replace(PANEL, thickness=0.0),), "layer_step": 0.1}, "no sensor to slice"),
    (DetectorConfig, {"panels": (PANEL,), "curved_distance": 90.0}, "nothing is bent"),
    (BeamConfig, {"wavelength": 0.0}, "more than zero"),
    (BeamConfig, {"wavelength": 1.0, "fluence": -1.0}, "zero or more"),
    (BeamConfig, {"wavelength": 1.0, "kahn_factor": 1.5}, "outside"),
    (BeamConfig, {"wavelength": 1.0, "direction": (0.0, 0.0, 0.0)}, "non-zero length"),
    (SourceConfig, {"direction": (0.0, 0.0, 0.0), "wavelength": 1.0}, "non-zero length"),
    (SourceConfig, {"direction": (1.0, 0.0, 0.0), "wavelength": 0.0}, "more than zero"),
    (MosaicConfig, {"spread": 0.5}, "one domain cannot spread"),
    (MosaicConfig, {"spread": 0.5, "domains": 4, "seed": 7}, "draws nothing"),
    (MosaicConfig, {"kind": "gauss"}, "antithetic, nanobragg"),
    (GoniometerConfig, {"axis": (0.0, 0.0, 0.0)}, "non-zero length"),
    (CrystalConfig, {"cell": (10.0, 10.0, 10.0, 10.0, 10.0, 30.0)}, "no volume"),
    (CrystalConfig, {"cell": (-10.0, 10.0, 10.0, 90.0, 90.0, 90.0)}, "more than zero"),
    (CrystalConfig, {"cell": (9.0, 9.0, 9.0, 90.0, 90.0, 90.0), "shape": "cube"}, "square, round"),
    (CrystalConfig, {"cell": (9.0, 9.0, 9.0, 90.0, 90.0, 90.0), "construction": "old"}, "exact, nanobragg"),
    (CrystalConfig, {"cell": (9.0, 9.0, 9.0, 90.0, 90.0, 90.0), "n_cells": (0.0, 1.0, 1.0)}, "more than zero"),
]


@pytest.mark.parametrize(("kind", "given", "message"), REFUSED, ids=[f"{k.__name__}-{g}" for k, g, _ in REFUSED])
def test_option_that_cannot_act_is_refused(kind: type, given: dict[str, Any], message: str) -> None:
    with pytest.raises(NbtorchError, match=message):
        kind(**given)


@pytest.mark.parametrize("panel", [{"attenuation_length": 0.0}, {"thickness": -1.0}, {"slow_axis": (0.1, 0.2, 2.0)}])
def test_panel_that_cannot_be_is_refused(panel: dict[str, Any]) -> None:
    with pytest.raises(NbtorchError):
        replace(PanelConfig((0.05, 0.1, 1.0), (0.0, -1.0, 0.0), (90.0, 0.0, 0.0), (0.1, 0.1), (5, 5)), **panel)


@pytest.mark.parametrize(
    "cost", [{"backend": "auto"}, {"culling": 0.0, "backend": "auto"}, {"block_bytes": 1}, {"precision": "double"}]
)
@pytest.mark.parametrize("shape", ["square", "gauss_hkl"])
def test_option_about_cost_keeps_the_image(cost: dict[str, Any], shape: str) -> None:
    base = replace(START, crystal=replace(START.crystal, shape=shape))
    expected, found = base.image(), replace(base, settings=replace(base.settings, **cost)).image()
    # of the peak: culling drops terms under 1e-10 of it; worst seen 4.7e-13
    assert float((expected - found).abs().max()) < 1e-11 * float(expected.max())
