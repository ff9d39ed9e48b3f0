"""Command line to values, by exact flag name, and the help text; both read the table in flags.py."""

from __future__ import annotations

import difflib
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbtorch.errors import NbtorchError
from nbtorch.nanobragg.cli.flags import FLAGS, Flag


class UsageError(NbtorchError):
    """A command line that cannot be understood: exit code 2."""


@dataclass(frozen=True)
class Parsed:
    """``values`` by target, the last one given; ``order``: every target as it came; ``ignored``: flags of no effect."""

    values: Mapping[str, Any]
    order: tuple[str, ...]
    ignored: tuple[str, ...]


BY_NAME: dict[str, Flag] = {name: flag for group in FLAGS.values() for flag in group for name in flag.names}


def _nearest(word: str) -> str:
    """What to suggest for an unknown ``word``."""
    close = difflib.get_close_matches(word, BY_NAME, n=1, cutoff=0.0)
    return f"The nearest flag is {_usage(BY_NAME[close[0]], close[0])}; nanoBragg -h lists all"


def _usage(flag: Flag, name: str) -> str:
    """The flag with its placeholders and unit."""
    unit = f" ({flag.unit})" if flag.unit else ""
    return " ".join((name, *flag.values)) + unit


def _take(flag: Flag, name: str, words: Sequence[str]) -> tuple[Any, int]:
    """The value of ``flag`` from the ``words`` after it, and how many of them it took. Raises UsageError."""
    if not flag.values:
        return flag.constant, 0
    if words and words[0] in flag.words:
        return words[0], 1
    if flag.bare is not None and (not words or words[0] in BY_NAME):
        return flag.bare, 0
    needed = len(flag.values)
    taken = list(words[:needed])
    for position, word in enumerate(taken):
        if word in BY_NAME:
            raise UsageError(
                name, f"it needs {needed} value{'s'[: needed > 1]} and {word} follows too soon", _say(flag, name)
            )
        try:
            taken[position] = flag.read(word)
        except (ValueError, ZeroDivisionError, OverflowError):
            raise UsageError(
                f"{name} {' '.join(words[:needed])}", f"{word!r} is not a value of it", _say(flag, name)
            ) from None
    if len(taken) < needed:
        raise UsageError(name, f"it needs {needed} value{'s'[: needed > 1]}, {len(taken)} given", _say(flag, name))
    return (taken[0] if needed == 1 else tuple(taken)), needed


def _say(flag: Flag, name: str) -> str:
    return f"Write {_usage(flag, name)}"


@dataclass(frozen=True)
class Occurrence:
    """One flag as it stands on a command line: its row, the ``words`` (the name first) and their ``value``."""

    flag: Flag
    words: tuple[str, ...]
    value: Any


def occurrences(argv: Sequence[str]) -> Iterator[Occurrence]:
    """The flags of ``argv``, one by one, as they come. Raises UsageError."""
    position, last = 0, ""
    while position < len(argv):
        word = argv[position]
        flag = BY_NAME.get(word)
        if flag is None:
            after = f" (after {last})" if last and not word.startswith("-") else ""
            raise UsageError(f"{word}{after}", "it is not a flag", _nearest(word))
        value, used = _take(flag, word, argv[position + 1 :])
        yield Occurrence(flag, tuple(argv[position : position + 1 + used]), value)
        position, last = position + 1 + used, word


def parse(argv: Sequence[str]) -> Parsed:
    """The flags of ``argv`` (without the program's name). Raises UsageError."""
    values: dict[str, Any] = {}
    order: list[str] = []
    ignored: list[str] = []
    for given in occurrences(argv):
        if given.flag.ignored:
            ignored.append(given.words[0])
            continue
        values.update(dict.fromkeys(given.flag.targets, given.value))
        order.extend(given.flag.targets)
    return Parsed(values, tuple(order), tuple(ignored))


_HEAD = """usage: nanoBragg -hkl FILE | -default_F F   -cell A B C AL BE GA | -mat FILE   [flags]

Simulates a still or rotation diffraction image. Later flags win over earlier ones.
"""
_LEFT = 34


def help_text(width: int | None = None) -> str:
    """All flags, grouped, with units and defaults."""
    width = width or min(120, shutil.get_terminal_size((100, 24)).columns)
    lines = [_HEAD]
    for title, flags in FLAGS.items():
        lines.append(f"{title}:")
        for flag in flags:
            lines.extend(_help_entry(flag, width))
        lines.append("")
    return "\n".join(lines)


def _help_entry(flag: Flag, width: int) -> list[str]:
    """The lines of one flag: names and values left, what it does right."""
    values = " ".join(flag.values)
    left = f"  {'|'.join(flag.names)} " + (f"[{values}]" if flag.bare else values)
    notes = [note for note in (flag.unit, f"default {flag.default}" if flag.default else "") if note]
    notes += [f"{flag.bare} without a name"] if flag.bare else []
    right = flag.help + (f" [{'; '.join(notes)}]" if notes else "")
    body = textwrap.wrap(right, max(width - _LEFT, 30))
    if len(left) < _LEFT:
        return [left.ljust(_LEFT) + body[0], *(" " * _LEFT + line for line in body[1:])]
    return [left.rstrip(), *(" " * _LEFT + line for line in body)]
