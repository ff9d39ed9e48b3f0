"""Claim: a joint fit of one detector over many stills converges in a few iterations; time and memory grow linearly.

Simulated: triclinic crystals in random orientations before a detector of eight modules; see benchmarks/stills.py. Free:
six numbers of the whole detector, six of each module, three of orientation and six of cell of each crystal.
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

import torch

from benchmarks.measuring import peak_megabytes
from benchmarks.stills import Stills
from refine.conclude.conclude import outcome
from refine.fit.loop import Loop
from refine.fit.prepare import prepare
from refine.fit.problem import Problem
from refine.records.journal import Journal
from refine.settings.fit_settings import CrystalSettings, DataSettings, DetectorSettings, FitSettings, ParameterSettings

FRAMES = (10, 30, 100, 300)
SCENE = Stills(
    count=max(FRAMES),
    module=(340, 170),
    columns=2,
    rows=4,
    pixel=0.15,
    distance=100.0,
    cell=(38.0, 45.0, 52.0, 85.0, 95.0, 100.0),
    n_cells=(13.0, 11.0, 9.5),
    resolution=1.9,
    shift=(0.3, -0.25, 0.4),
    tilt=(0.1, -0.08, 0.1),
    module_shift=0.05,
    module_tilt=0.05,
    misset=0.1,
    length=0.002,
    angle=0.1,
)
ROOT = Path(__file__).resolve().parent.parent


def fit(folder: Path, count: int) -> dict[str, Any]:
    """Fit the first ``count`` frames of ``folder``, as nb-refine does, and measure."""
    entries = json.loads((folder / "start.expt").read_text())
    for kind in ("experiment", "imageset", "crystal"):
        entries[kind] = entries[kind][:count]
    (folder / f"start_{count}.expt").write_text(json.dumps(entries))
    settings = FitSettings(
        data=DataSettings(str(folder / f"start_{count}.expt"), amplitudes=str(folder / "F.hkl")),
        crystal=CrystalSettings(n_cells=SCENE.n_cells),
        detector=DetectorSettings(levels=(0, 1)),
        parameters=ParameterSettings(n_cells=False, detector_shift=True, detector_rotation=True, scale="spot"),
    )
    before, truth = peak_megabytes(), json.loads((folder / "truth.json").read_text())
    problem = prepare(settings, Journal())
    module = Loop(problem)
    while not module.converged and len(module.history) < 60:
        module.iterate()
    peak, started = peak_megabytes(), time.process_time()
    result = outcome(problem, module)
    results_s = time.process_time() - started
    assert problem.by_positions is not None
    off = [errors(problem, values, truth) for values in (problem.by_positions, module.values.values.detach())]
    iterations = sum(row.stage != "positions" for row in module.history)
    objective = module.objective
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


def errors(problem: Problem, values: torch.Tensor, truth: dict[str, float]) -> float:
    """How far (rms, pixels) the spots are predicted at ``values`` from where they are predicted at the truth."""
    parameters, places = problem.parameters, []
    true = [truth.get(parameter.name, parameter.start) for parameter in parameters.parameters_]
    for wanted in (values, torch.tensor(true, dtype=torch.float64)):
        there = parameters.twin(wanted)
        places.append([block.residuals(there).value[:, :2] for block in problem.positions().blocks])
    apart = torch.cat([one - other for one, other in zip(*places, strict=True)])
    return float((apart**2).sum(1).mean().sqrt())


PROGRAM = """
import json, pathlib, torch
from benchmarks.many_frames import fit
torch.set_num_threads(1)
print(json.dumps(fit(pathlib.Path({folder!r}), {count})))
"""


def run(frames: tuple[int, ...] = FRAMES) -> list[dict[str, Any]]:
    """Each number of frames in a process of its own, so that its memory is its own."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        replace(SCENE, count=max(frames)).write(Path(scratch))
        for count in frames:
            program = PROGRAM.format(folder=scratch, count=count)
            command = [sys.executable, "-c", program]
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    return rows
