"""Few combinations that hold every pair of values: a greedy covering array."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product

Values = Mapping[str, Sequence[object]]
Combination = dict[str, object]
Pair = tuple[tuple[str, object], tuple[str, object]]


def pairs_of(combination: Combination) -> set[Pair]:
    """Every pair of (name, value) in ``combination``."""
    return set(combinations(combination.items(), 2))


def all_pairs(values: Values) -> set[Pair]:
    """Every pair of values of two different names."""
    return {((a, x), (b, y)) for a, b in combinations(values, 2) for x, y in product(values[a], values[b])}


def covering(values: Values, allowed: Callable[[Combination], bool] = lambda _: True) -> list[Combination]:
    """Combinations that together hold every pair that ``allowed`` (asked about whole combinations) lets exist.

    Each one starts at a pair that is still missing and takes, name by name, the value that adds most missing pairs.
    """
    missing, chosen = all_pairs(values), []
    for seed in sorted(missing, key=repr):
        if seed not in missing:
            continue
        grown = _grow(values, dict(seed), missing, allowed)
        if grown is not None:
            chosen.append(grown)
            missing -= pairs_of(grown)
    return chosen


def _grow(
    values: Values, fixed: Combination, missing: set[Pair], allowed: Callable[[Combination], bool]
) -> Combination | None:
    """``fixed`` completed so that it is allowed, with as many missing pairs as a greedy choice finds."""
    free = [name for name in values if name not in fixed]
    if not free:
        ordered = {name: fixed[name] for name in values}
        return ordered if allowed(ordered) else None
    name = free[0]

    def gain(value: object) -> int:
        return sum(
            ((other, taken), (name, value)) in missing or ((name, value), (other, taken)) in missing
            for other, taken in fixed.items()
        )

    for value in sorted(values[name], key=gain, reverse=True):
        grown = _grow(values, {**fixed, name: value}, missing, allowed)
        if grown is not None:
            return grown
    return None
