"""Plain data into frozen settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from nbtorch.errors import ConfigError
from refine.settings.typed import build


@dataclass(frozen=True)
class Inner:
    ratio: float = 1.0
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    count: int = 0
    name: str | None = None
    switch: bool = False
    triple: tuple[float, float, float] = (0.0, 0.0, 0.0)
    levels: tuple[int | str, ...] = ()
    pairs: tuple[tuple[float, float], ...] = ()
    inner: Inner = field(default_factory=Inner)


def test_values_become_the_types_that_the_fields_state() -> None:
    built = build(
        Outer,
        {
            "count": 3,
            "name": None,
            "switch": True,
            "triple": [1, 2, 3],
            "levels": [0, "panels"],
            "pairs": [[0, 1]],
            "inner": {"ratio": 2, "kind": "b"},
        },
    )
    assert built == Outer(3, None, True, (1.0, 2.0, 3.0), (0, "panels"), ((0.0, 1.0),), Inner(2.0, "b"))
    assert all(isinstance(value, float) for value in built.triple)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 1.5}, "count=1.5: it should be a whole number"),
        ({"count": True}, "count=True: it should be a whole number"),
        ({"count": None}, "count=null: it should be a whole number"),
        ({"switch": 1}, "switch=1: it should be true or false"),
        ({"name": 3}, "name=3: it should be text"),
        ({"triple": [1, 2]}, r"triple=\[1, 2\]: it has 2 entries, not 3"),
        ({"triple": "1,2,3"}, "triple=1,2,3: it should be a list"),
        ({"pairs": [[0, "x"]]}, r"pairs\[0\]\[1\]=x: it should be a number"),
        ({"inner": {"kind": "c"}}, "inner.kind=c: it is not a known choice. Use one of: a, b"),
        ({"inner": {"ratio": float("nan")}}, "inner.ratio=nan: it is not a finite number"),
        ({"inner": 3}, "inner=3: it should be a group of settings"),
        ({"cuont": 1}, "cuont: there is no such setting. Did you mean count"),
        ({"inner": {"rato": 1}}, "inner.rato: there is no such setting. Did you mean inner.ratio"),
        ({"zzz": 1}, "zzz: there is no such setting. Use one of: count, inner, levels, name, pairs, switch, triple"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place_and_what_it_should_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(Outer, values)
