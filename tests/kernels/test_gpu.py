"""The Triton kernels against the twin: run by Triton's interpreter on CPU tensors, and by a card where there is one."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from nbtorch.errors import ConfigError
from nbtorch.kernels import LatticeTangents, dispatch, lattice_jvp, lattice_sum
from nbtorch.kernels.gpu import serves
from tests.helpers.data import ROOT
from tests.kernels.scenarios import LATTICE_SCENES, LatticeScene, lattice_scene, normal, uniform, worst

pytest.importorskip("triton", reason="Triton is not installed")
# 300 orientations take the interpreter a quarter of a minute: the sizes here are its own
SCENES = {name: make for name, make in LATTICE_SCENES.items() if name != "many-orientations"}
SCENES["many-orientations"] = lambda: lattice_scene(sizes=(3, 1, 40))
LONG = {name for name in SCENES if "tricubic" in name or "N500" in name} | {"round-nearest", "gauss-nearest"}
NAMES = [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in SCENES]


@pytest.fixture
def place() -> torch.device:
    """A card, or the CPU under the interpreter."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def on(scene: LatticeScene, place: torch.device) -> list[Tensor]:
    return [tensor.to(place).requires_grad_() for tensor in scene.leaves()]


def results(scene: LatticeScene, leaves: list[Tensor], **settings: Any) -> tuple[Tensor, list[Tensor]]:
    """The sum and its gradient for a fixed random weighting; not to the amplitudes, which the kernels do not move."""
    value = scene.function(lattice_sum, **settings)(*leaves)
    weighting = (uniform(7, *value.shape) - 0.5).to(value)
    moved = [leaf for leaf, name in zip(leaves, scene.names, strict=True) if name != "table"]
    return value, list(torch.autograd.grad(value, moved, weighting, materialize_grads=True))


def without_table(scene: LatticeScene, leaves: list[Tensor]) -> list[Tensor]:
    return [leaf.detach() if name == "table" else leaf for leaf, name in zip(leaves, scene.names, strict=True)]


@pytest.mark.parametrize("name", NAMES)
def test_value_and_gradient_are_the_twins(name: str, place: torch.device) -> None:
    scene = SCENES[name]()
    leaves = without_table(scene, on(scene, place))
    expected, of_expected = results(scene, leaves, backend="reference")
    found, of_found = results(scene, leaves, backend="triton", precision="double")
    # N = 500: rounding of an index is multiplied by 2πN, as for the C kernels; worst seen 5.7e-11, else 4e-13
    assert worst(found, expected) < (2e-10 if "N500" in name else 1e-12)
    for got, wanted in zip(of_found, of_expected, strict=True):
        assert worst(got, wanted) < (2e-10 if "N500" in name else 2e-12)


@pytest.mark.parametrize("name", ["square-nearest", "round", "gauss_hkl", "tophat", "square-cubic-N20"])
def test_fast_precision_is_near_the_double_one(name: str, place: torch.device) -> None:
    scene = SCENES[name]()
    leaves = without_table(scene, on(scene, place))
    expected, of_expected = results(scene, leaves, backend="reference")
    found, of_found = results(scene, leaves, backend="triton", precision="fast")
    assert worst(found, expected) < 1e-5
    assert not torch.equal(found, expected)  # float32 lanes did serve
    for got, wanted in zip(of_found, of_expected, strict=True):
        assert worst(got, wanted) < 2e-5


@pytest.mark.parametrize("name", ["square", "round-nearest", "gauss_hkl-nearest", "square-all-axes-left-out"])
def test_jacobian_columns_are_the_c_kernels(name: str, place: torch.device) -> None:
    scene = SCENES[name]()
    tangents = LatticeTangents(
        *(
            None if tensor is None or label == "table" else normal(2, 5, *tensor.shape).to(place)
            for label, tensor in zip(LatticeTangents._fields, scene.tensors, strict=True)
        )
    )
    leaves = [leaf.detach() for leaf in on(scene, place)]
    columns = scene.function(lambda *tensors: lattice_jvp(*tensors, tangents), backend="triton")(*leaves)
    at_home = LatticeTangents(*(None if tangent is None else tangent.cpu() for tangent in tangents))
    expected = scene.function(lambda *tensors: lattice_jvp(*tensors, at_home), backend="native")(*scene.present)
    for got, wanted in zip(columns, expected, strict=True):
        assert worst(got.cpu(), wanted) < 1e-12  # worst seen 1.1e-13


def test_gradients_pass_gradcheck_with_every_argument(place: torch.device) -> None:
    scene = lattice_scene("gauss_hkl", n_cells=(1.5, 2.0, 1.0), sizes=(3, 2, 2))
    leaves = on(scene, place)
    torch.autograd.gradcheck(scene.function(lattice_sum, backend="triton"), leaves)


def test_two_runs_give_the_same_bits(place: torch.device) -> None:
    scene = lattice_scene("square", "nearest", sizes=(150, 2, 3))
    leaves = without_table(scene, on(scene, place))
    first, second = (results(scene, leaves, backend="triton") for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(a, b) for a, b in zip(first[1], second[1], strict=True))


def test_float32_is_answered_in_float32(place: torch.device) -> None:
    scene = lattice_scene(sizes=(20, 1, 2))
    leaves = [leaf.detach().float().requires_grad_() for leaf in on(scene, place)]
    value, gradients = results(scene, leaves, backend="triton")
    assert value.dtype == torch.float32
    assert {gradient.dtype for gradient in gradients} == {torch.float32}


def test_the_twin_serves_amplitudes_that_take_gradients(place: torch.device) -> None:
    scene = lattice_scene("square", "nearest", sizes=(20, 1, 2))
    leaves = on(scene, place)
    value = scene.function(lattice_sum, backend="triton")(*leaves)
    expected = scene.function(lattice_sum, backend="reference")(*leaves)
    table = leaves[scene.names.index("table")]
    got, wanted = (torch.autograd.grad(v.sum(), table)[0] for v in (value, expected))
    assert wanted.abs().max() > 0
    assert torch.equal(got, wanted)


@pytest.mark.parametrize("sizes", [(0, 1, 3), (5, 1, 0)])
def test_a_sum_over_nothing_is_zero(sizes: tuple[int, int, int], place: torch.device) -> None:
    scene = lattice_scene(sizes=sizes)
    leaves = on(scene, place)
    value, gradients = results(scene, leaves, backend="triton")
    assert value.shape == sizes[:2]
    assert float(value.detach().abs().sum()) == 0
    assert all(float(gradient.abs().sum()) == 0 for gradient in gradients)


def test_what_keeps_the_kernels_from_serving_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = lattice_scene(sizes=(2, 1, 1))
    call = scene.function(lattice_sum, backend="triton")
    monkeypatch.setattr(serves, "interpreting", lambda: False)
    with pytest.raises(ConfigError, match="serve tensors on a CUDA device"):
        call(*scene.present)
    monkeypatch.setattr(serves, "_has_triton", lambda: False)
    with pytest.raises(ConfigError, match="Triton is not installed"):
        call(*scene.present)


def test_an_old_card_is_told_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert "compute capability 7.5; the kernels need 8.0" in serves.why_not(torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert serves.why_not(torch.device("cuda")) == ""


def test_auto_never_takes_them_on_the_cpu() -> None:
    scene = lattice_scene(sizes=(2, 1, 1))
    assert not dispatch.uses_triton("auto", scene.present, None)
    assert dispatch.uses_triton("triton", scene.present, None)


@pytest.mark.slow
def test_kernels_compile_for_cards_that_are_not_here_and_hardly_spill() -> None:
    environment = {"PATH": "/usr/bin:/bin", "TRITON_INTERPRET": "0", "HOME": "/tmp"}
    command = [sys.executable, "-W", "ignore", "benchmarks/gpu_compiled.py", "--tables", "nearest", "tricubic"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200, env=environment, check=True)
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert len(rows) == 3 * 3 * 4 * 2 * 2
    tricubic = [row for row in rows if row[3] == "tricubic" and row[1] != "80"]
    assert {int(row[-2]) for row in rows if row not in tricubic} == {0}
    assert max(int(row[-2]) for row in tricubic) <= 16  # bytes, of kernels in fast precision
