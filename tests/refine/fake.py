"""An outcome such as a fit leaves, made without fitting: two panels, thirty spots, one rejected, five left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from nbtorch.config import BeamConfig, CrystalConfig, DetectorConfig, PanelConfig, PanelGroup
from refine.records.journal import JournalEntry
from refine.records.model_value import ModelValue
from refine.records.outcome import (
    Correlation,
    FrameRow,
    Goodness,
    Iteration,
    Outcome,
    ParameterRow,
    SpotRow,
    Undetermined,
)
from refine.records.pictures import FramePicture, SpotBox
from refine.records.provenance import DataFile, Provenance
from refine.report.result import Finding, TruthRow


def panel(name: str, origin_x: float) -> PanelConfig:
    return PanelConfig(
        (1.0, 0.0, 0.0),
        (0.0, -1.0, 0.0),
        (origin_x, 53.0, -100.0),
        (0.172, 0.172),
        (240, 619),
        name=name,
        thickness=0.32,
    )


def detector(shift: float = 0.0) -> DetectorConfig:
    panels = (panel("left", -42.0 + shift), panel("right", 0.5 + shift))
    children = (PanelGroup("west", (0,)), PanelGroup("east", (1,)))
    return DetectorConfig(panels, PanelGroup("detector", (), children))


def spots(rng: np.random.Generator) -> tuple[SpotRow, ...]:
    """Of a scan of two frames. What a run leaves empty is empty here: the boxes of spots that the fit did not see."""
    rows = []
    for index in range(30):
        fast, slow = rng.uniform(10, 230), rng.uniform(10, 600)
        dx, dy = rng.normal(0, 0.15, 2)
        frame, counts = float(rng.uniform(0, 2)), float(rng.integers(50, 5000))
        row = SpotRow(
            experiment=0,
            frame=frame,
            panel=index % 2,
            h=index - 15,
            k=3,
            l=-index,
            observed_fast_px=fast + dx,
            observed_slow_px=slow + dy,
            observed_frame=frame,
            start_fast_px=fast + 5.0 + 0.005 * slow,
            start_slow_px=slow - 3.0,
            end_fast_px=fast,
            end_slow_px=slow,
            counts=counts,
            radial_px=dx,
            tangential_px=dy,
            d=float(rng.uniform(1.5, 8)),
            used=index % 6 != 0,
            heldout=index % 6 == 0,
        )
        rows.append(_rejected(row) if index == 7 else row if row.heldout else _with_box(row, rng))
    return tuple(rows)


def _with_box(row: SpotRow, rng: np.random.Generator) -> SpotRow:
    light, scale = rng.normal(row.counts, row.counts**0.5), rng.normal(1.0, 0.02)
    sigma = row.counts**0.5
    return replace(
        row,
        scale=float(scale),
        scale_sigma=float(scale * sigma / row.counts),
        intensity=float(light),
        intensity_sigma=sigma,
        background=0.5,
        chi_square=float(rng.uniform(0.8, 1.2)),
    )


def _rejected(row: SpotRow) -> SpotRow:
    nan = float("nan")
    no_index = {"h": 0, "k": 0, "l": 0, "radial_px": None, "tangential_px": None, "d": None}
    nowhere = dict.fromkeys(("start_fast_px", "start_slow_px", "end_fast_px", "end_slow_px"), nan)
    return replace(row, **no_index, **nowhere, used=False, reason="overlaps (1 0 3)")  # type: ignore[arg-type]


def spot_box(row: SpotRow, rng: np.random.Generator) -> SpotBox:
    """Three frames of 13 × 13 pixels about ``row``, one of them masked."""
    y, x = np.mgrid[-6:7, -6:7]
    shape = 2 + 60 * np.exp(-(x**2 + y**2) / 4)
    model = np.stack([0.3 * shape, shape, 0.2 * shape]).astype(np.float32)
    observed = rng.poisson(model).astype(np.float32)
    z = (observed - model) / np.sqrt(model)
    for image in (observed, model, z):
        image[:, 0, 0] = np.nan
    place = int(row.end_fast_px) - 6, int(row.end_slow_px) - 6, int(row.frame)
    return SpotBox(row.experiment, row.panel, row.h, row.k, row.l, *place, row.chi_square or 1.0, observed, model, z)


def frame_picture(rng: np.random.Generator) -> FramePicture:
    levels = [
        rng.integers(1, 60, (panel.size[1] // 4, panel.size[0] // 4)).astype(np.uint8) for panel in detector().panels
    ]
    levels[0][:3] = 0
    return FramePicture(0, 0, "frame_0001.cbf", 4, 2.0, 400.0, tuple(levels))


PARAMETERS = (
    ParameterRow("detector.detector.shift_fast", "mm", 0.0, 0.8123, 0.0021, 0.0015),
    ParameterRow("detector.detector.shift_normal", "mm", 0.0, -0.31, None, None),
    ParameterRow("detector.detector.rot_slow", "deg", 0.0, 0.2991, 0.004, 0.003),
    ParameterRow("crystal[0].rot_x", "deg", 0.0, -0.0512, 0.0009, 0.0008),
    ParameterRow("crystal[0].a", "Å", 79.0, 79.081, 0.012, 0.011),
    ParameterRow("crystal[0].b", "Å", 79.0, 79.081, None, None, free=False, tied_to="crystal[0].a"),
    ParameterRow("crystal[0].n_a", "", 20.0, 400.0, 30.0, 30.0, at_bound=True),
    ParameterRow("beam.wavelength", "Å", 0.9763, 0.9763, None, None, free=False),
)


MODEL = (
    ModelValue("wavelength", 0.9763, "Å", "stated", ".expt"),
    ModelValue("spot shape", "gauss_hkl", "", "assumed", "nothing says which"),
    ModelValue("number of cells", [400.0, 20.0, 24.0], "", "fitted", "parameters"),
    ModelValue("sub-pixels a side", 2, "", "estimated", "the spots' width"),
)


JOURNAL = (
    JournalEntry("spots_indexed", "found 31 spots, 30 with an index", "info", {"found": 31, "indexed": 30}),
    JournalEntry("few_spots", "21 parameters were fitted to 30 spots", "warning", {"parameters": 21, "spots": 30}),
    JournalEntry(
        "n_cells_from_width",
        "crystal.n_cells = 21.0, 20.0, 24.0: from the spots' width, rms 0.90 px",
        "choice",
        {"n_cells": [21.0, 20.0, 24.0], "width_px": 0.9},
    ),
)


def correlation() -> Correlation:
    names = tuple(row.name for row in PARAMETERS if row.free)
    matrix = np.eye(len(names))
    matrix[1, 4] = matrix[4, 1] = 0.9991
    matrix[0, 2] = matrix[2, 0] = -0.45
    return Correlation(names, matrix, ((names[1], names[4], 0.9991),))


def outcome(*, converged: bool = True) -> Outcome:
    rng = np.random.default_rng(3)
    history = [Iteration(i, "positions", 1e5 * 0.2**i, 5 * 0.4**i, 3 * 0.4**i, None, None) for i in range(4)]
    history += [Iteration(4 + i, "pixels", 1e4 * (1 + 0.2**i), 0.3, 0.2, 10.0**-i, 3.0 * 0.1**i) for i in range(6)]
    found = spots(rng)
    boxes = sorted((spot_box(row, rng) for row in found if row.used), key=lambda box: box.chi_square)
    return Outcome(
        parameters=PARAMETERS,
        undetermined=(Undetermined("detector.detector.shift_normal + 0.0063·crystal[0].a", "distance and cell scale"),),
        correlation=correlation(),
        converged=converged,
        message="the last step moved nothing by more than 0.02 sigma" if converged else "40 iterations were not enough",
        history=tuple(history),
        spots=found,
        frames=(
            FrameRow(0, "frame_0001.cbf", 14, 0.21, 1.01, experiment=0, frame=0),
            FrameRow(
                1,
                "frame_0002.cbf",
                0,
                None,
                None,
                ok=False,
                message="the file ends before its data",
                experiment=0,
                frame=1,
            ),
        ),
        frame_pictures=(frame_picture(rng),),
        spot_boxes=tuple(boxes),
        goodness=Goodness(
            1.05,
            1.4,
            tuple(np.linspace(-5, 5, 41)),
            tuple(200 * np.exp(-(np.linspace(-5, 5, 40) ** 2) / 2)),
            0.14,
            0.16,
        ),
        detector_start=detector(),
        detector_end=detector(0.8),
        detectors={0: detector(0.8)},
        beams={0: BeamConfig(0.9763, (0.0, 0.0, -1.0), (1.0, 0.0, 0.0), 0.998)},
        crystals={0: CrystalConfig((79.081, 79.081, 38.0, 90.0, 90.0, 90.0))},
        rms_start_px=(6.5, 3.0),
        rms_end_px=(0.15, 0.16),
        rms_heldout_px=(0.18, 0.15),
        solve_wall_s=12.3,
        solve_cpu_s=20.1,
        model=MODEL,
        journal=JOURNAL,
    )


def record() -> Provenance:
    return Provenance(
        version="0.1.0",
        command="nb-refine data.experiment='a <b> & c.expt'",
        seed=3,
        started="2024-01-02T03:04:05+00:00",
        python="3.11.7",
        machine="Linux x86_64",
        threads=2,
        versions=(("torch", "2.13.0"), ("numpy", "2.4.6")),
    )


def finding(*, converged: bool = True, stopped_by: str = "", truth: bool = True) -> Finding:
    rows = (TruthRow("detector.detector.shift_fast", "mm", 0.0, 0.8123, 0.0021, 0.81),) if truth else ()
    files = (DataFile("start.expt", 100, "ab" * 32), DataFile("gone.cbf", None, None))
    return Finding(outcome(converged=converged), record(), files, rows, stopped_by)


def write_experiment(path: Path) -> Path:
    """A start.expt with the models of :func:`outcome`, as dxtbx writes it."""
    import json

    def model(shown: PanelConfig) -> dict[str, object]:
        return {
            "name": shown.name,
            "type": "SENSOR_PAD",
            "fast_axis": list(shown.fast_axis),
            "slow_axis": list(shown.slow_axis),
            "origin": list(shown.origin),
            "raw_image_offset": [0, 0],
            "image_size": list(shown.size),
            "pixel_size": list(shown.pixel_size),
            "trusted_range": [-1.0, 1e6],
            "thickness": 0.32,
            "material": "Si",
            "mu": 3.0,
            "identifier": "",
            "mask": [],
            "gain": 1.0,
            "pedestal": 0.0,
            "px_mm_strategy": {"type": "SimplePxMmStrategy"},
        }

    frame = {"fast_axis": [1.0, 0.0, 0.0], "slow_axis": [0.0, 1.0, 0.0], "origin": [0.0, 0.0, 0.0]}
    hierarchy = {"name": "detector", **frame, "children": [{"panel": 0}, {"panel": 1}]}
    crystal = {
        "__id__": "crystal",
        "real_space_a": [79.0, 0.0, 0.0],
        "real_space_b": [0.0, 79.0, 0.0],
        "real_space_c": [0.0, 0.0, 38.0],
        "space_group_hall_symbol": " P 1",
    }
    beam = {
        "direction": [0.0, 0.0, 1.0],
        "wavelength": 0.9763,
        "divergence": 0.0,
        "sigma_divergence": 0.0,
        "polarization_normal": [0.0, 1.0, 0.0],
        "polarization_fraction": 0.999,
        "flux": 0.0,
        "transmission": 1.0,
    }
    document = {
        "__id__": "ExperimentList",
        "experiment": [
            {"__id__": "Experiment", "identifier": "", "beam": 0, "detector": 0, "crystal": 0, "imageset": 0}
        ],
        "imageset": [{"__id__": "ImageSet", "images": ["frame_0001.cbf"]}],
        "beam": [beam],
        "detector": [{"panels": [model(shown) for shown in detector().panels], "hierarchy": hierarchy}],
        "goniometer": [],
        "scan": [],
        "crystal": [crystal],
        "profile": [],
        "scaling_model": [],
    }
    path.write_text(json.dumps(document))
    return path
