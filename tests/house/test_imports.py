"""`import nbtorch` is light, and the floors of docs/design.md hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.data import ROOT

HEAVY = ("pytorch_lightning", "hydra", "omegaconf", "fabio", "gemmi", "matplotlib", "scipy", "PIL", "rich", "jinja2")


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    ).stdout


def test_importing_nbtorch_loads_no_framework_and_no_file_format() -> None:
    # What torch loads by itself is not ours to judge: count what nbtorch adds to it.
    added = run_python(
        "import sys, torch; before = set(sys.modules); import nbtorch; print(*(set(sys.modules) - before))"
    )
    loaded = {name.split(".")[0] for name in added.split()}
    assert "nbtorch" in loaded
    assert not loaded & set(HEAVY)


IMPORT_COSTS = """
from time import process_time
start = process_time()
import torch
middle = process_time()
import nbtorch
print((process_time() - middle) / (middle - start))
"""


def test_importing_nbtorch_costs_little_beside_importing_torch() -> None:
    assert float(run_python(IMPORT_COSTS)) < 0.1  # CPU time, so that a busy machine does not matter; seen: 0.001


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [
        str(Path(sys.executable).with_name("lint-imports")),
        "--no-cache",
        "--config",
        str(ROOT / "pyproject.toml"),
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_every_file_imports_only_from_floors_below_its_own() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("nbtorch/functional/upward.py", "import nbtorch.config", "Floors"),
        ("nbtorch/units.py", "import hydra", "frameworks"),
        ("nbtorch/attic.py", "", "Floors"),
    ],
    ids=["sideways-import", "framework", "file-without-a-floor"],
)
def test_a_broken_floor_is_found(tmp_path: Path, file: str, line: str, broken: str) -> None:
    """The contracts can fail: a copy of the packages with one wrong file is refused."""
    copy_packages(tmp_path)
    with (tmp_path / file).open("a") as stream:
        stream.write(f"\n{line}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert any(broken in row and "BROKEN" in row for row in done.stdout.splitlines()), done.stdout


def copy_packages(target: Path) -> None:
    for package in ("nbtorch", "refine"):
        for source in (ROOT / package).rglob("*.py"):
            copy = target / source.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes())
