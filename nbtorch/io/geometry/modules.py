"""Detectors made of modules: the gaps between them, which every image holds and which measure nothing."""

from __future__ import annotations

from dataclasses import dataclass

Rectangle = tuple[int, int, int, int]


@dataclass(frozen=True)
class Modules:
    """Pixels of one module and of the gaps between two, each (fast, slow)."""

    size: tuple[int, int]
    gap: tuple[int, int]


#: By the makers' manuals (Dectris): what a header's name of the detector says.
MODULES = {
    "PILATUS": Modules((487, 195), (7, 17)),
    "EIGER2": Modules((1028, 512), (12, 38)),
    "EIGER": Modules((1030, 514), (10, 37)),
}


def gaps(name: str, size: tuple[int, int]) -> tuple[Rectangle, ...]:
    """Half-open rectangles (fast0, slow0, fast1, slow1) of the gaps of the detector called ``name``.

    None where the name is not known, or its modules do not make an image of ``size`` (fast, slow).
    """
    for modules in _candidates(name):
        counts = [_count(size[i], modules.size[i], modules.gap[i]) for i in (0, 1)]
        if None in counts:
            continue
        fast = [k * (modules.size[0] + modules.gap[0]) - modules.gap[0] for k in range(1, counts[0] or 0)]
        slow = [k * (modules.size[1] + modules.gap[1]) - modules.gap[1] for k in range(1, counts[1] or 0)]
        return (
            *((start, 0, start + modules.gap[0], size[1]) for start in fast),
            *((0, start, size[0], start + modules.gap[1]) for start in slow),
        )
    return ()


def _candidates(name: str) -> list[Modules]:
    wanted = name.upper().replace(" ", "")
    if "PILATUS" in wanted:
        return [MODULES["PILATUS"]]
    return [MODULES["EIGER2"], MODULES["EIGER"]] if "EIGER" in wanted else []


def _count(length: int, module: int, gap: int) -> int | None:
    number, rest = divmod(length + gap, module + gap)
    return number if rest == 0 else None
