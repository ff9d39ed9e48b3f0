"""Command lines as a user writes them."""

from __future__ import annotations

import shlex


def split(line: str) -> list[str]:
    """The words of a command line."""
    return shlex.split(line)
