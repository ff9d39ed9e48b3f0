"""``python -m nbtorch.doctor``: what it sees, and that what is missing comes with its remedy."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest

from nbtorch import doctor
from nbtorch.kernels.native import library


def test_it_runs_as_a_command_and_everything_that_tests_need_is_there() -> None:
    done = subprocess.run([sys.executable, "-m", "nbtorch.doctor"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "served by the C kernels" in done.stdout
    assert all(name in done.stdout for name in doctor.PACKAGES)


def test_a_missing_package_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        if name in ("gemmi", "scipy"):
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(doctor, "version", absent)
    lines = {line.name: line for line in doctor.examine()}
    assert lines["gemmi"].ok is False  # every call needs it
    assert lines["scipy"].ok is None  # the fit alone does
    printed = doctor.report(list(lines.values()))
    assert "→ pip install gemmi" in printed
    assert "→ pip install 'nbtorch[refine]'" in printed
    assert doctor.main() == 1


def test_without_kernels_the_reference_serves_and_the_way_to_them_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "AVAILABLE", False)
    monkeypatch.setattr(library, "WHY_ABSENT", "the C kernels were not compiled")
    printed = doctor.report(doctor.examine())
    assert "!! C kernels" in printed
    assert library.HOW_TO_GET_IT in printed
    assert "served by the PyTorch reference, slower" in printed
    assert doctor.main() == 0  # all works, slower
