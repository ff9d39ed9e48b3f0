"""From plain data (YAML, the command line) to frozen dataclasses, with every type checked and every key known."""

from __future__ import annotations

import difflib
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from nbtorch.errors import ConfigError

Settings = TypeVar("Settings")
NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def build(cls: type[Settings], values: Mapping[str, Any], where: str = "") -> Settings:
    """An instance of the dataclass ``cls`` from ``values``; keys that are absent keep their defaults.

    ``where`` is the dotted path of ``values`` for messages. Raises ConfigError for an unknown key (naming its nearest
    neighbour) and for a value of another type than the field's.
    """
    hints = get_type_hints(cls)
    known = [field.name for field in fields(cls)]  # type: ignore[arg-type]  # every caller's cls is a dataclass
    for key in values:
        if key not in known:
            raise unknown_key(_join(where, str(key)), known)
    return cls(**{key: convert(value, hints[key], _join(where, key)) for key, value in values.items()})


def unknown_key(given: str, known: list[str]) -> ConfigError:
    """The error for a key that nobody reads."""
    group, _, name = given.rpartition(".")
    return ConfigError(given, "there is no such setting", nearest(name, known, f"{group}." if group else ""))


def nearest(name: str, known: Sequence[str], prefix: str = "") -> str:
    """What to use instead of ``name``: the known name nearest to it, else all of them (of its group, when dotted)."""
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"Did you mean {prefix}{near[0]}"
    group = name.rpartition(".")[0]
    listed = [item for item in known if group and item.startswith(f"{group}.")]
    return f"Use one of: {', '.join(sorted(listed or {item.partition('.')[0] for item in known}))}"


def convert(value: Any, kind: Any, where: str) -> Any:
    """``value`` as ``kind``: a dataclass, Literal, union, tuple, mapping or scalar. Raises ConfigError."""
    origin = get_origin(kind)
    if is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, Mapping):
            raise _wrong(where, value, "a group of settings")
        return build(kind, {str(key): item for key, item in value.items()}, where)
    if origin is Literal:
        return _literal(value, get_args(kind), where)
    if origin in (types.UnionType, typing.Union):
        return _union(value, get_args(kind), where)
    if origin is tuple:
        return _tuple(value, get_args(kind), where)
    if origin is Mapping:
        return _mapping(value, get_args(kind)[1], where)
    return _scalar(value, kind, where)


def _scalar(value: Any, kind: type, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{where}={value}", "it is not a finite number", f"Change {where}")
        return value
    raise _wrong(where, value, NAMES.get(kind, kind.__name__))


def _literal(value: Any, choices: tuple[Any, ...], where: str) -> Any:
    if value in choices:
        return value
    listed = ", ".join(str(choice) for choice in choices)
    raise ConfigError(f"{where}={value}", "it is not a known choice", f"Use one of: {listed}")


def _union(value: Any, kinds: tuple[Any, ...], where: str) -> Any:
    if value is None:
        if type(None) in kinds:
            return None
        raise _wrong(where, value, "a value")
    failures = []
    for kind in kinds:
        if kind is not type(None):
            try:
                return convert(value, kind, where)
            except ConfigError as error:
                failures.append(error)
    raise failures[0]


def _tuple(value: Any, kinds: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, (list, tuple)):
        raise _wrong(where, value, "a list, as in [1, 2]")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(value) != len(kinds):
        raise ConfigError(f"{where}={list(value)}", f"it has {len(value)} entries, not {len(kinds)}", f"Change {where}")
    return tuple(
        convert(item, kind, f"{where}[{index}]") for index, (item, kind) in enumerate(zip(value, kinds, strict=True))
    )


def _mapping(value: Any, kind: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(where, value, "names with values, as in {name: 1}")
    return {str(key): convert(item, kind, f"{where}[{key}]") for key, item in value.items()}


def _wrong(where: str, value: Any, expected: str) -> ConfigError:
    shown = "null" if value is None else str(value)
    return ConfigError(f"{where}={shown}", f"it should be {expected}", f"Change {where}")


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
