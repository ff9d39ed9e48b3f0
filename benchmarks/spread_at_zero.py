"""Stills whose mosaic spread is 0, fitted with everything free: what comes out over many draws of the photons.

    python benchmarks/spread_at_zero.py --draws 16

Three stills of 500 × 500 pixels, N = 20, known amplitudes, ``parameters=all`` but for the
detector's turn about its normal, which a turn of all crystals equals. Prints one line a draw, then how many
converged, and mean and rms of the errors in sigmas of what every parameter set has.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from nbtorch.config import CrystalConfig, RenderSettings
from nbtorch.io import read_expt, write_cbf
from nbtorch.io.expt import ExperimentEntry
from nbtorch.models import Beam, Crystal, Detector, Experiment, StructureFactors
from nbtorch.render import Renderer
from nbtorch.units import CLASSICAL_ELECTRON_RADIUS_SQUARED
from refine.__main__ import main as nb_refine

SIZE, PIXEL, DISTANCE, STILLS, CELLS = 500, 0.1, 60.0, 3, 20.0
CELL = (38.0, 47.0, 56.0)
SHIFT, TILT, MISSET = (0.12, -0.1, 0.15), (0.15, -0.1, 0.0), (0.04, 0.03, -0.05)
BACKGROUND, STRONGEST = 1.0, 2000.0


def document() -> dict[str, Any]:
    """start.expt as dxtbx writes it: one detector, a crystal a still."""
    half = SIZE * PIXEL / 2
    panel = {
        "name": "Panel", "type": "SENSOR_PAD", "fast_axis": [1.0, 0.0, 0.0], "slow_axis": [0.0, -1.0, 0.0],
        "origin": [-half, half, -DISTANCE], "raw_image_offset": [0, 0], "image_size": [SIZE, SIZE],
        "pixel_size": [PIXEL, PIXEL], "trusted_range": [-1.0, 1e6], "thickness": 0.0, "material": "", "mu": 0.0,
        "identifier": "", "mask": [], "gain": 1.0, "pedestal": 0.0, "px_mm_strategy": {"type": "SimplePxMmStrategy"},
    }  # fmt: skip
    turns = [Rotation.from_euler("zx", [0.6, 0.4 + 0.7 * number]).as_matrix() for number in range(STILLS)]
    rows = [np.diag(CELL) @ turn.T for turn in turns]
    names = ("real_space_a", "real_space_b", "real_space_c")
    shared = {"wavelength": 1.0, "polarization_normal": [0.0, 1.0, 0.0], "polarization_fraction": 0.99}
    return {
        "__id__": "ExperimentList",
        "experiment": [
            {"__id__": "Experiment", "identifier": "", "beam": 0, "detector": 0, "crystal": number, "imageset": number}
            for number in range(STILLS)
        ],
        "imageset": [{"__id__": "ImageSet", "images": [f"still_{number}.cbf"]} for number in range(STILLS)],
        "beam": [{"direction": [0.0, 0.0, 1.0]} | shared],
        "detector": [{"panels": [panel], "hierarchy": {"name": "", "children": [{"panel": 0}]}}],
        "goniometer": [],
        "scan": [],
        "crystal": [
            {"__id__": "crystal", "space_group_hall_symbol": " P 2 2"}
            | {name: row.tolist() for name, row in zip(names, vectors, strict=True)}
            for vectors in rows
        ],
    }  # fmt: skip


def amplitudes(folder: Path) -> StructureFactors:
    """F.hkl with Wilson-distributed amplitudes of the point group 222."""
    grid = np.stack(np.meshgrid(*[np.arange(-32, 33)] * 3, indexing="ij"), -1).reshape(-1, 3)
    hkl = grid[((grid / np.array(CELL)) ** 2).sum(1) < 1 / 1.75**2]
    unique, place = np.unique(np.abs(hkl), axis=0, return_inverse=True)
    values = np.sqrt(np.random.default_rng(1).exponential(1e4, len(unique)))[place.ravel()]
    np.savetxt(folder / "F.hkl", np.column_stack([hkl, values]), fmt="%d %d %d %.4f")
    return StructureFactors(hkl, values)


def true_image(entry: ExperimentEntry, factors: StructureFactors) -> np.ndarray:
    """Expected photons of the spots of one still."""
    given = entry.crystal
    assert isinstance(given, CrystalConfig)
    crystal, detector = Crystal(replace(given, n_cells=(CELLS,) * 3, shape="gauss_hkl")), Detector(entry.detector)
    with torch.no_grad():
        crystal.rotation.copy_(torch.tensor(MISSET))
        detector.shift[0] = torch.tensor(SHIFT, dtype=torch.float64)
        detector.rotation[0] = torch.tensor(TILT, dtype=torch.float64)
        beam = Beam(replace(entry.beam, fluence=1 / CLASSICAL_ELECTRON_RADIUS_SQUARED))
        experiment = Experiment(crystal, beam, detector, factors)
        image = Renderer(experiment, settings=RenderSettings(oversample=3)).images()[0].numpy()
    return np.asarray(STRONGEST / image.max() * image + BACKGROUND)


def truth() -> dict[str, float]:
    """The true parameters in the fit's names."""
    names = [f"detector.detector.{kind}_{axis}" for kind in ("shift", "rot") for axis in ("fast", "slow", "normal")]
    found = dict(zip(names, SHIFT + TILT, strict=True))
    for number in range(STILLS):
        found |= {f"crystal[{number}].rot_{axis}": by for axis, by in zip("xyz", MISSET, strict=True)}
        found |= {f"crystal[{number}].{axis}": length for axis, length in zip("abc", CELL, strict=True)}
        found |= {f"crystal[{number}].n_{axis}": CELLS for axis in "abc"}
        found[f"crystal[{number}].mosaic_spread"] = 0.0
    return found


def result_of(folder: Path, images: list[np.ndarray], draw: int, words: list[str]) -> dict[str, Any]:
    """result.json of a fit to one draw of the photons."""
    rng = np.random.default_rng(draw)
    for number, image in enumerate(images):
        write_cbf(folder / f"still_{number}.cbf", rng.poisson(image).astype(np.int32), overwrite=True)
    run = folder / f"run_{draw}"
    fixed = [f"data.experiment={folder / 'start.expt'}", f"data.amplitudes={folder / 'F.hkl'}", f"hydra.run.dir={run}"]
    nb_refine(["parameters=all", "parameters.fix=[*.rot_normal]", *fixed, *words])
    return dict(json.loads((run / "result.json").read_text()))


def main() -> None:
    """Fit ``--draws`` draws and print what they say."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("words", nargs="*", help="overrides of nb-refine")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "start.expt").write_text(json.dumps(document()))
        factors = amplitudes(folder)
        images = [true_image(entry, factors) for entry in read_expt(folder / "start.expt").entries]
        report(folder, images, range(asked.first, asked.first + asked.draws), asked.words)


def report(folder: Path, images: list[np.ndarray], draws: range, words: list[str]) -> None:
    """Print a line a draw, and a summary."""
    known, converged = truth(), 0
    errors: dict[str, list[float]] = {}
    for draw in draws:
        result = result_of(folder, images, draw, words)
        converged += result["converged"]
        rows = {row["name"]: row for row in result["parameters"] if row["name"] in known}
        z = {n: (r["value"] - known[n]) / r["sigma"] for n, r in rows.items() if r["sigma"] and "mosaic" not in n}
        for row, value in z.items():
            errors.setdefault(row, []).append(value)
        worst = max(z, key=lambda name: abs(z[name]))
        spreads = [rows[name] for name in sorted(rows) if "mosaic_spread" in name]
        told = [f"{r['value']:.4f}±{r['sigma'] or float('nan'):.4f} <{r.get('upper_limit') or float('nan'):.4f}"
                for r in spreads]  # fmt: skip
        print(f"draw {draw}: converged {result['converged']}, {len(result['history'])} iterations, worst {worst} "
              f"{z[worst]:+.1f}, N {rows['crystal[0].n_a']['value']:.2f}, spreads {told}, "
              f"{result['spots']['used']} spots", flush=True)  # fmt: skip
    every = np.concatenate([np.array(values) for values in errors.values()])
    print(f"{converged} of {len(draws)} converged; z: mean {every.mean():+.2f}, rms {np.sqrt((every**2).mean()):.2f}, "
          f"largest {np.abs(every).max():.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
