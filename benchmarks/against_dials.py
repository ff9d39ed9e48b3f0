"""Claim: on the same spots and from the same start, ``dials.refine`` reaches what it reaches, in the time it takes.

``python benchmarks/against_dials.py RUN START.expt`` takes the spots of a finished ``nb-refine`` (their positions,
indices, and which were held out) from RUN/spots.csv, refines START with ``dials.refine`` (Debian: ``apt install
dials``), and prints the rms of both models on the spots that were fitted and on those held out.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

# What runs with the Python that dials belongs to: spots in, predictions out. Positions are pixels and frames.
TO_REFLECTIONS = """
import json, sys
from dials.array_family import flex
from dxtbx.model.experiment_list import ExperimentListFactory

spots, start, out = json.load(open(sys.argv[1])), sys.argv[2], sys.argv[3]
experiments = ExperimentListFactory.from_json_file(start, check_format=False)
table = flex.reflection_table()
n = len(spots["h"])
table["miller_index"] = flex.miller_index(*[flex.int(spots[k]) for k in "hkl"])
table["panel"] = flex.size_t(spots["panel"])
table["id"] = flex.int(spots["experiment"])
px = flex.vec3_double(flex.double(spots["fast"]), flex.double(spots["slow"]), flex.double(spots["frame"]))
table["xyzobs.px.value"] = px
table["xyzobs.px.variance"] = flex.vec3_double(n, (0.1, 0.1, 0.1))
table["s1"] = flex.vec3_double(n)
table["flags"] = flex.size_t(n, 0)
table["entering"] = flex.bool(n, False)
table["xyzobs.mm.value"], table["xyzobs.mm.variance"] = flex.vec3_double(n), flex.vec3_double(n)
table.set_flags(flex.bool(n, True), table.flags.indexed)
table.set_flags(flex.bool(n, True), table.flags.strong)
for i, e in enumerate(experiments):
    if not e.identifier:
        e.identifier = str(i)
    table.experiment_identifiers()[i] = e.identifier
table.centroid_px_to_mm(experiments)
table.map_centroids_to_reciprocal_space(experiments)
table.as_file(out + ".refl")
experiments.as_json(out + ".expt")
"""

TO_PREDICTIONS = """
import json, sys
from dials.algorithms.refinement.prediction.managed_predictors import ExperimentsPredictorFactory
from dials.array_family import flex
from dxtbx.model.experiment_list import ExperimentListFactory

experiments = ExperimentListFactory.from_json_file(sys.argv[1], check_format=False)
table = flex.reflection_table.from_file(sys.argv[2])
stills = experiments[0].scan is None or experiments[0].scan.is_still()
if not stills:
    table.calculate_entering_flags(experiments)
predictor = ExperimentsPredictorFactory.from_experiments(experiments, force_stills=stills)
predictor(table)
px = [
    experiments[i].detector[p].millimeter_to_pixel(xyz[:2])
    for i, p, xyz in zip(table["id"], table["panel"], table["xyzcal.mm"])
]
json.dump([list(p) for p in px], open(sys.argv[3], "w"))
"""

OPTIONS = (
    "refinement.parameterisation.scan_varying=False",
    "refinement.reflections.outlier.algorithm=null",
    "refinement.parameterisation.auto_reduction.action=fix",
    "refinement.parameterisation.auto_reduction.min_nref_per_parameter=1",
    "refinement.reflections.reflections_per_degree=None",
    "refinement.reflections.close_to_spindle_cutoff=0",
)


def read_spots(path: Path) -> dict[str, list[Any]]:
    """The spots that a run used or held out, by column."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["used"] == "1" or row["heldout"] == "1"]
    numbers = {name: [int(row[name]) for row in rows] for name in ("h", "k", "l", "panel")}
    places = {
        to: [float(row[of] or 0.5) for row in rows]  # a still has no frame: the middle of its one
        for to, of in (("fast", "observed_fast_px"), ("slow", "observed_slow_px"), ("frame", "observed_frame"))
    }
    ends = {
        to: [float(row[of]) for row in rows] for to, of in (("end_fast", "end_fast_px"), ("end_slow", "end_slow_px"))
    }
    heldout = {"heldout": [row["heldout"] == "1" for row in rows]}
    # of stills the first column is the number of the still, and there is no observed frame
    expts = {"experiment": [0 if row["observed_frame"] else int(float(row["frame"])) for row in rows]}
    return {**numbers, **places, **ends, **heldout, **expts}


def run(script: str, *arguments: str | Path) -> None:
    """Run ``script`` with the Python of dials."""
    python = shutil.which("dials.python") or "/usr/bin/python3"
    done = subprocess.run([python, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{python}: {done.stderr.strip()[-2000:]}")


def rms(spots: dict[str, list[Any]], fast: Any, slow: Any, chosen: np.ndarray) -> tuple[float, float]:
    """Root mean square distances along fast and slow, pixels."""
    rows = [np.asarray(spots["fast"]) - fast, np.asarray(spots["slow"]) - slow]
    values = [float(np.sqrt(np.mean(row[chosen] ** 2))) if chosen.any() else float("nan") for row in rows]
    return values[0], values[1]


def refine(folder: Path, options: list[str]) -> tuple[float, float]:
    """``dials.refine`` on what :data:`TO_REFLECTIONS` wrote; (wall, CPU) seconds."""
    before, start = os.times(), time.perf_counter()
    arguments = ["dials.refine", "fitted.expt", "fitted.refl", *OPTIONS, *options]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode or not (folder / "refined.expt").exists():
        sys.exit(f"dials.refine: {(done.stdout + done.stderr).strip()[-3000:]}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, cpu


def compare(run_folder: Path, start: Path, options: list[str]) -> list[dict[str, Any]]:
    """A row for each program."""
    spots = read_spots(run_folder / "spots.csv")
    heldout = np.array(spots["heldout"])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, chosen in (("fitted", ~heldout), ("all", np.ones_like(heldout))):
            some = {
                key: [value for value, keep in zip(values, chosen, strict=True) if keep]
                for key, values in spots.items()
            }
            (folder / f"{name}.json").write_text(json.dumps(some))
            run(TO_REFLECTIONS, folder / f"{name}.json", start, folder / name)
        wall, cpu = refine(folder, options)
        run(TO_PREDICTIONS, folder / "refined.expt", folder / "all.refl", folder / "predicted.json")
        predicted = np.array(json.loads((folder / "predicted.json").read_text()))
    timing = json.loads((run_folder / "result.json").read_text())["timing"]
    rows = []
    for name, fast, slow, seconds in (
        ("dials.refine", predicted[:, 0], predicted[:, 1], (wall, cpu)),
        ("nb-refine", spots["end_fast"], spots["end_slow"], (timing["solve_wall_s"], timing["solve_cpu_s"])),
    ):
        fitted, left = rms(spots, fast, slow, ~heldout), rms(spots, fast, slow, heldout)
        rows.append(
            {
                "program": name,
                "spots": int((~heldout).sum()),
                "rms px": "/".join(f"{x:.3f}" for x in fitted),
                "left out": int(heldout.sum()),
                "their rms px": "/".join(f"{x:.3f}" for x in left),
                "wall s": seconds[0],
                "cpu s": seconds[1],
            }
        )
    return rows


def main() -> None:
    """Compare one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished nb-refine")
    parser.add_argument("start", type=Path, help="the .expt it began with")
    parser.add_argument("options", nargs="*", help="more for dials.refine, such as detector.fix=distance")
    given = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from benchmarks.measuring import table

    print(table(compare(given.run, given.start, given.options)))


if __name__ == "__main__":
    main()
