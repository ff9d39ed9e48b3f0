"""An NXmx file while its geometry is read, and what is said of it on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nbtorch.io.geometry.types import Stated
from nbtorch.io.hdf5.open import missing_target, text

if TYPE_CHECKING:
    import h5py


@dataclass
class Reader:
    """One file being read, and what is said of it on the way."""

    file: h5py.File
    stated: list[Stated] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def say(self, name: str, value: str, origin: str, *, assumed: bool = False) -> None:
        """Record where a number came from."""
        self.stated.append(Stated(name, value, origin, assumed))

    def find(self, *names: str) -> Any | None:
        """The first of these fields that can be read; one that lies in a missing file is noted."""
        for name in names:
            absent = missing_target(self.file, name)
            if absent is not None:
                self.notes.append(f"{name} is not used: it is kept in {absent}, which is missing")
            elif name in self.file:
                return self.file[name]
        return None

    def text_of(self, name: str) -> str:
        """The text of a field, "" where it is not there."""
        item = self.find(name)
        return "" if item is None else text(item[()])
