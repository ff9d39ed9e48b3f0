"""What a user adds to the parameters: restraints, bounds, and ties between numbers that are to have one value."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from nbtorch.errors import ConfigError
from refine.parameters.kinds import SCALE
from refine.parameters.parameter_set import Follower, Match, Parameter, matching, switch
from refine.settings.fit_settings import ParameterSettings

_APART = 10.0  # spans by which the starts of tied parameters may differ: beyond it they are not one quantity
_ONE_RATIO = 1e-6  # by which the proportions of tied followers may differ


def structured(
    rows: Sequence[Parameter], settings: ParameterSettings, expected: Collection[str] = ()
) -> list[Parameter]:
    """``rows`` switched, restrained, bounded and tied as ``settings`` say.

    ``expected``: names that there will be once the spots have been seen. Raises ConfigError where a pattern matches
    nothing, and where what is asked for would do nothing.
    """
    found = switch(rows, settings.fix, settings.free, expected)
    knots = Counter(row.stem for row in found)
    for pattern, asked in settings.restrain.items():
        target, sigma = asked if isinstance(asked, tuple) else (None, asked)
        for index, ratio in _movable(found, pattern, "restrain", settings, expected):
            row = found[index]
            # a restraint of a constant holds the mean of the knots of its curve
            share = 1 if "@" in pattern else math.sqrt(knots[row.stem])
            held = None if target is None else row.kept(target / ratio)
            kept = row.sigma_kept(row.told(row.start) if target is None else target / ratio, sigma / ratio)
            found[index] = replace(row, restraint=kept * share, target=held)
    for pattern, (low, high) in settings.bounds.items():
        for index, ratio in _movable(found, pattern, "bounds", settings, expected):
            row = found[index]
            lower = row.lower if low is None else row.kept(low / ratio)
            upper = row.upper if high is None else row.kept(high / ratio)
            lower = max(lower, row.lower) if row.squared else lower
            if lower >= upper:
                raise ConfigError(
                    f"parameters.bounds: {pattern}: [{low}, {high}]",
                    f"no value of {row.name} lies between {row.told(lower):g} and {row.told(upper):g} {row.unit}",
                    "Give both bounds, the lower first",
                )
            found[index] = replace(row, lower=lower, upper=upper)
    return tied(found, settings, expected)


def _movable(
    rows: Sequence[Parameter], pattern: str, kind: str, settings: ParameterSettings, expected: Collection[str]
) -> list[Match]:
    """The free parameters that ``pattern`` means. Raises ConfigError where all are held."""
    matches = matching(rows, pattern, f"parameters.{kind}", expected)
    free = [match for match in matches if rows[match.place].free]
    if matches and not free:
        name = rows[matches[0].place].name
        raise ConfigError(
            f"parameters.{kind}: {pattern}",
            f"{name} is held, where it does nothing",
            f"Free it with its switch or with parameters.free=[{name}], or leave it out of parameters.{kind}",
        )
    _needs_scales([rows[match.place] for match in free], f"parameters.{kind}: {pattern}", settings)
    return free


def _needs_scales(rows: Sequence[Parameter], given: str, settings: ParameterSettings) -> None:
    """Raises ConfigError where ``rows`` are scales that the fit may not have."""
    if rows and all(row.kind == SCALE for row in rows) and settings.scale != "frame":
        raise ConfigError(
            given,
            f"with parameters.scale={settings.scale} spots may have scales of their own, and crystals none",
            "Give parameters.scale=frame",
        )


def tied(rows: Sequence[Parameter], settings: ParameterSettings, expected: Collection[str] = ()) -> list[Parameter]:
    """``rows`` with one parameter in the place of each group of ``settings.tie``: it has the first one's name.

    The knots of curves are tied angle by angle. Raises ConfigError for what cannot have one value.
    """
    groups: list[set[int]] = []
    for patterns in settings.tie:
        listed = (patterns,) if isinstance(patterns, str) else patterns
        given = f"parameters.tie: {', '.join(listed)}"
        found = [match for pattern in listed for match in matching(rows, pattern, "parameters.tie", expected)]
        _one_ratio(rows, found, given)
        members = {index for index, _ in found}
        if len(members) == 1 and not any(mark in "".join(listed) for mark in "*?") and not expected:
            raise ConfigError(given, f"it names {rows[min(members)].name} alone", "Name two, or a pattern: *.n_a")
        _needs_scales([rows[i] for i in sorted(members)], given, settings)
        for knot in {rows[i].knot for i in members}:
            here = {i for i in members if rows[i].knot == knot}
            # what is tied to the same is tied to one another
            here = here.union(*(group for group in groups if group & here))
            groups = [group for group in groups if not group & here] + [here]
    first = {min(group): merged([rows[i] for i in sorted(group)]) for group in groups}
    dropped = {i for group in groups for i in group} - set(first)
    return [first.get(i, row) for i, row in enumerate(rows) if i not in dropped]


def _one_ratio(rows: Sequence[Parameter], found: Sequence[Match], given: str) -> None:
    """Raises ConfigError where numbers that follow others in different proportions are to be equal."""
    ratios = [ratio for _, ratio in found]
    if ratios and max(ratios) - min(ratios) > _ONE_RATIO:
        raise ConfigError(
            given,
            f"they follow {rows[found[0].place].name} and others in different proportions",
            f"Tie {rows[found[0].place].name} and its like instead",
        )


def merged(rows: Sequence[Parameter]) -> Parameter:
    """One parameter for all of ``rows``, from the mean of their starts. Shared where they belong to several crystals.

    Raises ConfigError where they differ in unit, in being free, in their restraints, or by far in their starts.
    """
    first = rows[0]
    if len(rows) == 1:
        return first
    for row in rows[1:]:
        _can_be_tied(first, row)
    start = sum(row.start for row in rows) / len(rows)
    lower, upper = max(row.lower for row in rows), min(row.upper for row in rows)
    if lower >= upper:
        raise ConfigError(
            f"parameters.tie: {first.name}", "no value lies within the bounds of all", "Give parameters.bounds"
        )
    blocks = {row.block for row in rows}
    held = [row for row in rows if row.restraint is not None]
    asked = {row.target for row in held}
    if len(asked) > 1:
        raise ConfigError(
            f"parameters.tie: {first.name}", "restraints hold it to different targets", "Restrain one of the tied alone"
        )
    return replace(
        first,
        start=start,
        span=max(row.span for row in rows),
        lower=lower,
        upper=upper,
        block=first.block if len(blocks) == 1 else None,
        restraint=min((row.restraint for row in held if row.restraint is not None), default=None),
        target=asked.pop() if asked else None,
        entries=tuple(
            replace(
                entry,
                offset=entry.offset + entry.coefficient * (row.told(start) - row.told(row.start)),
                block=row.block if entry.block is None else entry.block,
            )
            for row in rows
            for entry in row.entries
        ),
        follows=(
            *first.follows,
            *(f for row in rows[1:] for f in (Follower(row.name, 1.0, row.told(row.start), row.stem), *row.follows)),
        ),
    )


def _can_be_tied(first: Parameter, row: Parameter) -> None:
    """Raises ConfigError where ``first`` and ``row`` are no one quantity."""
    given = f"parameters.tie: {first.name}, {row.name}"
    if row.unit != first.unit:
        units = f"{first.unit or 'no unit'} and {row.unit or 'no unit'}"
        raise ConfigError(given, f"their units differ: {units}", "Tie parameters of one kind")
    if row.free != first.free:
        held, free = (first, row) if row.free else (row, first)
        raise ConfigError(given, f"{held.name} is held and {free.name} is free", "Hold or free both")
    if abs(row.start - first.start) > _APART * max(row.span, first.span):
        starts = f"{first.told(first.start):g} and {row.told(row.start):g} {row.unit}".rstrip()
        raise ConfigError(given, f"they start at {starts}: no one value can be meant", "Tie parameters of one kind")


def told_by_positions(rows: Sequence[Parameter]) -> list[Parameter]:
    """``rows`` with those held that spots' positions do not tell."""
    return [replace(row, free=row.free and row.kind.told_by_positions) for row in rows]
