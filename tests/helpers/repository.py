"""The files of the repository, for the tests that look after it as a whole."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tests.helpers.data import ROOT

UNTRACKED = ("__pycache__", "*.egg-info", ".*", "build", "dist", "outputs", "multirun", "runs", "bundles", "results")


@cache
def project_files() -> tuple[Path, ...]:
    """Every file that git tracks; in a source tree without git, every file that is not a build product."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
        paths = (ROOT / name for name in listing.split("\0") if name)
        return tuple(path for path in paths if path.is_file())
    ignore = shutil.ignore_patterns(*UNTRACKED)
    found: list[Path] = []
    for folder, folders, names in os.walk(ROOT):
        skipped = ignore(folder, [*folders, *names])
        folders[:] = [name for name in folders if name not in skipped]
        found += [Path(folder, name) for name in names if name not in skipped]
    return tuple(sorted(found))


def python_files(*folders: str) -> list[Path]:
    """The project's Python files, in the given top folders or everywhere."""
    files = [path for path in project_files() if path.suffix == ".py"]
    return [path for path in files if not folders or path.relative_to(ROOT).parts[0] in folders]


def relative(path: Path) -> str:
    """``path`` as it is named in the repository, or as it is when it lies elsewhere."""
    return (path.relative_to(ROOT) if path.is_relative_to(ROOT) else path).as_posix()


def copy_sources(target: Path) -> Path:
    """A copy of what a build needs, in ``target``: building in the checkout would leave a build tree there."""
    ignore = shutil.ignore_patterns(*UNTRACKED, "*.so", "*.dylib", "*.dll")
    for name in ("nbtorch", "refine", "configs"):
        shutil.copytree(ROOT / name, target / name, ignore=ignore)
    for name in (
        "pyproject.toml",
        "setup.py",
        "MANIFEST.in",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "constraints.txt",
        "Makefile",
    ):
        shutil.copy2(ROOT / name, target / name)
    return target
