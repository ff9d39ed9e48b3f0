"""The embedded experiment: what `make refine` fits."""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from nbtorch.io import read_amplitudes, read_expt, read_frame, valid_pixels
from refine.__main__ import main
from refine.settings.paths import default_data_dir

FOLDER = default_data_dir()


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """generate.py, which is a script beside the data and no module of the package."""
    spec = importlib.util.spec_from_file_location("generate", FOLDER / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 1.5e6


def test_its_files_belong_together() -> None:
    entry = read_expt(FOLDER / "start.expt")[0]
    assert entry.crystal is not None
    assert len(entry.images) == 4
    panel = entry.detector.panels[0]
    assert panel.size == (487, 619)
    assert panel.thickness == 0.32
    for path in entry.images:
        (counts,) = read_frame(path).panel_arrays(entry.detector)
        valid = valid_pixels(panel, counts)
        assert valid.mean() == pytest.approx(1 - 34 / 619, abs=1e-3)  # two gaps of 17 rows, and a few dead pixels
        assert 0.2 < counts[valid].mean() < 2.0  # real frames hold little
    amplitudes = read_amplitudes(FOLDER / "amplitudes.mtz")
    assert amplitudes.cell == pytest.approx(entry.crystal.cell, abs=1e-3)
    assert amplitudes.space_group == entry.crystal.space_group == "P 43 21 2"


def test_the_generator_makes_its_geometry_and_truth(generator: ModuleType) -> None:
    assert json.loads((FOLDER / "start.expt").read_text()) == generator.start_document()
    assert json.loads((FOLDER / "truth.json").read_text()) == generator.truth()


def test_the_generator_makes_its_amplitudes(generator: ModuleType, tmp_path: Path) -> None:
    generator.write_amplitudes(tmp_path / "again.mtz", np.random.default_rng(generator.SEED))
    ours, again = (read_amplitudes(path) for path in (FOLDER / "amplitudes.mtz", tmp_path / "again.mtz"))
    assert np.array_equal(ours.hkl, again.hkl)
    assert np.allclose(ours.F, again.F, rtol=1e-6)  # float32 in the file; libraries may differ in the last bit


def test_the_truth_names_parameters_of_the_fit_and_lies_off_the_start() -> None:
    truth = json.loads((FOLDER / "truth.json").read_text())["parameters"]
    assert {
        f"detector.detector.{kind}_{axis}" for kind in ("shift", "rot") for axis in ("fast", "slow", "normal")
    } <= set(truth)
    assert min(abs(value) for name, value in truth.items() if name.startswith("detector")) > 0.1


@pytest.mark.slow
def test_the_generator_makes_its_frames(generator: ModuleType, tmp_path: Path) -> None:
    generator.generate(tmp_path)
    for path in read_expt(FOLDER / "start.expt")[0].images:
        ours, again = (np.asarray(read_frame(folder / path.name).counts) for folder in (FOLDER, tmp_path))
        # a Poisson deviate may fall on the other side where the mean differs in its last bit
        assert (ours != again).mean() < 1e-4


@pytest.mark.slow
def test_the_fit_finds_the_truth_in_under_three_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    started = time.process_time()
    assert main(["hydra.run.dir=out", "trainer.progress=lines"]) == 0
    spent = time.process_time() - started
    found = json.loads((tmp_path / "out" / "result.json").read_text())
    assert found["converged"]
    rows = {row["name"]: row for row in found["truth"]}
    assert set(rows) >= set(json.loads((FOLDER / "truth.json").read_text())["parameters"]) - {"crystal[0].b"}
    assert max(abs(row["in_sigmas"]) for row in rows.values()) < 3.5  # worst seen 1.3 of 15
    assert found["spots"]["rms_end_px"] == pytest.approx([0.18, 0.22], abs=0.01)
    assert np.hypot(*found["spots"]["rms_start_px"]) > 3.0
    assert spent < 180  # seconds of one core; seen 106
