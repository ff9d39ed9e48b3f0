"""pyproject.toml asks for what the code imports: no less, and no more."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest

from tests.helpers.data import ROOT
from tests.helpers.repository import python_files, relative

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CORE = PROJECT["dependencies"]
EXTRAS = PROJECT["optional-dependencies"]
# Needed at run time by something other than an import of ours.
NOT_IMPORTED = {"rich": "Lightning's progress bar draws with it"}


def names(requirements: list[str]) -> set[str]:
    """Distribution names, normalized (PEP 503), without versions and extras."""
    return {normalized(re.split(r"[\s<>=!~;\[]", requirement)[0]) for requirement in requirements}


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported_modules(package: str) -> dict[str, str]:
    """Top-level module → one file of ``package`` that imports it, for modules of other projects."""
    found: dict[str, str] = {}
    for path in python_files(package):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                modules.append(node.module)
            found |= {module.split(".")[0]: relative(path) for module in modules}
    own = {"nbtorch", "refine", *sys.stdlib_module_names}
    return {module: path for module, path in found.items() if module not in own}


def imported_distributions(package: str) -> dict[str, str]:
    owners = packages_distributions()
    return {
        normalized(name): path
        for module, path in imported_modules(package).items()
        for name in owners.get(module, [module])
    }


@pytest.mark.parametrize(
    ("package", "declared"),
    [("nbtorch", names(CORE + EXTRAS["cbf"] + EXTRAS["gpu"])), ("refine", names(CORE + EXTRAS["refine"]))],
    ids=["nbtorch", "refine"],
)
def test_every_import_is_a_declared_dependency(package: str, declared: set[str]) -> None:
    undeclared = {name: path for name, path in imported_distributions(package).items() if name not in declared}
    assert not undeclared


def test_every_declared_dependency_is_imported() -> None:
    used = imported_distributions("nbtorch").keys() | imported_distributions("refine").keys() | NOT_IMPORTED.keys()
    assert not names(CORE + EXTRAS["cbf"] + EXTRAS["refine"]) - used


def test_the_constraints_pin_everything_that_is_asked_for() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    asked = CORE + [requirement for extra in EXTRAS.values() for requirement in extra]
    assert not names(asked) - names(pins)


def test_compromised_lightning_releases_are_refused() -> None:
    (lightning,) = (requirement for requirement in EXTRAS["refine"] if requirement.startswith("pytorch-lightning"))
    assert "!=2.6.2" in lightning
    assert "!=2.6.3" in lightning
