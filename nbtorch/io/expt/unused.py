"""What an experiment list holds and nothing reads: named, so that nothing is dropped in silence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

#: Keys that would change what a frame looks like if they were used: why, and what is done instead.
WEIGHTY = {
    "beam.s0_at_scan_points": "the beam's direction at each scan point; its static direction is used",
    "goniometer.setting_rotation_at_scan_points": "the goniometer's setting at each scan point; its static one is used",
    "imageset.dx": "a map of pixel offsets; pixels stay where the panels put them",
    "imageset.dy": "a map of pixel offsets; pixels stay where the panels put them",
    "imageset.params.dynamic_shadowing": "shadows of the goniometer are not masked: give a mask",
    "beam.divergence": "the beam's divergence is not taken from the file",
    "beam.sigma_divergence": "the beam's divergence is not taken from the file",
    "crystal.mosaicity": "the mosaic spread is not taken from the file",
    "crystal.ML_half_mosaicity_deg": "the mosaic spread is not taken from the file",
    "crystal.ML_domain_size_ang": "the domain size is not taken from the file",
}

#: How the sentence on all other keys begins: they change nothing that is computed.
HARMLESS = "kept as they are and not used: "


def not_used(document: Mapping[str, Any], seen: set[str]) -> tuple[str, ...]:
    """Sentences on every key of ``document`` with a value of which no place was ``seen``: weighty ones first.

    Values that say nothing (null, empty, zero, false) are left out, and repeats of a key are one.
    """
    weighty: dict[str, int] = {}
    others: dict[str, None] = {}
    for place, value in _unseen(document, "", seen):
        key = _key(place)
        if key in WEIGHTY:
            weighty[key] = weighty.get(key, 0) + 1
        elif not _says_nothing(value):
            others[key] = None
    said = [
        f"{key}{f' ({count} times)' if count > 1 else ''} is not used: {WEIGHTY[key]}"
        for key, count in weighty.items()
        if key
    ]
    rest = HARMLESS + ", ".join(others)
    return (*said, rest) if others else tuple(said)


def _unseen(value: Any, place: str, seen: set[str]) -> Iterator[tuple[str, Any]]:
    """(place, value) of what lies in ``value`` and was not seen, outermost first."""
    if isinstance(value, dict):
        inside: Iterator[tuple[str, Any]] = ((f"{place}.{key}" if place else key, item) for key, item in value.items())
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        inside = ((f"{place}[{index}]", item) for index, item in enumerate(value))
    else:
        return
    for where, item in inside:
        below = isinstance(item, dict) or (isinstance(item, list) and any(isinstance(part, dict) for part in item))
        if below:
            yield from _unseen(item, where, seen)
        elif where not in seen and not _says_nothing(item):
            yield where, item


def _says_nothing(value: Any) -> bool:
    if isinstance(value, list):
        return all(_says_nothing(item) for item in value) if value else True
    return value is None or value == "" or value == {} or value == 0


def _key(place: str) -> str:
    """A place without its numbers; the groups of a detector's tree count as one."""
    return re.sub(r"(\.children)+", "", re.sub(r"\[\d+\]", "", place))
