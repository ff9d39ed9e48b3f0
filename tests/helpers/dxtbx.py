"""dxtbx and DIALS are system packages (Debian: dials) and live in the system's Python, not in the project's."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from functools import cache

import pytest

CANDIDATES = ("/usr/bin/python3", "dials.python", "libtbx.python")


@cache
def _find_python() -> str | None:
    for name in CANDIDATES:
        path = shutil.which(name)
        if path and subprocess.run([path, "-c", "import dxtbx"], capture_output=True).returncode == 0:
            return path
    return None


def system_python() -> Callable[..., str]:
    """``run(script, *args)`` runs a script under the Python that has dxtbx and returns what it printed.

    Skips the calling test when there is none. A script that fails is an AssertionError with its error text.
    """
    python = _find_python()
    if python is None:
        pytest.skip("dxtbx is not installed (Debian: apt-get install dials)")

    def run(script: str, *args: str) -> str:
        # -I: neither our PYTHONPATH nor the current folder may leak into the other Python
        done = subprocess.run([python, "-I", "-c", script, *args], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
