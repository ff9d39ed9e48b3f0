"""The command line before Hydra parses it: paths quoted, options put first, and an experiment when none is named."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

# Keys whose value is a path, a pattern or a word: taken as typed, whatever characters it holds.
TEXT_KEYS = frozenset(
    {f"data.{name}" for name in ("experiment", "frames", "amplitudes", "mask", "spots", "root", "truth")}
    | {"hydra.run.dir", "hydra.sweep.dir", "paths.output"}
)
# Keys whose value is a list of parameters, whose names hold brackets and stars: crystal[0].gamma, *.rot_normal.
NAME_KEYS = frozenset({"parameters.fix", "parameters.free", "parameters.tie"})
# Keys whose value is a mapping from such names: {*.n_a: 0.5, beam.wavelength: [1.03, 0.001]}.
NAMED_KEYS = frozenset({"parameters.restrain", "parameters.bounds"})
ASSIGNMENT = re.compile(r"(?P<plus>\+{0,2})(?P<key>[\w./@$-]+)=(?P<value>.*)", re.DOTALL)
# A value that is already one quoted string of Hydra's grammar: it opens, and closes only at its end.
QUOTED = re.compile(r"""(?P<q>['"])(?:\\(?:\\\\)*(?P=q)|(?!(?P=q)).)*?(?P=q)""", re.DOTALL)
BRACKETS, ESCAPED = r"([\[\]])", r"\\\1"
SWEEP = re.compile(r"choice\(.*\)", re.DOTALL)
OPTIONS_WITH_VALUE = frozenset({"--cfg", "-c", "--package", "-p", "--config-dir", "-cd", "--info", "-i"})
# Of the group data: with any of them the embedded example is not meant.
MEASUREMENTS = ("experiment", "frames", "amplitudes", "mask", "spots", "truth")


def quote(text: str) -> str:
    """``text`` as a quoted string of Hydra's grammar, which reads back as ``text``.

    ``${…}`` stays an interpolation, as in outputs/${now:%Y}. In a quoted string a backslash is itself, except in a run
    of backslashes before a quote, which are halved: those are doubled here.
    """
    inside = re.sub(r"(\\*)'", lambda run: run[1] * 2 + r"\'", text)
    trailing = len(inside) - len(inside.rstrip("\\"))
    return f"'{inside}{inside[len(inside) - trailing :]}'"


def quote_paths(arguments: Iterable[str], *, multirun: bool = False) -> list[str]:
    """``arguments`` with the values of TEXT_KEYS and the names of the others quoted.

    They may hold # [ ] ( ) = , ~ { } and spaces.

    ``null``, interpolations and values the user has quoted already stay as they are. In a ``multirun``,
    ``data.frames=choice(a.cbf,b.cbf)`` sweeps; a comma alone is part of a name.
    """
    return [_quote_one(argument, multirun) for argument in arguments]


def _quote_one(argument: str, multirun: bool) -> str:
    found = ASSIGNMENT.fullmatch(argument)
    if found is None or found["key"] not in TEXT_KEYS | NAME_KEYS | NAMED_KEYS:
        return argument
    value = found["value"]
    if found["key"] in NAMED_KEYS:
        # a name that the configuration has not yet is to be added to it
        return f"{'++' if value.startswith('{') else found['plus']}{found['key']}={_named(value)}"
    if found["key"] in NAME_KEYS:
        return f"{found['plus']}{found['key']}={_names(value)}"
    if value == "null" or QUOTED.fullmatch(value) or (multirun and SWEEP.fullmatch(value)):
        return argument
    if found["key"].endswith(".dir") and value.startswith("~/"):  # no shell expands it behind an equals sign
        value = str(Path(value).expanduser())
    return f"{found['plus']}{found['key']}={quote(value)}"


def _names(value: str) -> str:
    """A list of parameters' names, ``[a,b]`` or a single ``a``, with each name quoted; anything else as it is.

    A list in the list, ``[[a,b],c]``, is a group of names.
    """
    if value == "null" or any(mark in value for mark in "'\"$("):
        return value
    items = [_names(item) if _is_list(item) else quote(item) for item in _split(_inside(value))]
    return f"[{','.join(items)}]"


def _named(value: str) -> str:
    """A mapping ``{name: value, …}`` with the brackets of its names escaped: no key of a mapping can be quoted."""
    if not (value.startswith("{") and value.endswith("}")) or any(mark in value for mark in "'\"\\$("):
        return value
    pairs = [item.partition(":") for item in _split(value[1:-1])]
    return "{" + ",".join(f"{re.sub(BRACKETS, ESCAPED, name.strip())}:{held}" for name, _, held in pairs) + "}"


def _is_list(text: str) -> bool:
    """Whether ``text`` is a list of names rather than one that ends in a bracket, as crystal[0] does."""
    return text.startswith("[") and text.endswith("]")


def _inside(value: str) -> str:
    return value[1:-1] if _is_list(value) else value


def _split(text: str) -> list[str]:
    """The items of a list that commas part, but for those in brackets."""
    items, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            items.append("")
        else:
            items[-1] += letter
    return [item.strip() for item in items if item.strip()]


def options_first(arguments: Sequence[str]) -> list[str]:
    """Options before overrides: argparse does not take ``a=1 --multirun b=2`` in that order."""
    options: list[str] = []
    overrides: list[str] = []
    after_option = False
    for argument in arguments:
        is_option = argument.startswith("-")
        (options if is_option or (after_option and "=" not in argument) else overrides).append(argument)
        after_option = is_option and argument in OPTIONS_WITH_VALUE
    return options + overrides


def key_of(argument: str) -> str:
    """The key that an override sets, "" for anything else."""
    found = ASSIGNMENT.fullmatch(argument)
    return found["key"] if found else ""


def _names_a_measurement(key: str) -> bool:
    """Whether an override of ``key`` is about a measurement of the user's own."""
    return key == "experiment" or (key.startswith("data.") and key.removeprefix("data.") in MEASUREMENTS)


def prepare(arguments: Sequence[str]) -> list[str]:
    """The arguments as Hydra shall see them.

    Where nothing says which measurement, the embedded one is fitted. A multirun puts its runs below
    ``hydra.run.dir`` too, which Hydra alone would ignore.
    """
    multirun = "--multirun" in arguments or "-m" in arguments
    ready = options_first(quote_paths(arguments, multirun=multirun))
    asks_for_help = "--help" in arguments or "-h" in arguments
    if not asks_for_help and not any(_names_a_measurement(key_of(argument)) for argument in ready):
        ready.append("experiment=default")
    if multirun and not any(key_of(argument) == "hydra.sweep.dir" for argument in ready):
        ready = [re.sub(r"^hydra\.run\.dir=", "hydra.sweep.dir=", argument) for argument in ready]
    return ready
