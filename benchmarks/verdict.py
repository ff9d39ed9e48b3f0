"""The verdict scored: right and wrong fits of simulated frames, and what each was called.

    python -m benchmarks.verdict --each 6 [--kinds right upside-down …]

Frames are simulated, spots found, indexed and fitted by their positions, rivals weighed, and the verdict asked; the
iterations over pixels are left out. Each kind of wrong fit is one mistake in what the program is given.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from nbtorch.config import RenderSettings
from nbtorch.errors import NbtorchError
from nbtorch.io import read_expt, write_cbf
from nbtorch.io.expt import ExperimentEntry
from nbtorch.models import Beam, Crystal, Detector, Experiment, StructureFactors
from nbtorch.render import Renderer
from nbtorch.units import CLASSICAL_ELECTRON_RADIUS_SQUARED
from refine.conclude.frame_rows import frame_rows
from refine.conclude.refined_models import refined_crystals
from refine.conclude.spot_rows import rms, spot_rows
from refine.fit.judge import gather
from refine.fit.loop import Loop
from refine.fit.prepare import prepare
from refine.parameters.moved_experiment import moved_experiment
from refine.records.journal import Journal
from refine.records.outcome import Goodness, Outcome
from refine.settings.fit_settings import CrystalSettings, DataSettings, FitSettings, ParameterSettings
from refine.verdict.rules import verdict

SIZE, PIXEL, DISTANCE, WAVELENGTH = 260, 0.172, 70.0, 1.0
CELL, N_CELLS = (41.0, 47.0, 56.0), (16.0, 14.0, 12.0)
STRONGEST, BACKGROUND = 3000.0, 1.0
ORIGIN = (-27.0, 18.0)  # mm: the beam centre lies off the middle, at (157, 105) px
FRAMES, WIDTH = 3, 1.0  # of a scan
_RIGHT = 0.1  # mm from its true place up to which a detector is right


@dataclass(frozen=True)
class Case:
    """What a kind of fit is given: ``wrong`` changes the document of the start, ``amplitudes`` those of the file."""

    name: str
    wrong: Callable[[dict[str, Any], np.random.Generator], None] | None = None
    shuffled: bool = False
    centred: bool = False
    crystals: int = 1
    scan: bool = False


def _panel(document: dict[str, Any]) -> dict[str, Any]:
    return document["detector"][0]["panels"][0]


def _turn_crystal(document: dict[str, Any], turn: Rotation) -> None:
    for axis in "abc":
        crystal = document["crystal"][0]
        crystal[f"real_space_{axis}"] = turn.apply(crystal[f"real_space_{axis}"]).tolist()


def one_row_off(document: dict[str, Any], rng: np.random.Generator) -> None:
    """Turn the crystal about the beam's sides and shift the detector, as indices off by one ask for."""
    rows = np.array([document["crystal"][0][f"real_space_{axis}"] for axis in "abc"])
    star = np.linalg.inv(rows).T[rng.integers(3)]
    origin = np.array(_panel(document)["origin"])
    origin[:2] += WAVELENGTH * DISTANCE * star[:2]
    _panel(document)["origin"] = origin.tolist()


def wrong_cell(document: dict[str, Any], rng: np.random.Generator) -> None:
    """One axis 8 % off."""
    name = f"real_space_{'abc'[rng.integers(3)]}"
    document["crystal"][0][name] = (1.08 * np.array(document["crystal"][0][name])).tolist()


def wrong_orientation(document: dict[str, Any], rng: np.random.Generator) -> None:
    """Another orientation altogether."""
    _turn_crystal(document, Rotation.random(random_state=int(rng.integers(2**31))))


def tetragonal(document: dict[str, Any], rng: np.random.Generator) -> None:
    """A cell with a = b, where they differ by 14 %."""
    crystal = document["crystal"][0]
    for axis in "ab":
        row = np.array(crystal[f"real_space_{axis}"])
        crystal[f"real_space_{axis}"] = (row / np.linalg.norm(row) * np.sqrt(CELL[0] * CELL[1])).tolist()
    crystal["space_group_hall_symbol"] = " P 4 2"


def upside_down(document: dict[str, Any], rng: np.random.Generator) -> None:
    """The detector turned by 180° about the beam."""
    panel = _panel(document)
    for name in ("fast_axis", "slow_axis", "origin"):
        panel[name] = [-panel[name][0], -panel[name][1], panel[name][2]]


def wavelength(document: dict[str, Any], rng: np.random.Generator) -> None:
    """2 % off."""
    document["beam"][0]["wavelength"] *= 1 + 0.02 * rng.choice([-1, 1])


def exchanged(document: dict[str, Any], rng: np.random.Generator) -> None:
    """The beam centre's fast and slow exchanged."""
    panel = _panel(document)
    panel["origin"] = [-panel["origin"][1], -panel["origin"][0], panel["origin"][2]]


def other_way(document: dict[str, Any], rng: np.random.Generator) -> None:
    """The spindle turns the other way."""
    goniometer = document["goniometer"][0]
    goniometer["rotation_axis"] = [-value for value in goniometer["rotation_axis"]]


CASES = (
    Case("right"),
    Case("right scan", scan=True),
    Case("wrong indices", one_row_off),
    Case("wrong cell", wrong_cell),
    Case("wrong orientation", wrong_orientation),
    Case("wrong amplitudes", shuffled=True),
    Case("wrong space group: centring", centred=True),
    Case("wrong space group: tetragonal", tetragonal),
    Case("two crystals", crystals=2),
    Case("detector upside down", upside_down),
    Case("wavelength 2 % off", wavelength),
    Case("beam centre exchanged", exchanged),
    Case("oscillation sign wrong", other_way, scan=True),
)


def document(rng: np.random.Generator, *, scan: bool) -> dict[str, Any]:
    """The experiment as it truly stands, as dxtbx writes it."""
    rows = Rotation.random(random_state=int(rng.integers(2**31))).apply(np.diag(CELL))
    panel = {
        "name": "Panel", "type": "SENSOR_PAD", "fast_axis": [1.0, 0.0, 0.0], "slow_axis": [0.0, -1.0, 0.0],
        "origin": [*ORIGIN, -DISTANCE], "raw_image_offset": [0, 0], "image_size": [SIZE, SIZE],
        "pixel_size": [PIXEL, PIXEL], "trusted_range": [-1.0, 1e6], "thickness": 0.0, "material": "", "mu": 0.0,
        "identifier": "", "mask": [], "gain": 1.0, "pedestal": 0.0,
        "px_mm_strategy": {"type": "SimplePxMmStrategy"},
    }  # fmt: skip
    identity = np.eye(3).ravel().tolist()
    places = dict.fromkeys(("beam", "detector", "crystal", "imageset"), 0)
    places |= dict.fromkeys(("goniometer", "scan"), 0) if scan else {}
    goniometer = {"rotation_axis": [1.0, 0.0, 0.0], "fixed_rotation": identity, "setting_rotation": identity}
    frames = {"image_range": [1, FRAMES], "batch_offset": 0, "oscillation": [20.0, WIDTH]}
    frames |= {"exposure_time": [1.0] * FRAMES, "epochs": [0.0] * FRAMES}
    images = {"__id__": "ImageSequence", "template": "f_###.cbf"}
    vectors = {f"real_space_{name}": row.tolist() for name, row in zip("abc", rows, strict=True)}
    return {
        "__id__": "ExperimentList",
        "experiment": [{"__id__": "Experiment", "identifier": ""} | places],
        "imageset": [images if scan else {"__id__": "ImageSet", "images": ["f_001.cbf"]}],
        "beam": [{"direction": [0.0, 0.0, 1.0], "wavelength": WAVELENGTH, "polarization_normal": [0.0, 1.0, 0.0],
                  "polarization_fraction": 0.99}],
        "detector": [{"panels": [panel], "hierarchy": {"name": "", "children": [{"panel": 0}]}}],
        "goniometer": [goniometer] if scan else [],
        "scan": [frames] if scan else [],
        "crystal": [{"__id__": "crystal", **vectors, "space_group_hall_symbol": " P 2 2"}],
    }  # fmt: skip


def perturbed(given: dict[str, Any], rng: np.random.Generator) -> None:
    """The error of a usual header: about 2 px, 0.1° of the crystal, 0.2 % of the distance."""
    origin = np.array(_panel(given)["origin"]) + rng.normal(0, [0.3, 0.3, 0.15])
    _panel(given)["origin"] = origin.tolist()
    _turn_crystal(given, Rotation.from_rotvec(np.deg2rad(rng.normal(0, 0.1, 3))))


def write(folder: Path, case: Case, rng: np.random.Generator) -> FitSettings:
    """Simulate ``case`` in ``folder``; the settings of its fit."""
    true = document(rng, scan=case.scan)
    hkl, amplitudes = _amplitudes(rng, centred=case.centred)
    images: list[np.ndarray] = []
    for number in range(case.crystals):
        seen = json.loads(json.dumps(true))
        if number:
            _turn_crystal(seen, Rotation.random(random_state=int(rng.integers(2**31))))
        (folder / "true.expt").write_text(json.dumps(seen))
        more = _rendered(read_expt(folder / "true.expt")[0], StructureFactors(hkl, amplitudes))
        images = [a + b for a, b in zip(images, more, strict=True)] if images else more
    scale = STRONGEST / max(float(image.max()) for image in images)
    for number, image in enumerate(images, 1):
        write_cbf(folder / f"f_{number:03d}.cbf", rng.poisson(scale * image + BACKGROUND).astype(np.int32))
    perturbed(true, rng)
    if case.wrong is not None:
        case.wrong(true, rng)
    (folder / "start.expt").write_text(json.dumps(true))
    told = amplitudes if not case.shuffled else rng.permutation(amplitudes)
    if case.centred:
        told = np.where(amplitudes > 0, amplitudes, np.median(amplitudes[amplitudes > 0]))
    np.savetxt(folder / "F.hkl", np.column_stack([hkl, told]), fmt="%d %d %d %.4f")
    return FitSettings(
        data=DataSettings(experiment=str(folder / "start.expt"), amplitudes=str(folder / "F.hkl")),
        crystal=CrystalSettings(mosaic_spread=0.0),
        parameters=ParameterSettings(detector_shift=True, detector_rotation=True, fix=("*.rot_normal",)),
    )


def _amplitudes(rng: np.random.Generator, *, centred: bool) -> tuple[np.ndarray, np.ndarray]:
    """Amplitudes of the point group 222 after Wilson to 2 Å; none where h + k + l is odd if ``centred``."""
    grid = np.stack(np.meshgrid(*[np.arange(-28, 29)] * 3, indexing="ij"), -1).reshape(-1, 3)
    hkl = grid[((grid / np.array(CELL)) ** 2).sum(1) < 1 / 2.0**2]
    unique, place = np.unique(np.abs(hkl), axis=0, return_inverse=True)
    values = np.sqrt(rng.exponential(1e4, len(unique)))[place.ravel()]
    return hkl, np.where(hkl.sum(1) % 2 == 0, values, 0.0) if centred else values


def _rendered(entry: ExperimentEntry, factors: StructureFactors) -> list[np.ndarray]:
    assert entry.crystal is not None
    crystal = Crystal(replace(entry.crystal, n_cells=N_CELLS, shape="gauss_hkl"))
    beam = Beam(replace(entry.beam, fluence=1 / CLASSICAL_ELECTRON_RADIUS_SQUARED))
    renderer = Renderer(
        Experiment(crystal, beam, Detector(entry.detector), factors), settings=RenderSettings(oversample=2)
    )
    exposures = [None] if entry.scan is None else [entry.scan.exposure(frame, 8) for frame in range(FRAMES)]
    with torch.no_grad():
        return [(renderer.images() if e is None else renderer.images(e))[0].numpy() for e in exposures]


def judge(settings: FitSettings) -> tuple[str, tuple[str, ...]]:
    """The level of the verdict on the positions' fit, and the codes that led to it.

    "good, in place": the detector came out where it truly is, whatever the start was.
    """
    try:
        problem = prepare(settings, Journal())
    except NbtorchError as error:
        return "refused", (type(error).__name__,)
    module = Loop(problem)
    values = module.values
    experiments = [moved_experiment(item.expt, values) for item in problem.evidence]
    spots = spot_rows(problem, values, experiments, {}, {})
    outcome = Outcome(
        parameters=(), undetermined=(), correlation=None, converged=True, message="positions", history=(), spots=spots,
        frames=frame_rows(problem, spots, {}, {}), images=(), goodness=Goodness(),
        detector_start=problem.detector, detector_end=problem.detector, detectors={}, beams={},
        crystals=refined_crystals(problem, experiments), rms_start_px=problem.rms_start,
        rms_end_px=rms(spots, heldout=False), rms_heldout_px=None, solve_wall_s=0.0, solve_cpu_s=0.0,
    )  # fmt: skip
    found = verdict(gather(outcome, problem, module), settings.advanced.verdict)
    origin = experiments[0].detector.frames().detach()[0, 3].numpy()
    right = np.abs(origin - [*ORIGIN, -DISTANCE]).max() < _RIGHT
    level = "good, in place" if found.level == "good" and right else found.level
    return level, tuple(row.code for row in found.findings if row.level == found.level)


def main() -> None:
    """Print one line a fit, then the table."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--each", type=int, default=30, help="fits of each kind")
    asked.add_argument("--kinds", nargs="*", help="names, or parts of names; all by default")
    asked.add_argument("--seed", type=int, default=0)
    given = asked.parse_args()
    torch.set_num_threads(1)
    rows: list[tuple[str, Counter[str]]] = []
    for case in CASES:
        if given.kinds and not any(part in case.name for part in given.kinds):
            continue
        counts: Counter[str] = Counter()
        for number in range(given.each):
            rng = np.random.default_rng([given.seed, CASES.index(case), number])
            started = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                level, codes = judge(write(Path(folder), case, rng))
            counts[level] += 1
            print(
                f"{case.name} {number}: {level} {' '.join(codes)} ({time.perf_counter() - started:.1f} s)", flush=True
            )
        rows.append((case.name, counts))
    levels = ("good, in place", "good", "doubtful", "failed", "refused")
    print(f"\n| fits | {' | '.join(levels)} |\n|---|{'---|' * len(levels)}")
    for name, counts in rows:
        print(f"| {name} | {' | '.join(str(counts[level]) for level in levels)} |")


if __name__ == "__main__":
    main()
