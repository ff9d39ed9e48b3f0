"""r_e²·fluence/steps is written once and called once: a second division is the classic defect of this model."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
import torch

from nbtorch.functional import background, scaling
from nbtorch.units import AVOGADRO, CLASSICAL_ELECTRON_RADIUS_SQUARED
from tests.helpers.data import ROOT
from tests.helpers.repository import python_files, relative

CONSTANT = "CLASSICAL_ELECTRON_RADIUS_SQUARED"


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Every file of the simulator. (The fit chooses a fluence of 1/r_e², which is a unit and not a normalization.)"""
    for path in python_files("nbtorch"):
        yield relative(path), ast.parse(path.read_text(encoding="utf-8"))


def is_named(node: ast.AST, name: str) -> bool:
    return (isinstance(node, ast.Name) and node.id == name) or (isinstance(node, ast.Attribute) and node.attr == name)


def computes_with(tree: ast.Module, name: str) -> bool:
    """Whether ``name`` is an operand of arithmetic anywhere in ``tree``."""
    operations = (node for node in ast.walk(tree) if isinstance(node, ast.BinOp))
    return any(is_named(side, name) for node in operations for side in (node.left, node.right))


def calls(tree: ast.Module, name: str) -> int:
    return sum(isinstance(node, ast.Call) and is_named(node.func, name) for node in ast.walk(tree))


def test_electron_radius_enters_arithmetic_in_scaling_and_background_alone() -> None:
    users = {path for path, tree in sources() if computes_with(tree, CONSTANT)}
    assert users == {"nbtorch/functional/scaling.py", "nbtorch/functional/background.py"}


def test_electron_radius_is_written_as_a_number_in_units_alone() -> None:
    """Also not as its root, nor as 7.94e-30 with fewer digits."""
    value = CLASSICAL_ELECTRON_RADIUS_SQUARED
    for path, tree in sources():
        numbers = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, float)]
        close = [n for n in numbers if any(abs(n - known) < 1e-3 * known for known in (value, value**0.5))]
        assert bool(close) == (path == "nbtorch/units.py"), path


def test_photons_is_called_in_one_place_of_the_simulator() -> None:
    found = {path: calls(tree, "photons") for path, tree in sources()}
    assert {path: count for path, count in found.items() if count} == {"nbtorch/render/renderer.py": 1}


def test_only_scaling_divides_by_the_steps() -> None:
    dividers = set()
    for path, tree in sources():
        divisions = (n for n in ast.walk(tree) if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Div))
        physics = path.startswith(("nbtorch/functional", "nbtorch/render", "nbtorch/kernels"))
        if physics and any(is_named(node.right, "steps") for node in divisions):
            dividers.add(path)
    assert dividers == {"nbtorch/functional/scaling.py"}


def test_the_constant_does_not_hide_under_another_name() -> None:
    """It is imported by name where it is used, so that the tests above see it."""
    allowed = {"scaling.py", "background.py", "trace.py"}  # the trace prints it, and computes nothing with it
    for path in (ROOT / "nbtorch").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name != "units.py" and CONSTANT in text:
            assert path.name in allowed, path
            assert f"{CONSTANT} as" not in text


def test_photons_is_the_formula() -> None:
    intensity = torch.tensor([3.0, 5.0], dtype=torch.float64)
    value = scaling.photons(intensity, torch.tensor(1e29, dtype=torch.float64), 7)
    assert value.tolist() == pytest.approx(
        [CLASSICAL_ELECTRON_RADIUS_SQUARED * 1e29 * i / 7 for i in (3, 5)], rel=1e-15
    )


def test_water_is_nanobraggs_number() -> None:
    """docs/physics.md §4: 2.57²·r_e²·fluence·size_m³·1e6·Avogadro/18."""
    value = background.water_intensity(torch.tensor(1e24, dtype=torch.float64), 0.2)
    expected = 2.57**2 * CLASSICAL_ELECTRON_RADIUS_SQUARED * 1e24 * (0.2e-3) ** 3 * 1e6 * AVOGADRO / 18
    assert float(value) == pytest.approx(expected, rel=1e-14)


def test_the_checks_see_a_second_normalization() -> None:
    tree = ast.parse(f"from nbtorch import units\nx = units.{CONSTANT} * 2\ny = scaling.photons(x, 1, 2)\n")
    assert computes_with(tree, CONSTANT)
    assert calls(tree, "photons") == 1
