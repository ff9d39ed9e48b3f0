"""Every pixel of every golden image, through the command itself."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nbtorch.io.smv import read_smv
from nbtorch.nanobragg.cli.nanobragg import main
from tests.helpers.data import ROOT
from tests.helpers.golden import Case, cases, float_image, golden_image

# worst seen, float64: 4e-5 of this bound (4e-12 of the maximum): divsteps_only; most images agree in every bit
RELATIVE, OF_MAXIMUM, SUM = 2e-6, 1e-7, 1e-6
# float32, of the maximum and of the sum: its rounding of h, k, l (1e-6 at h = 10) shifts a fringe of width 1/N.
# Worst seen 8.1e-5 and 1.1e-5 (convention_adxv, xtalsize) where N ≤ 12
FLOAT32 = (1.2e-4, 2e-5)
FLOAT32_WIDE = {
    "scaling_chain_pilatus": (4e-4, 2e-4),  # N = 47; worst seen 2.9e-4, 9.8e-5
    "scaling_chain_phi0": (4e-4, 2e-4),  # worst seen 2.3e-4, 6.6e-5
    "big_N": (7e-3, 2e-3),  # N = 200; worst seen 4.7e-3, 1.4e-3
}

#: Pixels at a nearest-index flip, a tophat edge or a dmin edge that fall on the other side, by case: none.
EXCLUDED: dict[str, int] = {}


def run(case: Case, folder: Path, *more: str) -> np.ndarray:
    """The float image that the command writes for ``case``."""
    path = folder / "float.bin"
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(case.argv("-floatfile", str(path), *more)) == 0
    return float_image(path, case.shape)


def outside(ours: np.ndarray, golden: np.ndarray) -> np.ndarray:
    """Pixels that differ by more than the bound."""
    ours, golden = ours.astype(np.float64), golden.astype(np.float64)
    return np.abs(ours - golden) > RELATIVE * np.abs(golden) + OF_MAXIMUM * np.abs(golden).max()


def sums_agree(ours: np.ndarray, golden: np.ndarray, bound: float) -> bool:
    total = golden.sum(dtype=np.float64)
    return bool(abs(ours.sum(dtype=np.float64) - total) <= bound * abs(total))


@pytest.mark.parametrize("name", cases())
def test_every_pixel_agrees_with_the_original(name: str, tmp_path: Path) -> None:
    golden = golden_image(name)
    ours = run(cases()[name], tmp_path)
    assert outside(ours, golden).sum() == EXCLUDED.get(name, 0)
    assert sums_agree(ours, golden, SUM)


@pytest.mark.parametrize("name", ["phi_from_zero", "scaling_chain_phi0", "pix0_ignored"])
def test_the_originals_faults_need_the_compat_flag(name: str, tmp_path: Path) -> None:
    case = cases()[name]
    plain = Case(case.name + "_plain", case.args, case.header, case.printed)
    assert outside(run(plain, tmp_path), golden_image(name)).sum() > 100


@pytest.mark.parametrize("name", ["simple_cubic", "thick_layers", "everything"])
def test_a_process_of_its_own_writes_the_same_image(name: str, tmp_path: Path) -> None:
    case, path = cases()[name], tmp_path / "float.bin"
    command = [sys.executable, "-m", "nbtorch.nanobragg.cli.nanobragg", *case.argv("-floatfile", str(path))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    assert not outside(float_image(path, case.shape), golden_image(name)).any()


@pytest.mark.parametrize("name", cases())
def test_float32_image_is_close(name: str, tmp_path: Path) -> None:
    golden = golden_image(name).astype(np.float64)
    ours = run(cases()[name], tmp_path, "-dtype", "float32").astype(np.float64)
    of_maximum, of_sum = FLOAT32_WIDE.get(name, FLOAT32)
    assert 0 < np.abs(ours - golden).max() <= of_maximum * golden.max()
    assert sums_agree(ours, golden, of_sum)


@pytest.mark.parametrize("name", cases())
def test_printed_statistics_agree(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = cases()[name]
    assert main(case.argv()) == 0
    printed = capsys.readouterr().out.replace("=", " = ").split()
    for key in ("max_I", "mean", "rms", "rmsd"):
        value = float(printed[printed.index(key) + 2])
        # six printed digits on either side
        assert value == pytest.approx(case.printed[key], rel=1.1e-5), key


@pytest.mark.parametrize("name", ["int_scale", "int_autoscale"])
def test_integer_image_agrees(name: str, tmp_path: Path) -> None:
    path = tmp_path / "int.img"
    image = run(cases()[name], tmp_path, "-intfile", str(path)).astype(np.float64)
    ours, golden = read_smv(path).counts.astype(int), golden_image(f"{name}__int").astype(int)
    scale, adc = (1e-3, 25) if name == "int_scale" else (55000 / image.max(), 40)
    unrounded = image * scale + adc + 0.5
    on_a_half = np.abs(unrounded - np.round(unrounded)) < 1e-3  # the float images agree to 1e-7 of 55000 counts
    assert (np.abs(ours - golden)[on_a_half] <= 1).all()
    assert (ours == golden)[~on_a_half].all()
    assert (~on_a_half).mean() > 0.05


def test_noise_image_is_reproducible_and_seeded(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.img", "b.img", "c.img")]
    for path, seed in zip(paths, ("77", "77", "78"), strict=True):
        run(cases()["noise"], tmp_path, "-noisefile", str(path), "-seed", seed)
    first, again, other = (read_smv(path).counts for path in paths)
    assert (first == again).all()
    assert (first != other).mean() > 0.05


def chi_square_per_bin(counts: np.ndarray, mean: np.ndarray, edges: list[float]) -> list[tuple[float, int]]:
    """Σ (n − µ)²/µ and the number of pixels, in bins of the mean."""
    bins = []
    for low, high in itertools.pairwise(edges):
        here = (mean >= low) & (mean < high)
        bins.append((float(((counts[here] - mean[here]) ** 2 / mean[here]).sum()), int(here.sum())))
    return bins


@pytest.mark.parametrize("whose", ["ours", "golden"])
def test_noise_is_poisson_in_every_intensity_bin(whose: str, tmp_path: Path) -> None:
    case, path = cases()["noise"], tmp_path / "noise.img"
    mean = run(case, tmp_path, "-noisefile", str(path)).astype(np.float64)
    counts = read_smv(path).counts if whose == "ours" else golden_image("noise__noise")
    photons = counts.astype(np.float64) - 40  # the offset
    for chi_square, pixels in chi_square_per_bin(photons, mean, [0.05, 0.2, 1, 5, 25, 3000]):
        assert pixels > 30
        # of a χ² of n pixels: mean n, variance 2n + Σ1/µ ≤ 2n + n/0.05 in the lowest bin; five sigma
        low = 0.05 if pixels > 1000 else 0.2
        assert abs(chi_square - pixels) < 5 * np.sqrt(pixels * (2 + 1 / low))


def test_noise_is_not_written_under_nonoise(tmp_path: Path) -> None:
    path = tmp_path / "noise.img"
    run(cases()["noise"], tmp_path, "-noisefile", str(path), "-nonoise")
    assert not path.exists()
