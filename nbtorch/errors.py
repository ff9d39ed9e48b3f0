"""Errors that say what was given, why it fails and what to change."""

from __future__ import annotations


class NbtorchError(Exception):
    """Base of every error that nbtorch raises on purpose.

    The message is one paragraph: what was given, why it fails, what to change.
    """

    def __init__(self, given: str, why: str, change: str) -> None:
        super().__init__(f"{given}: {why}. {change}.")
        self.given, self.why, self.change = given, why, change

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        # Exception's own pickling would call __init__ with the joined message alone.
        return type(self), (self.given, self.why, self.change)


class ConfigError(NbtorchError):
    """A setting that cannot be used."""


class GeometryError(NbtorchError):
    """A cell, orientation or detector that has no physical meaning."""


class FileError(NbtorchError):
    """A file that is missing, damaged or of another kind than its name says."""


class DataError(NbtorchError):
    """Readable data that do not fit together, or that hold nothing to work on."""
