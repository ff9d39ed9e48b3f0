"""Where the tests find data: ``golden`` is in the repository, ``shared`` beside it (or where NBTORCH_DATA says)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def shared_root() -> Path:
    """The folder of reference data that is too large or not ours to keep: ``$NBTORCH_DATA``, else ``../shared``."""
    return Path(os.environ.get("NBTORCH_DATA", ROOT.parent / "shared"))


def shared(*parts: str) -> Path:
    """A path in the shared data; skips the calling test where it is absent."""
    path = shared_root().joinpath(*parts)
    if not path.exists():
        pytest.skip(f"reference data {'/'.join(parts)} is not in {shared_root()} (set NBTORCH_DATA)")
    return path


def golden(*parts: str) -> Path:
    """A path in tests/golden. It is part of the repository: its absence is an error."""
    path = ROOT.joinpath("tests", "golden", *parts)
    if not path.exists():
        raise FileNotFoundError(path)
    return path
