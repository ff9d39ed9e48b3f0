"""A small simulated measurement on disk that fits in seconds: three frames of a scan on a 160 × 160 detector."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nbtorch.config import RenderSettings
from nbtorch.io import read_expt, write_cbf
from nbtorch.io.expt import ExperimentEntry
from nbtorch.models import Beam, Crystal, Detector, Experiment, StructureFactors
from nbtorch.render import Renderer
from nbtorch.units import CLASSICAL_ELECTRON_RADIUS_SQUARED

SIZE, PIXEL, DISTANCE = 160, 0.2, 45.0
CELL = (23.0, 27.0, 31.0, 90.0, 90.0, 90.0)
FRAMES, OSCILLATION = 3, 0.6
N_CELLS = (12.0, 11.0, 9.0)
SHIFT, TILT, MISSET = (0.15, -0.12, 0.2), (0.2, -0.1, 0.0), (0.05, 0.04, -0.06)
BACKGROUND, STRONGEST = 0.5, 4000.0


def document(template: str = "small_###.cbf") -> dict[str, Any]:
    """start.expt as dxtbx writes it."""
    half, identity = SIZE * PIXEL / 2, np.eye(3).ravel().tolist()
    panel = {
        "name": "Panel",
        "type": "SENSOR_PAD",
        "fast_axis": [1.0, 0.0, 0.0],
        "slow_axis": [0.0, -1.0, 0.0],
        "origin": [-half, half, -DISTANCE],
        "raw_image_offset": [0, 0],
        "image_size": [SIZE, SIZE],
        "pixel_size": [PIXEL, PIXEL],
        "trusted_range": [-1.0, 1e6],
        "thickness": 0.0,
        "material": "",
        "mu": 0.0,
        "identifier": "",
        "mask": [],
        "gain": 1.0,
        "pedestal": 0.0,
        "px_mm_strategy": {"type": "SimplePxMmStrategy"},
    }
    c, s = np.cos(0.6), np.sin(0.6)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    rows = np.diag(CELL[:3]) @ turn.T
    return {
        "__id__": "ExperimentList",
        "experiment": [
            {"__id__": "Experiment", "identifier": ""}
            | dict.fromkeys(("beam", "detector", "goniometer", "scan", "crystal", "imageset"), 0)
        ],
        "imageset": [{"__id__": "ImageSequence", "template": template}],
        "beam": [
            {
                "direction": [0.0, 0.0, 1.0],
                "wavelength": 1.0,
                "polarization_normal": [0.0, 1.0, 0.0],
                "polarization_fraction": 0.99,
            }
        ],
        "detector": [{"panels": [panel], "hierarchy": {"name": "", "children": [{"panel": 0}]}}],
        "goniometer": [{"rotation_axis": [1.0, 0.0, 0.0], "fixed_rotation": identity, "setting_rotation": identity}],
        "scan": [
            {
                "image_range": [1, FRAMES],
                "batch_offset": 0,
                "oscillation": [0.0, OSCILLATION],
                "exposure_time": [1.0] * FRAMES,
                "epochs": [0.0] * FRAMES,
            }
        ],
        "crystal": [
            {
                "__id__": "crystal",
                "real_space_a": rows[0].tolist(),
                "real_space_b": rows[1].tolist(),
                "real_space_c": rows[2].tolist(),
                "space_group_hall_symbol": " P 2 2",
            }
        ],
    }


def write(folder: Path, *, oversample: int = 3) -> Path:
    """Write start.expt, F.hkl and the frames into ``folder``; the path of start.expt."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "start.expt"
    path.write_text(json.dumps(document()))
    rng = np.random.default_rng(11)
    factors = write_amplitudes(folder, rng)
    entry = read_expt(path)[0]
    assert entry.scan is not None
    renderer = Renderer(true_experiment(entry, factors), settings=RenderSettings(oversample=oversample))
    with torch.no_grad():
        images = [renderer.images(entry.scan.exposure(frame, 8))[0].numpy() for frame in range(FRAMES)]
    scale = STRONGEST / max(float(image.max()) for image in images)
    for number, image in enumerate(images, 1):
        write_cbf(folder / f"small_{number:03d}.cbf", rng.poisson(scale * image + BACKGROUND).astype(np.int32))
    return path


def write_stills(folder: Path, count: int = 3) -> Path:
    """The same detector behind ``count`` stills of as many crystals, each misset from start.expt by MISSET."""
    folder.mkdir(parents=True, exist_ok=True)
    path, given = folder / "start.expt", document()
    names = ("real_space_a", "real_space_b", "real_space_c")
    rows = np.array([given["crystal"][0][name] for name in names])
    given |= {"goniometer": [], "scan": [], "crystal": [], "imageset": [], "experiment": []}
    for number in range(count):
        c, s = np.cos(0.7 * number), np.sin(0.7 * number)
        turned = rows @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]).T
        vectors = {name: row.tolist() for name, row in zip(names, turned, strict=True)}
        given["crystal"].append({"__id__": "crystal", **vectors, "space_group_hall_symbol": " P 2 2"})
        given["imageset"].append({"__id__": "ImageSet", "images": [f"still_{number}.cbf"]})
        places = {"beam": 0, "detector": 0, "crystal": number, "imageset": number}
        given["experiment"].append({"__id__": "Experiment", "identifier": ""} | places)
    path.write_text(json.dumps(given))
    rng = np.random.default_rng(12)
    factors = write_amplitudes(folder, rng)
    for number, entry in enumerate(read_expt(path).entries):
        with torch.no_grad():
            settings = RenderSettings(oversample=3)
            image = Renderer(true_experiment(entry, factors), settings=settings).images()[0].numpy()
        counts = rng.poisson(STRONGEST / image.max() * image + BACKGROUND)
        write_cbf(folder / f"still_{number}.cbf", counts.astype(np.int32))
    return path


def write_amplitudes(folder: Path, rng: np.random.Generator) -> StructureFactors:
    """F.hkl with amplitudes of the point group 222 after Wilson."""
    grid = np.stack(np.meshgrid(*[np.arange(-20, 21)] * 3, indexing="ij"), -1).reshape(-1, 3)
    hkl = grid[((grid / np.array(CELL[:3])) ** 2).sum(1) < 1 / 1.3**2]
    unique, place = np.unique(np.abs(hkl), axis=0, return_inverse=True)
    amplitudes = np.sqrt(rng.exponential(1e4, len(unique)))[place.ravel()]
    np.savetxt(folder / "F.hkl", np.column_stack([hkl, amplitudes]), fmt="%d %d %d %.4f")
    return StructureFactors(hkl, amplitudes)


def true_experiment(entry: ExperimentEntry, factors: StructureFactors) -> Experiment:
    """``entry`` as it really stands."""
    assert entry.crystal is not None
    crystal = Crystal(replace(entry.crystal, n_cells=N_CELLS, shape="gauss_hkl"))
    detector = Detector(entry.detector)
    with torch.no_grad():
        crystal.rotation.copy_(torch.tensor(MISSET))
        detector.shift[0] = torch.tensor(SHIFT, dtype=torch.float64)
        detector.rotation[0] = torch.tensor(TILT, dtype=torch.float64)
    beam = Beam(replace(entry.beam, fluence=1 / CLASSICAL_ELECTRON_RADIUS_SQUARED))
    return Experiment(crystal, beam, detector, factors)


def truth(crystals: int = 1) -> dict[str, float]:
    """The true parameters in the fit's names."""
    names = [f"detector.detector.{kind}_{axis}" for kind in ("shift", "rot") for axis in ("fast", "slow", "normal")]
    turns = [f"crystal[{number}].rot_{axis}" for number in range(crystals) for axis in "xyz"]
    return dict(zip([*names, *turns], SHIFT + TILT + crystals * MISSET, strict=True))
