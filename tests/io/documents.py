"""Small dxtbx documents for the tests: what dxtbx 3.12 writes, with numbers of our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Document = dict[str, Any]

IDENTITY_FRAME: Document = {"fast_axis": [1, 0, 0], "slow_axis": [0, 1, 0], "origin": [0, 0, 0]}


def panel(name: str, origin: list[float], **changes: Any) -> Document:
    """A 6 × 4 (fast × slow) panel of 0.1 mm pixels in its parent's frame."""
    return {
        "name": name,
        "type": "SENSOR_PAD",
        "fast_axis": [1.0, 0.0, 0.0],
        "slow_axis": [0.0, -1.0, 0.0],
        "origin": origin,
        "raw_image_offset": [0, 0],
        "image_size": [6, 4],
        "pixel_size": [0.1, 0.1],
        "trusted_range": [-1.0, 1000.0],
        "thickness": 0.32,
        "material": "Si",
        "mu": 2.5,
        "identifier": "",
        "mask": [[1, 0, 3, 2]],
        "gain": 1.5,
        "pedestal": 2.0,
        "px_mm_strategy": {"type": "ParallaxCorrectedPxMmStrategy"},
        **changes,
    }


def document(**changes: Any) -> Document:
    """One experiment: a flat one-panel detector, a single-axis goniometer, three frames, a tetragonal crystal."""
    base: Document = {
        "__id__": "ExperimentList",
        "experiment": [
            {
                "__id__": "Experiment",
                "identifier": "abc",
                **dict.fromkeys(("beam", "detector", "goniometer", "scan", "crystal", "imageset"), 0),
            }
        ],
        "imageset": [{"__id__": "ImageSequence", "template": "t_####.cbf", "params": {}}],
        "beam": [
            {
                "direction": [0.0, 0.0, 1.0],
                "wavelength": 1.1,
                "polarization_normal": [0.0, 1.0, 0.0],
                "polarization_fraction": 0.9,
                "flux": 1e12,
            }
        ],
        "detector": [{"panels": [panel("P", [-3.0, 2.0, -100.0])], "hierarchy": group("", [{"panel": 0}])}],
        "goniometer": [
            {
                "rotation_axis": [1.0, 0.0, 0.0],
                "fixed_rotation": [0, -1, 0, 1, 0, 0, 0, 0, 1],
                "setting_rotation": [1, 0, 0, 0, 1, 0, 0, 0, 1],
            }
        ],
        "scan": [{"image_range": [7, 9], "batch_offset": 0, "oscillation": [10.0, 0.5], "epochs": [0, 1, 2]}],
        "crystal": [
            {
                "__id__": "crystal",
                "real_space_a": [40.0, 0.0, 0.0],
                "real_space_b": [0.0, 40.0, 0.0],
                "real_space_c": [0.0, 0.0, 70.0],
                "space_group_hall_symbol": " P 4nw 2abw",
                "B_covariance": [0.0] * 81,
            }
        ],
        "profile": [{"kept": True}],
        "scaling_model": [],
    }
    return {**base, **changes}


def group(name: str, children: list[Document], **frame: Any) -> Document:
    """A node of a detector's hierarchy."""
    return {"name": name, **IDENTITY_FRAME, **frame, "children": children}


def write(folder: Path, content: Document, name: str = "t.expt") -> Path:
    """The document as a file."""
    path = folder / name
    path.write_text(json.dumps(content))
    return path
