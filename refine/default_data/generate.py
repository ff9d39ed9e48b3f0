"""Makes the embedded experiment: python refine/default_data/generate.py [FOLDER]

Four frames of a quarter of a degree of a lysozyme crystal on a Pilatus 300K, simulated with nbtorch's own renderer and
the noise of counting photons. The detector stands off and tilted from what start.expt says, and the crystal is misset:
truth.json holds by how much, in the names that the fit reports. Amplitudes follow Wilson's statistics, not a protein.
"""

from __future__ import annotations

import gzip
import json
import math
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import torch
from numpy.typing import NDArray

from nbtorch.config import BeamConfig, CrystalConfig, MosaicConfig, RenderSettings, ScanConfig
from nbtorch.io import read_amplitudes, read_expt
from nbtorch.io.atomic import write_bytes, write_text
from nbtorch.io.cbf import write_cbf
from nbtorch.models import Beam, Crystal, Detector, Experiment, StructureFactors
from nbtorch.render import Renderer
from nbtorch.units import CLASSICAL_ELECTRON_RADIUS_SQUARED

Array = NDArray[np.float64]

SEED = 20240229
CELL = (79.1, 79.1, 37.9, 90.0, 90.0, 90.0)
SPACE_GROUP = "P 43 21 2"
WAVELENGTH, DISTANCE = 0.9795, 150.0  # Å, mm
PIXEL, SIZE = 0.172, (487, 619)  # mm; fast, slow
THICKNESS, ABSORPTION = 0.32, 3.96  # mm of silicon, mm⁻¹ at 12.66 keV
GAPS = ((0, 195, 487, 212), (0, 407, 487, 424))  # between the three modules
FRAMES, OSCILLATION = 4, 0.25  # degrees
SHIFT, TILT = (0.42, -0.31, 0.55), (0.28, -0.21, 0.16)  # mm, degrees: along fast, slow, normal
MISSET = (0.09, -0.06, 0.11)  # degrees about lab x, y, z
N_CELLS, MOSAIC_SPREAD, MOSAIC_DOMAINS = (10.0, 10.0, 20.0), 0.05, 64
LAYERS, OVERSAMPLE, SPINDLE_STEPS = 2, 3, 8
STRONGEST = 3.0e3  # counts of the brightest pixel
DEAD_PIXELS = 15
DMIN, B_FACTOR = 2.1, 18.0  # Å, Å²


def orientation() -> Array:
    """An orientation with no axis along the beam or the spindle."""
    return rotation(np.array([0.4, -0.75, 0.53]), 64.0)


def rotation(axis: Array, degrees: float) -> Array:
    """The rotation matrix [3, 3] about ``axis`` (Rodrigues)."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = math.radians(degrees)
    return np.asarray(np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross)


def start_document() -> dict[str, Any]:
    """start.expt: the geometry of the header, with the detector centred and square to the beam."""
    width, height = (count * PIXEL for count in SIZE)
    panel = {
        "name": "Panel",
        "type": "SENSOR_PAD",
        "fast_axis": [1.0, 0.0, 0.0],
        "slow_axis": [0.0, -1.0, 0.0],
        "origin": [round(-width / 2, 4), round(height / 2, 4), -DISTANCE],
        "raw_image_offset": [0, 0],
        "image_size": list(SIZE),
        "pixel_size": [PIXEL, PIXEL],
        "trusted_range": [-1.0, 1048575.0],
        "thickness": THICKNESS,
        "material": "Si",
        "mu": ABSORPTION,
        "identifier": "PILATUS 300K, simulated",
        "mask": [list(gap) for gap in GAPS],
        "gain": 1.0,
        "pedestal": 0.0,
        "px_mm_strategy": {"type": "ParallaxCorrectedPxMmStrategy"},
    }
    rows = np.diag(CELL[:3]) @ orientation().T
    names = ("real_space_a", "real_space_b", "real_space_c")
    crystal = {name: row.round(8).tolist() for name, row in zip(names, rows, strict=True)}
    identity = np.eye(3).ravel().tolist()
    return {
        "__id__": "ExperimentList",
        "experiment": [
            {"__id__": "Experiment", "identifier": "nbtorch-default"}
            | dict.fromkeys(("beam", "detector", "goniometer", "scan", "crystal", "imageset"), 0)
        ],
        "imageset": [{"__id__": "ImageSequence", "template": "lysozyme_####.cbf", "params": {}}],
        "beam": [
            {
                "direction": [0.0, 0.0, 1.0],
                "wavelength": WAVELENGTH,
                "divergence": 0.0,
                "sigma_divergence": 0.0,
                "polarization_normal": [0.0, 1.0, 0.0],
                "polarization_fraction": 0.99,
                "flux": 0.0,
                "transmission": 1.0,
            }
        ],
        "detector": [{"panels": [panel], "hierarchy": {"name": "", "children": [{"panel": 0}]}}],
        "goniometer": [{"rotation_axis": [1.0, 0.0, 0.0], "fixed_rotation": identity, "setting_rotation": identity}],
        "scan": [
            {
                "image_range": [1, FRAMES],
                "batch_offset": 0,
                "oscillation": [0.0, OSCILLATION],
                "exposure_time": [0.5] * FRAMES,
                "epochs": [0.5 * frame for frame in range(FRAMES)],
                "valid_image_ranges": {},
            }
        ],
        "crystal": [{"__id__": "crystal", **crystal, "space_group_hall_symbol": hall_symbol()}],
        "profile": [],
        "scaling_model": [],
    }


def hall_symbol() -> str:
    """Of the crystal's space group."""
    return str(gemmi.SpaceGroup(SPACE_GROUP).hall)


def write_amplitudes(path: Path, rng: np.random.Generator) -> None:
    """Unique amplitudes whose intensities follow Wilson (Acta Cryst. 2, 318, 1949), as an MTZ file."""
    group, cell = gemmi.SpaceGroup(SPACE_GROUP), gemmi.UnitCell(*CELL)
    hkl = gemmi.make_miller_array(cell, group, DMIN)
    stol2 = np.array([1 / (4 * cell.calculate_d(list(index)) ** 2) for index in hkl.tolist()])
    operations = group.operations()
    centric = np.array([operations.is_reflection_centric(index) for index in hkl.tolist()])
    epsilon = np.array([operations.epsilon_factor(index) for index in hkl.tolist()])
    mean = 4.0e4 * np.exp(-2 * B_FACTOR * stol2) * epsilon
    normal = rng.standard_normal((len(hkl), 2))
    intensity = mean * np.where(centric, normal[:, 0] ** 2, (normal**2).sum(1) / 2)
    mtz = gemmi.Mtz(with_base=True)
    mtz.spacegroup = group
    mtz.set_cell_for_all(cell)
    mtz.add_dataset("simulated")
    mtz.add_column("FC", "F")
    mtz.set_data(np.column_stack([hkl, np.sqrt(intensity)]).astype(np.float32))
    mtz.history = ["Wilson statistics, seed %d" % SEED]  # noqa: UP031 - gemmi wants a plain str
    mtz.write_to_file(str(path))


def true_experiment(folder: Path) -> tuple[Experiment, ScanConfig]:
    """The experiment as it really stands, from the files of ``folder`` and the truth above."""
    entry = read_expt(folder / "start.expt")[0]
    assert entry.crystal is not None
    assert entry.scan is not None
    mosaic = MosaicConfig(MOSAIC_SPREAD, MOSAIC_DOMAINS)
    config: CrystalConfig = replace(entry.crystal, n_cells=N_CELLS, shape="gauss_hkl", mosaic=mosaic)
    beam: BeamConfig = replace(entry.beam, fluence=1 / CLASSICAL_ELECTRON_RADIUS_SQUARED)
    amplitudes = read_amplitudes(folder / "amplitudes.mtz")
    crystal, detector = Crystal(config), Detector(replace(entry.detector, layers=LAYERS))
    with torch.no_grad():
        crystal.rotation.copy_(torch.tensor(MISSET))
        detector.shift[0] = torch.tensor(SHIFT, dtype=torch.float64)
        detector.rotation[0] = torch.tensor(TILT, dtype=torch.float64)
    factors = StructureFactors(amplitudes.hkl, amplitudes.F)
    return Experiment(crystal, Beam(beam), detector, factors), entry.scan


def background(experiment: Experiment) -> Array:
    """Counts of air, solvent ring and detector a pixel [slow, fast], before noise."""
    fast, slow, _, origin = experiment.detector.frames()[0].detach().numpy()
    s, f = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5
    position = origin + (PIXEL * f)[..., None] * fast + (PIXEL * s)[..., None] * slow
    length = np.linalg.norm(position, axis=-1)
    sine = np.sqrt((1 + position[..., 2] / length) / 2)  # of θ; the beam travels along −z
    inverse_d = 2 * sine / WAVELENGTH
    ring = np.exp(-(((inverse_d - 1 / 3.4) / 0.07) ** 2))
    return np.asarray(0.15 + 0.5 * np.exp(-inverse_d / 0.12) + 0.75 * ring)


def photons(experiment: Experiment, scan: ScanConfig) -> list[Array]:
    """The crystal's photons on every frame [slow, fast], scaled to STRONGEST."""
    renderer = Renderer(experiment, settings=RenderSettings(oversample=OVERSAMPLE))
    with torch.no_grad():
        images = [renderer.images(scan.exposure(frame, SPINDLE_STEPS))[0].numpy() for frame in range(FRAMES)]
    scale = STRONGEST / max(float(image.max()) for image in images)
    return [scale * image for image in images]


def write_frames(folder: Path, rng: np.random.Generator) -> None:
    """Render, add background and noise, and write the compressed frames."""
    experiment, scan = true_experiment(folder)
    scattered = background(experiment)
    dead = rng.integers(0, SIZE[0] * SIZE[1], DEAD_PIXELS)
    for number, image in enumerate(photons(experiment, scan), 1):
        counts = rng.poisson(image + scattered).astype(np.int32)
        counts.ravel()[dead] = -2
        for fast0, slow0, fast1, slow1 in GAPS:
            counts[slow0:slow1, fast0:fast1] = -1
        with tempfile.TemporaryDirectory() as temporary:
            plain = write_cbf(Path(temporary) / "frame.cbf", counts, {"Detector:": "PILATUS 300K, simulated"})
            content = gzip.compress(plain.read_bytes(), compresslevel=9, mtime=0)
        write_bytes(folder / f"lysozyme_{number:04d}.cbf.gz", content, overwrite=True)


def truth() -> dict[str, Any]:
    """What a fit should find, in the names and units that it reports."""
    values: dict[str, float] = {}
    for kind, numbers in (("shift", SHIFT), ("rot", TILT)):
        values |= {
            f"detector.detector.{kind}_{axis}": x for axis, x in zip(("fast", "slow", "normal"), numbers, strict=True)
        }
    values |= {f"crystal[0].rot_{axis}": x for axis, x in zip("xyz", MISSET, strict=True)}
    values |= {f"crystal[0].{name}": x for name, x in zip(("a", "b", "c"), CELL, strict=False)}
    values |= {f"crystal[0].n_{axis}": x for axis, x in zip("abc", N_CELLS, strict=True)}
    return {"parameters": values | {"crystal[0].mosaic_spread": MOSAIC_SPREAD}, "made_by": "generate.py", "seed": SEED}


def generate(folder: Path) -> None:
    """Write the whole experiment into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    write_text(folder / "start.expt", json.dumps(start_document(), indent=1) + "\n", overwrite=True)
    write_text(folder / "truth.json", json.dumps(truth(), indent=1) + "\n", overwrite=True)
    write_amplitudes(folder / "amplitudes.mtz", rng)
    write_frames(folder, rng)


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
