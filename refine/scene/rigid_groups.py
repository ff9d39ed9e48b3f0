"""Which rigid bodies of a detector's hierarchy may move."""

from __future__ import annotations

from collections.abc import Sequence

from nbtorch.config import PanelGroup
from nbtorch.errors import ConfigError


def chosen_groups(root: PanelGroup, n_panels: int, levels: Sequence[int | str]) -> list[PanelGroup]:
    """The rigid bodies that ``levels`` names: 0 the whole detector, 1 its children, …, "panels" every panel.

    Raises ConfigError for a level that the detector's hierarchy does not have.
    """
    known = sorted({depth for depth, _ in root.walk()})
    for level in levels:
        if level not in (*known, "panels"):
            listed = ", ".join(str(depth) for depth in known)
            raise ConfigError(f"detector.levels={list(levels)}", f"there is no {level}", f"Use {listed} and panels")
    groups = [group for depth, group in root.walk() if depth in levels]
    if "panels" in levels and n_panels > 1:
        groups += [PanelGroup(f"panel{index}", (index,)) for index in range(n_panels)]
    return groups
