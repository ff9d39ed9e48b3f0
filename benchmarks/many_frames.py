"""Claim: a joint fit of one detector over many stills converges in a few iterations, and time and memory grow linearly.

Simulated: stills of triclinic crystals in random orientations on a detector of eight modules, whole frames rendered by
the project's own renderer with Poisson noise, written as CBF and fitted from start.expt like any others. Free: six
numbers of the whole detector, six of each module, three of orientation and six of cell of each crystal.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measuring import peak_megabytes
from nbtorch.config import RenderSettings
from nbtorch.io import read_expt, write_cbf
from nbtorch.models import Beam, Crystal, Detector, Experiment, StructureFactors
from nbtorch.models.detector import root_group
from nbtorch.render import Renderer
from nbtorch.units import CLASSICAL_ELECTRON_RADIUS_SQUARED

FRAMES = (10, 30, 100)
MODULE, COLUMNS, ROWS, PIXEL, GAP, DISTANCE = (340, 170), 2, 4, 0.15, 1.0, 100.0
CELL = (38.0, 45.0, 52.0, 85.0, 95.0, 100.0)
N_CELLS, RESOLUTION, OVERSAMPLE = (13.0, 11.0, 9.5), 1.9, 2
BACKGROUND, BRIGHTEST = 1.0, 20000.0
# what a header is typically wrong by: the whole detector (mm, degrees), modules, orientations (degrees), cells
SHIFT, TILT = (0.3, -0.25, 0.4), (0.1, -0.08, 0.1)
MODULE_SHIFT, MODULE_TILT, MISSET, LENGTH, ANGLE = 0.05, 0.05, 0.1, 0.002, 0.1
ROOT = Path(__file__).resolve().parent.parent


def document(count: int, rng: np.random.Generator) -> dict[str, Any]:
    """start.expt of ``count`` stills."""
    size = np.array(MODULE) * PIXEL + GAP
    corner = np.array([-COLUMNS, ROWS]) * size / 2
    panels = []
    for number in range(COLUMNS * ROWS):
        column, row = number % COLUMNS, number // COLUMNS
        panels.append(
            {
                "name": f"module{number}",
                "type": "SENSOR_PAD",
                "fast_axis": [1.0, 0.0, 0.0],
                "slow_axis": [0.0, -1.0, 0.0],
                "origin": [corner[0] + column * size[0], corner[1] - row * size[1], -DISTANCE],
                "raw_image_offset": [column * MODULE[0], row * MODULE[1]],
                "image_size": list(MODULE),
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
        )
    given: dict[str, Any] = {"__id__": "ExperimentList", "goniometer": [], "scan": []}
    given["beam"] = [
        {"direction": [0.0, 0.0, 1.0], "wavelength": 1.0, "polarization_normal": [0.0, 1.0, 0.0]}
        | {"polarization_fraction": 0.99}
    ]
    children = [{"name": panel["name"], "children": [{"panel": number}]} for number, panel in enumerate(panels)]
    given["detector"] = [{"panels": panels, "hierarchy": {"name": "detector", "children": children}}]
    given["crystal"] = [crystal(rng) for _ in range(count)]
    given["imageset"] = [{"__id__": "ImageSet", "images": [f"still_{number:03d}.cbf"]} for number in range(count)]
    given["experiment"] = [
        {"__id__": "Experiment", "identifier": "", "beam": 0, "detector": 0, "crystal": number, "imageset": number}
        for number in range(count)
    ]
    return given


def crystal(rng: np.random.Generator) -> dict[str, Any]:
    """A triclinic crystal in a random orientation."""
    a, b, c = CELL[:3]
    cosine = np.cos(np.radians(CELL[3:]))
    x, y = cosine[1], (cosine[0] - cosine[1] * cosine[2]) / np.sqrt(1 - cosine[2] ** 2)
    rows = np.array([[a, 0, 0], [b * cosine[2], b * np.sqrt(1 - cosine[2] ** 2), 0], [c * x, c * y, 0]])
    rows[2, 2] = c * np.sqrt(1 - x**2 - y**2)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rows = rows @ (turn * np.sign(np.linalg.det(turn))).T
    vectors = {name: row.tolist() for name, row in zip(("real_space_a", "real_space_b", "real_space_c"), rows)}
    return {"__id__": "crystal", **vectors, "space_group_hall_symbol": " P 1"}


def simulate(folder: Path, count: int) -> None:
    """Write start.expt, F.hkl and ``count`` frames into ``folder``."""
    rng = np.random.default_rng(5)
    folder.mkdir(exist_ok=True)
    (folder / "start.expt").write_text(json.dumps(document(count, rng)))
    grid = np.stack(np.meshgrid(*[np.arange(-40, 41)] * 3, indexing="ij"), -1).reshape(-1, 3)
    entries = read_expt(folder / "start.expt").entries
    assert entries[0].crystal is not None
    length = np.linalg.norm(grid @ Crystal(entries[0].crystal).vectors()[1].detach().numpy(), axis=1)
    hkl = grid[(length > 0) & (length < 1 / RESOLUTION)]
    amplitudes = np.sqrt(rng.exponential(1e4, len(hkl)))
    np.savetxt(folder / "F.hkl", np.column_stack([hkl, amplitudes]), fmt="%d %d %d %.4f")
    detector = true_detector(entries[0].detector, rng)
    scale, truth = None, values_of(detector)
    for number, entry in enumerate(entries):
        assert entry.crystal is not None
        model = Crystal(replace(entry.crystal, n_cells=N_CELLS, shape="gauss_hkl"))
        with torch.no_grad():
            model.rotation.copy_(torch.as_tensor(rng.normal(0, MISSET, 3)))
            model.cell[:3] *= torch.as_tensor(1 + rng.normal(0, LENGTH, 3))
            model.cell[3:] += torch.as_tensor(rng.normal(0, ANGLE, 3))
            turned = dict(zip(("rot_x", "rot_y", "rot_z"), model.rotation.tolist(), strict=True))
            turned |= dict(zip(("a", "b", "c", "alpha", "beta", "gamma"), model.cell.tolist(), strict=True))
            truth |= {f"crystal[{number}].{name}": value for name, value in turned.items()}
            beam = Beam(replace(entry.beam, fluence=1 / CLASSICAL_ELECTRON_RADIUS_SQUARED))
            experiment = Experiment(model, beam, detector, StructureFactors(hkl, amplitudes))
            modules = [image.numpy() for image in Renderer(experiment, settings=RENDERING).images()]
        image = np.vstack([np.hstack(modules[row * COLUMNS : (row + 1) * COLUMNS]) for row in range(ROWS)])
        scale = BRIGHTEST / image.max() if scale is None else scale
        write_cbf(folder / f"still_{number:03d}.cbf", rng.poisson(scale * image + BACKGROUND).astype(np.int32))
    (folder / "truth.json").write_text(json.dumps(truth))


def values_of(detector: Detector) -> dict[str, float]:
    """Where the rigid bodies of ``detector`` stand, by the names of the fit's parameters."""
    moved = {}
    for kind, tensor in (("shift", detector.shift), ("rot", detector.rotation)):
        for group, row in zip(detector.groups, tensor.tolist(), strict=True):
            axes = zip(("fast", "slow", "normal"), row, strict=True)
            moved |= {f"detector.{group.name}.{kind}_{axis}": value for axis, value in axes}
    return moved


RENDERING = RenderSettings(oversample=OVERSAMPLE)


def true_detector(config: Any, rng: np.random.Generator) -> Detector:
    """The detector as it really stands: moved as a whole, and every module within it."""
    from refine.physical import chosen_groups

    detector = Detector(config, chosen_groups(root_group(config), len(config.panels), (0, 1)))
    modules = len(detector.groups) - 1
    with torch.no_grad():
        detector.shift.copy_(torch.as_tensor(np.vstack([SHIFT, rng.normal(0, MODULE_SHIFT, (modules, 3))])))
        detector.rotation.copy_(torch.as_tensor(np.vstack([TILT, rng.normal(0, MODULE_TILT, (modules, 3))])))
    return detector


def fit(folder: Path, count: int) -> dict[str, Any]:
    """Fit the first ``count`` frames of ``folder``, as nb-refine does, and measure."""
    from refine.conclude import outcome
    from refine.module import FitModule
    from refine.prepare import prepare
    from refine.settings import DataSettings, DetectorSettings, FitSettings, ParameterSettings

    entries = json.loads((folder / "start.expt").read_text())
    for kind in ("experiment", "imageset", "crystal"):
        entries[kind] = entries[kind][:count]
    (folder / f"start_{count}.expt").write_text(json.dumps(entries))
    settings = FitSettings(
        data=DataSettings(str(folder / f"start_{count}.expt"), amplitudes=str(folder / "F.hkl")),
        detector=DetectorSettings(levels=(0, 1)),
        parameters=ParameterSettings(n_cells=True, detector_shift=True, detector_rotation=True, scale="spot"),
    )
    settings = replace(settings, crystal=replace(settings.crystal, n_cells=N_CELLS))
    settings = replace(settings, parameters=replace(settings.parameters, n_cells=False))
    before, truth = peak_megabytes(), json.loads((folder / "truth.json").read_text())
    problem = prepare(settings, lambda _: None)
    module = FitModule(problem)
    vars(module)["log"] = lambda *_, **__: None
    while not module.converged and len(module.history) < 60:
        module.training_step(None, 0)
    peak, started = peak_megabytes(), time.process_time()
    result = outcome(problem, module)
    results_s = time.process_time() - started
    off = [errors(problem, values, truth) for values in (problem.by_positions, module.values.values.detach())]
    iterations = sum(row.stage != "positions" for row in module.history)
    objective = module.objective()
    return {
        "frames": count,
        "parameters": len(module.values.free),
        "spots a frame": sum(len(block.boxes) for block in objective.blocks) / count,
        "positions steps": len(module.history) - iterations,
        "LM iterations": iterations,
        "converged": module.converged,
        "px off by positions": off[0],
        "px off at the end": off[1],
        "preparation s": problem.cpu_s,
        "s an iteration": (module.cpu_s - problem.cpu_s) / iterations,
        "results s": results_s,
        "MB before": before,
        "MB at peak": peak,
        "MB with results": peak_megabytes(),
        "undetermined": len(result.undetermined),
    }


def errors(problem: Any, values: torch.Tensor, truth: dict[str, float]) -> float:
    """How far (rms, pixels) the spots are predicted at ``values`` from where they are predicted at the truth."""
    parameters, places = problem.parameters, []
    true = [truth.get(parameter.name, parameter.start) for parameter in parameters.parameters_]
    now = parameters.values.detach().clone()
    for wanted in (values, torch.tensor(true, dtype=torch.float64)):
        with torch.no_grad():
            parameters.values.copy_(wanted)
        places.append([block.residuals(parameters).value[:, :2] for block in problem.positions().blocks])
    with torch.no_grad():
        parameters.values.copy_(now)
    apart = torch.cat([one - other for one, other in zip(*places, strict=True)])
    return float((apart**2).sum(1).mean().sqrt())


def run(frames: tuple[int, ...] = FRAMES) -> list[dict[str, Any]]:
    """Each number of frames in a process of its own."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        simulate(Path(scratch), max(frames))
        for count in frames:
            program = f"import json; from benchmarks import many_frames as m; from pathlib import Path; import torch; torch.set_num_threads(1); print(json.dumps(m.fit(Path({scratch!r}), {count})))"
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    return rows
