"""Claim: the staged fit converges from starts that are far off; pixels alone only where spots overlap predictions.

``python benchmarks/basin.py [--starts 100] [--threads 1]`` prints the fractions and writes results/basin.json. Every
trial is kept in results/basin_trials.jsonl as soon as it has ended; a run that was broken off goes on from there. One
still of some 110 spots; each start is off by one kind of error of a stated size, in a random direction. Detector errors
are fitted with the six numbers of the detector, the crystal's with its orientation and cell; its size and the sampling
are known. Converged is a fit that says so and predicts the spots within 0.1 px rms of where they truly are.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from benchmarks.measuring import RESULTS, machine, table, write
from benchmarks.stills import Stills
from nbtorch.errors import NbtorchError
from nbtorch.models import Experiment
from nbtorch.render.excited import excited_reflections
from nbtorch.render.predict import predict
from refine.fit.loop import Loop
from refine.fit.prepare import prepare
from refine.parameters.moved_experiment import moved_experiment
from refine.records.journal import Journal
from refine.settings.fit_settings import (
    CrystalSettings,
    DataSettings,
    FitSettings,
    ParameterSettings,
    RenderingSettings,
    SolverSettings,
)

SCENE = Stills(
    count=1,
    module=(220, 220),
    columns=1,
    rows=1,
    pixel=0.2,
    distance=50.0,
    cell=(28.0, 32.0, 36.0, 90.0, 90.0, 90.0),
    n_cells=(14.0, 12.0, 11.0),
    resolution=1.9,
    brightest=5000.0,
    seed=8,
)
CONVERGED = 0.1  # pixels rms, at the spots
Document = dict[str, Any]
Trials = dict[tuple[str, float, int], dict[str, tuple[float, float]]]  # by kind, size and seed: px off, CPU s


def shifted(start: Document, size: float, rng: np.random.Generator) -> None:
    """The detector moved by ``size`` mm."""
    for panel in start["detector"][0]["panels"]:
        panel["origin"] = (np.array(panel["origin"]) + size * _direction(rng)).tolist()


def tilted(start: Document, size: float, rng: np.random.Generator) -> None:
    """The detector turned about its centre by ``size`` degrees."""
    turn, centre = Rotation.from_rotvec(np.radians(size) * _direction(rng)), np.array([0, 0, -SCENE.distance])
    for panel in start["detector"][0]["panels"]:
        for name in ("fast_axis", "slow_axis"):
            panel[name] = turn.apply(panel[name]).tolist()
        panel["origin"] = (turn.apply(np.array(panel["origin"]) - centre) + centre).tolist()


def misset(start: Document, size: float, rng: np.random.Generator) -> None:
    """The crystal turned by ``size`` degrees."""
    turn = Rotation.from_rotvec(np.radians(size) * _direction(rng))
    for name in ("real_space_a", "real_space_b", "real_space_c"):
        start["crystal"][0][name] = turn.apply(start["crystal"][0][name]).tolist()


def strained(start: Document, size: float, rng: np.random.Generator) -> None:
    """The cell's lengths off by ``size`` per cent, root of the sum of squares."""
    by = 1 + size / 100 * _direction(rng)
    for name, factor in zip(("real_space_a", "real_space_b", "real_space_c"), by, strict=True):
        start["crystal"][0][name] = (factor * np.array(start["crystal"][0][name])).tolist()


def _direction(rng: np.random.Generator) -> np.ndarray:
    vector = rng.normal(size=3)
    return np.asarray(vector / np.linalg.norm(vector))


@dataclass(frozen=True)
class Kind:
    """One kind of error: what makes it, its sizes, and what is free in the fit."""

    move: Callable[[Document, float, np.random.Generator], None]
    unit: str
    sizes: tuple[float, ...]
    free: ParameterSettings


CRYSTAL = ParameterSettings(n_cells=False, scale="spot")
DETECTOR = replace(CRYSTAL, orientation=False, cell=False, detector_shift=True, detector_rotation=True)
KINDS = {
    "detector shift": Kind(shifted, "mm", (0.5, 1.0, 2.0, 4.0, 6.0), DETECTOR),
    "detector tilt": Kind(tilted, "°", (1.0, 2.0, 4.0, 6.0), DETECTOR),
    "orientation": Kind(misset, "°", (0.3, 0.6, 1.2, 2.4), CRYSTAL),
    "cell": Kind(strained, "%", (1.0, 2.0, 4.0, 6.0), CRYSTAL),
}


def fit(start: Path, kind: Kind, *, staged: bool) -> tuple[Experiment, bool]:
    """The experiment as a fit from ``start`` leaves it, and whether the fit says that it converged."""
    settings = FitSettings(
        data=DataSettings(str(start), amplitudes=str(start.parent / "F.hkl")),
        crystal=CrystalSettings(n_cells=SCENE.n_cells),
        render=RenderingSettings(oversample=SCENE.oversample),
        parameters=kind.free,
        solver=SolverSettings(coarse=staged),
    )
    problem = prepare(settings, Journal())
    loop = Loop(problem)
    while not loop.converged and len(loop.history) < settings.solver.max_iterations:
        loop.iterate()
    return moved_experiment(problem.evidence[0].expt, loop.values), loop.converged


@torch.no_grad()
def distance(found: Experiment, true: Experiment) -> float:
    """rms (pixels) between the spots of ``true`` as both predict them; infinite where ``found`` predicts no place."""
    seen = excited_reflections(true, true.exposure, margin=0.1)
    hkl, panel = torch.as_tensor(seen.hkl), torch.as_tensor(seen.panel)
    one, other = predict(found, hkl, panel), predict(true, hkl, panel)
    if not bool(one.valid.all()):
        return float("inf")
    return float(((one.fast - other.fast) ** 2 + (one.slow - other.slow) ** 2).mean().sqrt())


def trial(folder: Path, true: Experiment, kind: Kind, size: float, seed: int) -> dict[str, tuple[float, float]]:
    """What a staged fit and one of pixels alone make of one start: pixels off at the end, CPU seconds."""
    document = json.loads((folder / "start.expt").read_text())
    kind.move(document, size, np.random.default_rng(seed))
    start = folder / "moved.expt"
    start.write_text(json.dumps(document))
    ends = {}
    for name, staged in (("pixels", False), ("staged", True)):
        began = time.process_time()
        try:
            found, converged = fit(start, kind, staged=staged)
            off = distance(found, true) if converged else float("inf")
        except NbtorchError:  # no spot has an index, or no box a pixel: a start that is too far off
            off = float("inf")
        ends[name] = off, time.process_time() - began
    return ends


def run(starts: int = 100) -> list[dict[str, Any]]:
    """The fraction of ``starts`` that converge, of each kind and size."""
    RESULTS.mkdir(exist_ok=True)
    return summed(trials_of(starts, RESULTS / "basin_trials.jsonl"))


def trials_of(starts: int, kept: Path) -> Trials:
    """The trials of ``starts`` of every kind and size, all kinds of a start before the next; those in ``kept`` are not
    made again."""
    trials: Trials = {}
    for line in kept.read_text().splitlines() if kept.exists() else ():
        name, size, seed, ends = json.loads(line)
        trials[name, size, seed] = ends
    wanted = [(name, size, seed) for seed in range(starts) for name, kind in KINDS.items() for size in kind.sizes]
    with tempfile.TemporaryDirectory() as scratch, kept.open("a") as file:
        folder = Path(scratch)
        (true,) = SCENE.write(folder)
        for name, size, seed in wanted:
            if (name, size, seed) in trials:
                continue
            trials[name, size, seed] = trial(folder, true, KINDS[name], size, seed)
            file.write(json.dumps((name, size, seed, trials[name, size, seed])) + "\n")
            file.flush()
            print(f"start {seed}: {name} {size:g}", end="\r", flush=True)
    return {key: trials[key] for key in wanted}


def summed(trials: Trials) -> list[dict[str, Any]]:
    """The fraction of starts that converge, of each kind and size."""
    rows = []
    for name, kind in KINDS.items():
        for size in kind.sizes:
            ends = [end for (of, by, _), end in trials.items() if (of, by) == (name, size)]
            row: dict[str, Any] = {"error": name, "size": f"{size:g} {kind.unit}", "starts": len(ends)}
            for way in ("pixels", "staged"):
                off = np.array([end[way][0] for end in ends])
                row[way] = float((off < CONVERGED).mean())
                row[f"{way}: px off"] = float(np.median(off[off < CONVERGED])) if row[way] else None
                row[f"{way}: s"] = float(np.median([end[way][1] for end in ends]))
            rows.append(row)
    return rows


def main() -> None:
    """Run it and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    rows = run(chosen.starts)
    print(machine(), table(rows), write("basin", rows), sep="\n")


if __name__ == "__main__":
    main()
