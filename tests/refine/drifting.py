"""A sweep of 60° on disk whose crystal turns and swells while it is measured, or stays as it is."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nbtorch.config import RenderSettings
from nbtorch.io import read_expt, write_cbf
from nbtorch.models import Beam, Crystal, Detector, Experiment
from nbtorch.render import Renderer
from nbtorch.units import CLASSICAL_ELECTRON_RADIUS_SQUARED
from tests.refine import small

FRAMES, OSCILLATION = 60, 1.0
SIZE, PIXEL = 250, 0.12  # finer than a spot: its centroid is then known to a few hundredths of a pixel
STRONGEST = 20000.0  # photons in the brightest pixel
STEPS = 8  # of the spindle in a frame
TURN = (0.15, -0.1, 0.2)  # degrees about x, y, z
SWELLING = 0.002  # of b


def drift(phi: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation vectors [n, 3] (degrees) and changes of the cell [n, 6] at spindle angles ``phi`` [n] (degrees).

    Straight at both ends, as a natural spline is.
    """
    along = phi / (FRAMES * OSCILLATION)
    x, y, z = TURN[0] * torch.sin(math.pi * along), TURN[1] * along, TURN[2] * torch.sin(2 * math.pi * along) / 2
    swelling = torch.zeros(len(phi), 6, dtype=phi.dtype)
    swelling[:, 1] = SWELLING * small.CELL[1] * torch.sin(math.pi * along / 1.0)
    return torch.stack([x, y, z], dim=1), swelling


def write(folder: Path, *, drifts: bool) -> Path:
    """Write start.expt and the frames into ``folder``; the path of start.expt."""
    folder.mkdir(parents=True, exist_ok=True)
    path, given = folder / "start.expt", small.document("drift_###.cbf")
    given["scan"][0] |= {"image_range": [1, FRAMES], "oscillation": [0.0, OSCILLATION]}
    given["scan"][0] |= {"exposure_time": [1.0] * FRAMES, "epochs": [0.0] * FRAMES}
    panel = given["detector"][0]["panels"][0]
    panel |= {"origin": [-PIXEL * SIZE / 2, PIXEL * SIZE / 2, -small.DISTANCE]}
    panel |= {"pixel_size": [PIXEL, PIXEL], "image_size": [SIZE, SIZE]}
    path.write_text(json.dumps(given))
    rng = np.random.default_rng(13)
    factors = small.write_amplitudes(folder, rng)
    entry = read_expt(path)[0]
    assert entry.scan is not None
    assert entry.crystal is not None
    # knots closer than the fit's: the truth is no curve of its own making
    angles = torch.linspace(0, FRAMES * OSCILLATION, 31, dtype=torch.float64)
    knots = tuple(angles.tolist()) if drifts else ()
    crystal = Crystal(replace(entry.crystal, n_cells=small.N_CELLS, shape="gauss_hkl", knots=knots))
    if drifts:
        with torch.no_grad():
            for tensor, values in zip((crystal.rotation_knots, crystal.cell_knots), drift(angles), strict=True):
                tensor.copy_(values)
    beam = Beam(replace(entry.beam, fluence=1 / CLASSICAL_ELECTRON_RADIUS_SQUARED))
    experiment = Experiment(crystal, beam, Detector(entry.detector), factors)
    renderer = Renderer(experiment, settings=RenderSettings(oversample=2))
    with torch.no_grad():
        images = [renderer.images(entry.scan.exposure(frame, STEPS))[0].numpy() for frame in range(FRAMES)]
    scale = STRONGEST / max(float(image.max()) for image in images)
    for number, image in enumerate(images, 1):
        counts = rng.poisson(scale * image + small.BACKGROUND)
        write_cbf(folder / f"drift_{number:03d}.cbf", counts.astype(np.int32))
    return path
