"""The JSON of an experiment list, as dxtbx writes it, from nbtorch's own models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nbtorch.config import BeamConfig, DetectorConfig, GoniometerConfig, PanelConfig, ScanConfig
from nbtorch.io.frames import FrameRef
from nbtorch.io.geometry.types import HeaderGeometry

Model = dict[str, Any]
#: Two headers agree where their numbers do to this, relative to the largest of a vector: they round to 6 digits.
AGREE = 1e-6


def alike(one: Any, other: Any) -> bool:
    """Whether two models agree to the digits of a header."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (int, float)):
        return one == other or bool(abs(one - other) <= AGREE * max(1.0, abs(one), abs(other)))
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(alike(a, b) for a, b in zip(one, other, strict=True))
    if hasattr(one, "__dataclass_fields__"):
        return all(alike(getattr(one, name), getattr(other, name)) for name in one.__dataclass_fields__)
    return bool(one == other)


class Document:
    """The JSON of an experiment list, in which equal models stand once."""

    def __init__(self) -> None:
        self.models: dict[str, Any] = {"__id__": "ExperimentList", "experiment": []}
        self.models |= {
            kind: [] for kind in ("imageset", "beam", "detector", "goniometer", "scan", "crystal", "profile")
        }
        self._known: dict[str, list[Any]] = {"beam": [], "detector": [], "goniometer": []}

    def add(self, geometry: HeaderGeometry, frames: Sequence[FrameRef], first_image: int) -> None:
        """One experiment: ``frames`` of one ``geometry``; the first has number ``first_image``."""
        node: Model = {"__id__": "Experiment", "identifier": ""}
        node["beam"] = self._place("beam", geometry.beam, _beam)
        node["detector"] = self._place("detector", geometry.detector, _detector)
        if geometry.goniometer is not None and geometry.scan is not None:
            node["goniometer"] = self._place("goniometer", geometry.goniometer, _goniometer)
            node["scan"] = len(self.models["scan"])
            self.models["scan"].append(_scan(geometry.scan, first_image))
        node["imageset"] = len(self.models["imageset"])
        self.models["imageset"].append(_imageset(frames, geometry.scan))
        self.models["experiment"].append(node)

    def _place(self, kind: str, config: Any, make: Any) -> int:
        for index, known in enumerate(self._known[kind]):
            if alike(known, config):
                return index
        self._known[kind].append(config)
        self.models[kind].append(make(config))
        return len(self.models[kind]) - 1


def _beam(beam: BeamConfig) -> Model:
    travel = np.asarray(beam.direction) / np.linalg.norm(beam.direction)
    normal = np.cross(travel, beam.polarization_axis)
    return {
        "__id__": "monochromatic",
        "direction": (0.0 - travel).tolist(),
        "wavelength": beam.wavelength,
        "polarization_normal": normal.tolist(),
        "polarization_fraction": (1.0 + (beam.kahn_factor or 0.0)) / 2.0,
    }


def _detector(detector: DetectorConfig) -> Model:
    tree = {"name": "", "type": "", "fast_axis": [1.0, 0.0, 0.0], "slow_axis": [0.0, 1.0, 0.0], "origin": [0.0] * 3}
    children = [{"panel": index} for index in range(len(detector.panels))]
    return {"panels": [_panel(panel) for panel in detector.panels], "hierarchy": {**tree, "children": children}}


def _panel(panel: PanelConfig) -> Model:
    thick = panel.thickness > 0 and np.isfinite(panel.attenuation_length)
    low, high = panel.trusted_range
    strategy = {"type": "ParallaxCorrectedPxMmStrategy" if thick else "SimplePxMmStrategy"}
    return {
        "name": panel.name, "type": "SENSOR_UNKNOWN", "identifier": "",
        "fast_axis": list(panel.fast_axis), "slow_axis": list(panel.slow_axis), "origin": list(panel.origin),
        "raw_image_offset": list(panel.raw_image_offset), "image_size": list(panel.size),
        "pixel_size": list(panel.pixel_size),
        # JSON has no infinity: a range without an end goes to the largest count that 32 bits hold
        "trusted_range": [float(max(low, -(2.0**31))), float(min(high, 2.0**32))],
        "thickness": panel.thickness, "material": panel.material,
        "mu": 1.0 / panel.attenuation_length if thick else 0.0,
        "mask": [list(rectangle) for rectangle in panel.mask], "gain": panel.gain, "pedestal": panel.pedestal,
        "px_mm_strategy": strategy,
    }  # fmt: skip


def _goniometer(goniometer: GoniometerConfig) -> Model:
    return {
        "rotation_axis": list(goniometer.axis),
        "fixed_rotation": [x for row in goniometer.fixed_rotation for x in row],
        "setting_rotation": [x for row in goniometer.setting_rotation for x in row],
    }


def _scan(scan: ScanConfig, first: int) -> Model:
    count = scan.n_frames
    return {
        "image_range": [first, first + count - 1],
        "batch_offset": 0,
        "oscillation": [scan.phi_start, scan.oscillation],
        "exposure_time": [0.0] * count,
        "epochs": [0.0] * count,
        "valid_image_ranges": {},
    }


def _imageset(frames: Sequence[FrameRef], scan: ScanConfig | None) -> Model:
    """The frames: those of a rotation by a template, as dxtbx has them, others one by one."""
    node: Model = {"__id__": "ImageSet", **dict.fromkeys(("mask", "gain", "pedestal", "dx", "dy"), ""), "params": {}}
    if any(frame.index is not None for frame in frames):
        node["single_file_indices"] = [frame.index or 0 for frame in frames]
    path = frames[0].path.absolute()
    name = numbered(path)
    if scan is not None and "single_file_indices" in node:
        return {**node, "__id__": "ImageSequence", "template": str(path)}
    if scan is not None and name.digits:
        template = f"{name.before}{'#' * name.digits}{name.after}"
        return {**node, "__id__": "ImageSequence", "template": str(path.parent / template)}
    return {**node, "images": [str(frame.path.absolute()) for frame in frames]}


class Numbered(NamedTuple):
    """A file's name about its number: ``digits`` is how many it is written with, 0 where there is none."""

    before: str
    number: int
    digits: int
    after: str


def numbered(path: Path) -> Numbered:
    """The name of ``path`` about the last number in it, its suffix apart (run1_0007.cbf.gz, lyso.007)."""
    bare = re.sub(r"\.(gz|bz2)$", "", path.name)
    stem, dot, suffix = bare.rpartition(".")
    places = list(re.finditer(r"\d{1,9}", stem if dot and not suffix.isdigit() else bare))
    if not places:
        return Numbered(path.name, 1, 0, "")
    start, end = places[-1].span()
    return Numbered(path.name[:start], int(places[-1][0]), end - start, path.name[end:])
