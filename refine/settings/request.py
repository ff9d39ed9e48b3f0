"""What the command line asks for: the settings of the fit, and those of everything around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from nbtorch.errors import ConfigError
from refine.settings.fit_settings import DataSettings, FitSettings
from refine.settings.locate import locate, locate_frames
from refine.settings.typed import build, unknown_key


@dataclass(frozen=True)
class TrainerSettings:
    """Where and how Lightning runs the fit; see configs/trainer/default.yaml."""

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: Literal["auto", "ddp"] = "auto"
    threads: int | None = None
    progress: Literal["auto", "bar", "lines", "none"] = "auto"
    logger: Literal["csv", "tensorboard", "none"] = "csv"

    def __post_init__(self) -> None:
        for name in ("devices", "num_nodes", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"trainer.{name}={value}", "it must be 1 or more", f"Change trainer.{name}")

    @property
    def processes(self) -> int:
        """How many processes share the fit."""
        return self.devices * self.num_nodes


@dataclass(frozen=True)
class DebugSettings:
    """``traceback``: show where an error came from, though it has a message of its own."""

    traceback: bool = False


@dataclass(frozen=True)
class PathSettings:
    """``output``: the folder of dated run folders."""

    output: str = "outputs"


@dataclass(frozen=True)
class Places:
    """Keys of the group ``data`` that say where to look, not what to fit."""

    root: str | None = None
    folders: tuple[str, ...] = (".",)
    truth: str | None = None


@dataclass(frozen=True)
class Request:
    """A checked command line. Paths in ``fit`` are absolute."""

    fit: FitSettings
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    debug: DebugSettings = field(default_factory=DebugSettings)
    truth: Path | None = None
    resume: bool = False
    overwrite: bool = False
    check: bool = False


@dataclass(frozen=True)
class _Around:
    """The keys of the configuration that are not FitSettings'."""

    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    debug: DebugSettings = field(default_factory=DebugSettings)
    paths: PathSettings = field(default_factory=PathSettings)
    resume: bool = False
    overwrite: bool = False
    check: bool = False


def request_from(config: Mapping[str, Any]) -> Request:
    """The request that a composed configuration (plain data) makes.

    Raises ConfigError for unknown keys, wrong types and values; FileError for files that are not there.
    """
    own, around = {field.name for field in fields(FitSettings)}, {field.name for field in fields(_Around)}
    for key in config:
        if key not in own | around:
            raise unknown_key(str(key), sorted(own | around))
    fit = {key: value for key, value in config.items() if key in own}
    beside = build(_Around, {key: value for key, value in config.items() if key in around})
    fit["data"], places = _split_data(fit.get("data", {}))
    settings = build(FitSettings, fit)
    data = _located(settings.data, places)
    truth = None if places.truth is None else locate("data.truth", places.truth, places.root, places.folders)
    return Request(
        fit=replace(settings, data=data),
        trainer=beside.trainer,
        debug=beside.debug,
        truth=truth,
        resume=beside.resume,
        overwrite=beside.overwrite,
        check=beside.check,
    )


def _split_data(data: Mapping[str, Any]) -> tuple[dict[str, Any], Places]:
    own = {field.name for field in fields(Places)}
    places = build(Places, {key: value for key, value in data.items() if key in own}, "data")
    known = sorted(own | {field.name for field in fields(DataSettings)})
    for key in data:
        if key not in known:
            raise unknown_key(f"data.{key}", known)
    return {key: value for key, value in data.items() if key not in own}, places


def _located(data: DataSettings, places: Places) -> DataSettings:
    """``data`` with every path absolute. Raises FileError for one that is not there."""
    where = (places.root, places.folders)
    changed: dict[str, Any] = {}
    for name in ("experiment", "mask", "spots", "amplitudes"):
        value = getattr(data, name)
        if value is not None and not (name == "amplitudes" and value == "none"):
            changed[name] = str(locate(f"data.{name}", value, *where))
    if data.frames is not None:
        changed["frames"] = str(locate_frames("data.frames", data.frames, *where))
    return replace(data, **changed)
