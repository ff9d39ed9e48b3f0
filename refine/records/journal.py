"""The journal of a run: what it said, chose, assumed and warned of, each a sentence with a code and its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from refine.processes import silent

Level = Literal["info", "choice", "assumption", "warning"]
LEVELS: tuple[Level, ...] = ("info", "choice", "assumption", "warning")


@dataclass(frozen=True)
class JournalEntry:
    """One thing that a run said. ``code`` names its kind and never changes; ``sentence`` may be worded anew.

    ``level``: "info", what happened; "choice", what the program decided by itself; "assumption", a value that nobody
    stated and that is not fitted; "warning", what to know before trusting the numbers. ``numbers`` are plain values:
    numbers, words, and lists of them.
    """

    code: str
    sentence: str
    level: Level = "info"
    numbers: Mapping[str, Any] = field(default_factory=dict)


class Journal:
    """What a run has said so far, in order. ``show`` is given each sentence as it comes; nobody listens by default.

    Of several processes each has its own, and only the first's is shown.
    """

    def __init__(self, show: Callable[[str], None] = silent) -> None:
        self._show = show
        self._entries: list[JournalEntry] = []

    @property
    def entries(self) -> tuple[JournalEntry, ...]:
        """All entries, oldest first."""
        return tuple(self._entries)

    def say(self, code: str, sentence: str, level: Level = "info", **numbers: Any) -> None:
        """Show ``sentence`` and keep it. Raises TypeError for ``numbers`` that are not plain, as JSON has them."""
        self.add(JournalEntry(code, sentence, level, {name: _plain(value) for name, value in numbers.items()}))

    def add(self, *entries: JournalEntry) -> None:
        """Show and keep entries that were made elsewhere."""
        for entry in entries:
            self._entries.append(entry)
            self._show(f"warning: {entry.sentence}" if entry.level == "warning" else entry.sentence)

    def progress(self, sentence: str) -> None:
        """Show ``sentence`` and forget it: how far a run is, which its result does not need."""
        self._show(sentence)

    def state(self) -> list[dict[str, Any]]:
        """The entries as plain values, for a checkpoint."""
        return [asdict(entry) for entry in self._entries]

    def restore(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Put the entries of ``state`` before those of this run; what both say is kept once."""
        self._entries[:] = merged((JournalEntry(**entry) for entry in state), self._entries)


def merged(*parts: Iterable[JournalEntry]) -> tuple[JournalEntry, ...]:
    """The entries of all ``parts`` in order, without those whose code and sentence came before."""
    found: dict[tuple[str, str], JournalEntry] = {}
    for part in parts:
        for entry in part:
            found.setdefault((entry.code, entry.sentence), entry)
    return tuple(found.values())


def sentences(entries: Iterable[JournalEntry], *levels: Level) -> tuple[str, ...]:
    """The sentences of the entries of these ``levels``."""
    return tuple(entry.sentence for entry in entries if entry.level in levels)


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a journal keeps plain numbers and words, not {type(value).__name__}")
