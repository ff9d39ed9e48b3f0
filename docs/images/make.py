"""Draws observed_model_residual.png from a run of the embedded example: python docs/images/make.py RUN

RUN is the folder that ``nb-refine hydra.run.dir=RUN`` left. The model is rendered anew from RUN/refined.expt and the
sizes in RUN/result.json; one scale and one parabolic background for the whole region are all that is fitted here.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray

from nbtorch.config import MosaicConfig, RenderSettings
from nbtorch.io import read_amplitudes, read_expt, read_frame
from nbtorch.models import Beam, Crystal, Detector, Experiment, StructureFactors
from nbtorch.render import Renderer, roi
from refine.settings.paths import default_data_dir

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.colors import PowerNorm

Array = NDArray[np.float64]

FRAME, STEPS = 2, 8  # counted from 0; spindle steps
FAST, SLOW = (220, 283), (122, 185)  # of the region: first and last pixel
DOMAINS = 50


def refined(run: Path) -> Experiment:
    """The experiment as the fit left it."""
    values = {row["name"]: row["value"] for row in json.loads((run / "result.json").read_text())["parameters"]}
    entry = read_expt(run / "refined.expt")[0]
    assert entry.crystal is not None
    assert entry.scan is not None
    sizes = tuple(values[f"crystal[0].n_{axis}"] for axis in "abc")
    mosaic = MosaicConfig(values["crystal[0].mosaic_spread"], DOMAINS)
    crystal = replace(entry.crystal, n_cells=sizes, shape="gauss_hkl", mosaic=mosaic)
    amplitudes = read_amplitudes(default_data_dir() / "amplitudes.mtz")
    factors = StructureFactors(amplitudes.hkl, amplitudes.F)
    detector = Detector(replace(entry.detector, layers=2))
    return Experiment(Crystal(crystal), Beam(entry.beam), detector, factors, entry.scan.exposure(FRAME, STEPS))


def fitted(spots: Array, observed: Array) -> Array:
    """scale·spots + background, by least squares weighted with the counts that the model itself expects."""
    slow, fast = (
        2 * index.ravel() / size - 1 for index, size in zip(np.indices(spots.shape), spots.shape, strict=True)
    )
    background = [np.ones(spots.size), slow, fast, slow**2, slow * fast, fast**2]
    design = np.stack([spots.ravel() / spots.max(), *background], axis=1)
    model = np.full(spots.size, observed.mean())
    for _ in range(10):
        root = 1 / np.sqrt(np.maximum(model, 0.05))[:, None]
        values, *_ = np.linalg.lstsq(design * root, observed.ravel() * root[:, 0], rcond=None)
        model = design @ values
    return np.asarray(model.reshape(spots.shape))


def draw(observed: Array, model: Array, path: Path) -> None:
    """Observed, model, and their difference in units of its noise, side by side."""
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.7), layout="constrained")
    extent = (FAST[0], FAST[1] + 1, SLOW[1] + 1, SLOW[0])
    z = (observed - model) / np.sqrt(np.maximum(model, 0.05))
    counts = PowerNorm(0.5, 0, observed.max())
    for axis, title, image in zip(axes[:2], ("observed", "model"), (observed, model), strict=True):
        axis.set_title(title)
        drawn = axis.imshow(np.maximum(image, 0), cmap="magma", norm=counts, extent=extent, interpolation="nearest")
    figure.colorbar(drawn, ax=axes[:2], location="bottom", aspect=50, label="photons")
    axes[2].set_title("residual")
    drawn = axes[2].imshow(z, cmap="RdBu_r", vmin=-5, vmax=5, extent=extent, interpolation="nearest")
    figure.colorbar(drawn, ax=axes[2], location="bottom", aspect=25, label="(observed − model) / σ")
    for axis in axes:
        axis.set_xticks(range(FAST[0], FAST[1] + 1, 20))
        axis.set_yticks(range(SLOW[0], SLOW[1] + 1, 20))
    figure.savefig(path, dpi=110)


def main() -> None:
    """Render the region, fit scale and background, draw."""
    experiment = refined(Path(sys.argv[1]))
    region = roi(experiment.detector.config, FAST, SLOW)
    with torch.no_grad():
        image = Renderer(experiment, region, RenderSettings(oversample=3)).images()[0].numpy()
    window = np.s_[SLOW[0] : SLOW[1] + 1, FAST[0] : FAST[1] + 1]
    frame = read_frame(default_data_dir() / f"lysozyme_{FRAME + 1:04d}.cbf.gz")
    observed = np.asarray(frame.counts[window], dtype=float)
    draw(observed, fitted(image[window], observed), Path(__file__).parent / "observed_model_residual.png")


if __name__ == "__main__":
    main()
