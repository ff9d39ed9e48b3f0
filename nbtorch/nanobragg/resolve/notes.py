"""What the command decided by itself, and what it was told twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Note:
    """One line for the user: a choice that no flag made, or a conflict between what was given."""

    kind: Literal["choice", "conflict"]
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


def choice(text: str) -> Note:
    """A note on a choice."""
    return Note("choice", text)


def conflict(text: str) -> Note:
    """A note on a conflict."""
    return Note("conflict", text)
