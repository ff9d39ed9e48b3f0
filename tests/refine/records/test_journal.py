"""What a run says is shown, kept with its code and numbers, and brought back from a checkpoint."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import refine
from refine.records.journal import LEVELS, Journal, JournalEntry, merged, sentences

DOCS = Path(refine.__file__).parent.parent / "docs" / "refinement.md"


def test_sentences_are_shown_as_they_come_and_warnings_are_called_so() -> None:
    shown: list[str] = []
    journal = Journal(shown.append)
    journal.say("spots_indexed", "found 3 spots", found=3)
    journal.say("few_spots", "there are few", "warning")
    journal.progress("half way")
    assert shown == ["found 3 spots", "warning: there are few", "half way"]
    assert journal.entries == (
        JournalEntry("spots_indexed", "found 3 spots", "info", {"found": 3}),
        JournalEntry("few_spots", "there are few", "warning", {}),
    )


def test_numbers_are_plain() -> None:
    journal = Journal()
    journal.say("one_scale", "x", pair=(1.5, "a"), nothing=None)
    assert journal.entries[0].numbers == {"pair": [1.5, "a"], "nothing": None}
    with pytest.raises(TypeError, match="not ndarray"):
        journal.say("one_scale", "x", values=np.ones(2))


def test_what_a_checkpoint_says_comes_first_and_nothing_twice() -> None:
    before, now = Journal(), Journal()
    before.say("a", "one", n=1)
    before.say("b", "two")
    now.say("a", "one", n=1)
    now.say("c", "three")
    now.restore(before.state())
    assert [entry.code for entry in now.entries] == ["a", "b", "c"]


def test_entries_of_several_processes_are_merged_and_picked_by_level() -> None:
    one, two = JournalEntry("a", "one", "choice"), JournalEntry("a", "two", "warning")
    assert merged([one], [one, two]) == (one, two)
    assert sentences((one, two), "warning") == ("two",)
    assert sentences((one, two), "choice", "assumption") == ("one",)


def codes_said() -> set[str]:
    """First arguments of every ``….say("code", …)`` and ``JournalEntry("code", …)`` under refine/."""
    found = set()
    for path in Path(refine.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args:
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                first = node.args[0]
                if name in ("say", "JournalEntry") and isinstance(first, ast.Constant):
                    found.add(str(first.value))
    return found


def test_every_code_is_in_the_docs_and_written_in_snake_case() -> None:
    found = codes_said()
    assert len(found) > 25
    assert all(code.isidentifier() and code == code.lower() for code in found)
    text = DOCS.read_text().partition("## The journal")[2].partition("\n## ")[0]
    assert {code for code in found if f"`{code}`" not in text} == set()
    assert all(f"`{level}`" in text for level in LEVELS)
