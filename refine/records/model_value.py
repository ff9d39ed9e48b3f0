"""The values that a model is made of, and where each comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Origin = Literal["fitted", "stated", "estimated", "assumed"]
ORIGINS: tuple[Origin, ...] = ("fitted", "stated", "estimated", "assumed")


@dataclass(frozen=True)
class ModelValue:
    """A value that the model needs, at the end of the fit, in ``unit``; plain numbers, words and lists of them.

    ``origin``: "fitted", the fit refined it; "stated", the .expt or the user gave it; "estimated", the program took it
    from the data, and no fit moved it; "assumed", nobody gave it and no data told. ``source`` says of whom or what: the
    .expt, the setting, what it was estimated from.
    """

    name: str
    value: Any
    unit: str
    origin: Origin
    source: str
