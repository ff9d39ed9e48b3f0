"""From the command line through Hydra to a run: composition, sweeps, and the run folder's name."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nbtorch.errors import ConfigError, FileError, NbtorchError
from refine.commands.app import run
from refine.settings.paths import config_dir, default_data_dir
from refine.settings.typed import nearest

CONFIG_NAME = "fit"
EXIT_FAILED, EXIT_USAGE = 1, 2
EXIT_VERDICT = 3  # the fit has failed by its verdict; its results are kept
# Hydra runs what its own node names (targets, logging classes): a config from elsewhere must not reach it.
REACHES_HYDRA = re.compile(r"hydra|_target_")


def register_resolvers() -> None:
    """The interpolations of our configs: ${default_data:} is the folder of the embedded experiment."""
    OmegaConf.register_new_resolver("default_data", lambda: str(default_data_dir()), replace=True)


def launch(prepared: Sequence[str], typed: Sequence[str]) -> int:
    """Compose the configuration from ``prepared`` arguments and run it, or each run of a sweep; the exit code.

    ``typed`` is what the user typed, for the record. A run of a sweep that fails does not end the sweep. Raises
    NbtorchError for a single run that cannot be done.
    """
    register_resolvers()
    refuse_foreign_code(prepared)
    failures: list[Exception] = []
    levels: list[str] = []
    sweeping = "--multirun" in prepared or "-m" in prepared

    def task(config: DictConfig) -> None:
        # Hydra would print its own lines about an exception that passed through it
        try:
            if sweeping and config.trainer.devices * config.trainer.num_nodes > 1:
                raise ConfigError("--multirun", "the runs of a sweep have one process each", "Leave trainer=ddp out")
            levels.append(run(config, Path(HydraConfig.get().runtime.output_dir), typed))
        except NbtorchError as error:
            failures.append(error)
            if sweeping:
                print(f"nb-refine: run {HydraConfig.get().job.num}: {error}", file=sys.stderr)
        except Exception as error:
            failures.append(error)

    try:
        with _hydra_sees(prepared):
            hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=CONFIG_NAME)(task)()
    except (HydraException, OmegaConfBaseException) as error:
        print(f"nb-refine: {explain(error)}", file=sys.stderr)
        return EXIT_USAGE
    except SystemExit as error:  # argparse, or Hydra after it has printed something
        return error.code if isinstance(error.code, int) else EXIT_USAGE * bool(error.code)
    except OSError as error:
        if error.filename is None:
            raise
        change = "Give a folder that you can write: hydra.run.dir=OUT"
        raise FileError(f"run folder {error.filename}", f"it cannot be written ({error.strerror})", change) from error
    if failures and not (sweeping and all(isinstance(failure, NbtorchError) for failure in failures)):
        raise failures[-1]
    return EXIT_FAILED if failures else EXIT_VERDICT if "failed" in levels else 0


@contextmanager
def _hydra_sees(arguments: Sequence[str]) -> Iterator[None]:
    """Hydra reads sys.argv, and leaves its errors to us only when this variable says so."""
    argv, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = [argv[0], *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = argv
        if full is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full


def refuse_foreign_code(arguments: Sequence[str]) -> None:
    """Raises ConfigError where a config that is not ours could make Hydra run code."""
    for position, argument in enumerate(arguments):
        if argument.lstrip("+").startswith("hydra.searchpath="):
            raise ConfigError(argument, "configs of others come through one door", "Use --config-dir FOLDER")
        flag, _, attached = argument.partition("=")
        if flag in ("--config-dir", "-cd"):
            folder = attached or next(iter(arguments[position + 1 : position + 2]), "")
            for path in sorted(Path(folder).rglob("*.yaml")):
                _refuse_reaching(path, Path(folder))


def _refuse_reaching(path: Path, folder: Path) -> None:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    code = [line for line in lines if "@package" in line or not line.lstrip().startswith("#")]
    if "hydra" in path.relative_to(folder).parts or any(REACHES_HYDRA.search(line) for line in code):
        raise ConfigError(
            f"config {path}",
            "it configures Hydra itself or names code to run, which a config of --config-dir may not",
            "Leave that out, or give it on the command line",
        )


def explain(error: Exception) -> str:
    """A composition error in one paragraph, with the nearest setting where a key is not known."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else None
    text = " ".join(" ".join(str(part).split()) for part in (error, cause) if part is not None)
    unknown = re.match(r"Could not override '(?P<key>[\w.]+)'", text)
    if unknown:
        return f"{unknown['key']}: there is no such setting. {nearest(unknown['key'], _known_keys())}."
    text = re.sub(r" ?(See https?://\S+ for details|full_key: \S+|object_type=\w+|Config search path: .*)", "", text)
    if isinstance(error, OverrideParseException):
        text = f"{error.override}: it cannot be parsed ({text.rstrip()}). Quote special characters"
    return f"{text} (nb-refine --help lists every setting)"


def _known_keys() -> list[str]:
    """Every setting by its dotted name."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return _keys(compose(CONFIG_NAME))


def _keys(config: DictConfig, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key in config:
        node = config._get_node(key)
        name = f"{prefix}{key!s}"
        keys += _keys(node, f"{name}.") if isinstance(node, DictConfig) else [name]
    return keys
