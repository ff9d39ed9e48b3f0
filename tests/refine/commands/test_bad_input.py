"""What is wrong with the input is told in one paragraph: what was given, why it fails, what to change."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbtorch.io import write_cbf
from refine.__main__ import main
from tests.refine import small

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    small.write(folder)
    return folder


@pytest.fixture
def data(frames: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    folder = tmp_path / "data"
    folder.mkdir()
    for path in frames.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def refused(data: Path, capsys: pytest.CaptureFixture[str], *more: str, code: int = 1) -> str:
    """The error text of a run that must not succeed, and that leaves nothing behind."""
    out = data.parent / "out"
    command = [f"data.experiment={data / 'start.expt'}", f"data.amplitudes={data / 'F.hkl'}", f"hydra.run.dir={out}"]
    assert main([*command, "debug.traceback=false", "trainer.progress=none", *more]) == code
    error = capsys.readouterr().err.strip()
    assert error.startswith("nb-refine: ")
    assert "\n" not in error
    assert "Traceback" not in error
    assert not out.exists() or not any(path.is_file() for path in out.rglob("*"))
    return error


def change(data: Path, edit: Change) -> None:
    document = json.loads((data / "start.expt").read_text())
    edit(document)
    (data / "start.expt").write_text(json.dumps(document))


def test_a_truncated_frame_when_it_is_the_only_one(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = (data / "small_001.cbf").read_bytes()
    for number in (1, 2, 3):
        (data / f"small_{number:03d}.cbf").write_bytes(content[: len(content) // 2])
    assert "small_00" in refused(data, capsys)


def test_frames_of_which_none_is_there(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in data.glob("small_*.cbf"):
        path.unlink()
    error = refused(data, capsys)
    assert "3 frames" in error
    assert "small_002.cbf" in error


def test_a_mask_of_another_size(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(data / "mask.npy", np.ones((10, 12), dtype=np.uint8))
    error = refused(data, capsys, f"data.mask={data / 'mask.npy'}")
    assert "10 × 12" in error
    assert "160 × 160" in error


def test_a_cell_of_no_volume(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(data, lambda d: d["crystal"][0].update(real_space_c=d["crystal"][0]["real_space_a"]))
    assert "crystal" in refused(data, capsys)


def test_amplitudes_of_another_laue_class(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import gemmi

    mtz = gemmi.Mtz(with_base=True)
    mtz.spacegroup = gemmi.SpaceGroup("P 4 3 2")
    mtz.set_cell_for_all(gemmi.UnitCell(*small.CELL))
    mtz.add_dataset("x")
    mtz.add_column("F", "F")
    mtz.set_data(np.array([[1, 2, 3, 10.0], [2, 3, 4, 20.0]], dtype=np.float32))
    mtz.write_to_file(str(data / "cubic.mtz"))
    assert "Laue" in refused(data, capsys, f"data.amplitudes={data / 'cubic.mtz'}")


def test_amplitudes_with_nan(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "F.hkl").write_text("1 0 0 nan\n0 1 0 3.0\n")
    assert "NaN" in refused(data, capsys)


def test_frames_without_a_spot(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flat = np.random.default_rng(0).poisson(0.5, (small.SIZE, small.SIZE)).astype(np.int32)
    for number in (1, 2, 3):
        write_cbf(data / f"small_{number:03d}.cbf", flat, overwrite=True)
    assert "no spot stands out" in refused(data, capsys)


@pytest.mark.parametrize("check", [False, True])
def test_a_start_geometry_that_predicts_nothing_on_the_detector(
    data: Path, capsys: pytest.CaptureFixture[str], *, check: bool
) -> None:
    change(data, lambda d: d["detector"][0]["panels"][0].update(origin=[2000.0, 2000.0, -45.0]))
    error = refused(data, capsys, *(["--check"] if check else []))
    assert "predicts no" in error


def test_a_run_folder_that_cannot_be_made(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "file").touch()
    error = refused(data, capsys, f"hydra.run.dir={data / 'file' / 'out'}")
    assert "cannot be written" in error
    assert "hydra.run.dir=OUT" in error


def test_an_experiment_list_that_is_not_json(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "start.expt").write_text('{"__id__": "ExperimentList", ')
    assert "start.expt" in refused(data, capsys)


def test_no_crystal(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(data, lambda d: d["experiment"][0].pop("crystal"))
    error = refused(data, capsys)
    assert "no crystal" in error
    assert "crystal.cell=" in error


def test_a_frame_range_that_leaves_nothing(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "data.frame_range" in refused(data, capsys, "data.frame_range=[7,9]")


@pytest.mark.parametrize(
    ("given", "expected", "code"),
    [
        ("parameters.wavlength=true", "Did you mean parameters.wavelength", 2),
        ("foo.bar=1", "foo.bar: there is no such setting. Use one of: advanced, beam, check, crystal", 2),
        ("parameters=everything", "Could not find 'parameters/everything'", 2),
        ("solver.kind=[1", "solver.kind", 2),
        ("+data.holdot=1", "data.holdot: there is no such setting. Did you mean data.holdout", 1),
        ("+solvr.kind=lm", "there is no such setting", 1),
        ("solver.kind=newton", "Use one of: lm, lbfgs, adam", 1),
        ("render.shape=ball", "Use one of: ", 1),
        ("render.backend=gpu", "Use one of: ", 1),
        ("data.holdout_fraction=2", "data.holdout_fraction", 1),
        ("data.holdout_modulus=0", "data.holdout_modulus", 1),
        ("solver.max_iterations=0", "solver.max_iterations", 1),
        ("solver.coarse_rounds=-1", "solver.coarse_rounds", 1),
        ("detector.layers=0", "detector.layers", 1),
        ("detector.levels=[]", "detector.levels", 1),
        ("detector.levels=[7]", "detector.levels", 1),
        ("crystal.n_cells=[10,10]", "it has 2 entries, not 3", 1),
        ("crystal.n_cells=[10,10,-1]", "n_cells", 1),
        ("crystal.mosaic_spread=-1", "mosaic_spread", 1),
        ("crystal.cell_restraint=0", "crystal.cell_restraint", 1),
        ("loss.box_half_width=0", "loss.box_half_width", 1),
        ("loss.model_error=-0.1", "loss.model_error", 1),
        ("data.gain=0", "data.gain", 1),
        ("data.dmin=-1", "data.dmin", 1),
        ("render.oversample=0", "oversample", 1),
        ("render.phi_steps=0", "render.phi_steps", 1),
        ("beam.spectrum=[]", "beam.spectrum", 1),
        ("trainer.devices=0", "trainer.devices=0: it must be 1 or more", 1),
        ("parameters.fix=['detector.*.nothing']", "matches none", 1),
    ],
)
def test_a_setting_that_makes_no_sense(
    data: Path, capsys: pytest.CaptureFixture[str], given: str, expected: str, code: int
) -> None:
    assert expected in refused(data, capsys, given, code=code)


def test_resume_and_overwrite_contradict_each_other(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Give one of them" in refused(data, capsys, "resume=true", "overwrite=true")


@pytest.mark.parametrize("option", ["--experimental-rerun=x.pickle", "--config-name=other", "--config-path=/tmp"])
def test_options_of_hydra_that_read_what_others_wrote_are_refused(
    data: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert "does not take this option" in refused(data, capsys, option)


@pytest.mark.parametrize(
    "text",
    [
        "# @package hydra.callbacks\nx:\n  _target_: os.system\n",
        "hydra:\n  verbose: true\n",
        "x:\n  _target_: os.system\n",
    ],
)
def test_a_config_of_others_cannot_make_hydra_run_code(
    data: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    mine = data / "mine" / "experiment"
    mine.mkdir(parents=True)
    (mine / "theirs.yaml").write_text(text)
    error = refused(data, capsys, "--config-dir", str(data / "mine"), "experiment=theirs")
    assert "names code to run" in error


def test_a_config_of_others_may_hold_settings(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = data / "mine" / "experiment"
    mine.mkdir(parents=True)
    (mine / "theirs.yaml").write_text("# @package _global_\nsolver:\n  max_iterations: 0\n")
    error = refused(data, capsys, "--config-dir", str(data / "mine"), "experiment=theirs")
    assert "solver.max_iterations" in error  # it was read, and its value refused
