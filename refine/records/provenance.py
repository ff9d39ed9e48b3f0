"""Where a result comes from: the command, the versions, and a hash of every file that went in."""

from __future__ import annotations

import hashlib
import platform
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nbtorch import __version__
from nbtorch.io.frames import FrameRef
from refine.settings.request import Request

PACKAGES = ("torch", "pytorch-lightning", "hydra-core", "numpy", "gemmi", "fabio")
_CHUNK = 2**20


@dataclass(frozen=True)
class DataFile:
    """A file that was read. ``sha256`` None: it is not there any more."""

    path: str
    size: int | None
    sha256: str | None


@dataclass(frozen=True)
class Provenance:
    """``command`` is what to type to do it again, ``started`` is UTC (ISO 8601)."""

    version: str
    command: str
    seed: int
    started: str
    python: str
    machine: str
    threads: int
    versions: tuple[tuple[str, str], ...]


def provenance(request: Request, arguments: Sequence[str]) -> Provenance:
    """What can be said before the fit."""
    import torch  # takes a second to import, which --help and a mistyped setting do not wait for

    return Provenance(
        version=__version__,
        command=shlex.join(["nb-refine", *arguments]),
        seed=request.fit.seed,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}",
        threads=torch.get_num_threads(),
        versions=tuple((name, _version(name)) for name in PACKAGES),
    )


def input_files(request: Request, frames: Iterable[str | Path]) -> tuple[DataFile, ...]:
    """Every file that the fit read, with its SHA-256."""
    data = request.fit.data
    named = [data.experiment, data.mask, data.spots, None if data.amplitudes == "none" else data.amplitudes]
    paths = [Path(name) for name in named if name is not None] + [FrameRef.parse(str(frame)).path for frame in frames]
    return tuple(_hashed(path) for path in dict.fromkeys(paths))


def _hashed(path: Path) -> DataFile:
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
    except OSError:  # a vanished frame costs its hash, not the result
        return DataFile(str(path), None, None)
    return DataFile(str(path), size, digest.hexdigest())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
