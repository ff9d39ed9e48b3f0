"""The command line of ``nb-refine batch``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from nbtorch.errors import ConfigError
from refine.commands.app import compared, plain
from refine.commands.batch import members
from refine.commands.batch_run import Batch
from refine.commands.launch import CONFIG_NAME, EXIT_USAGE, explain, register_resolvers
from refine.processes import refuse_other_number
from refine.records.run_folder import locked
from refine.settings.overrides import key_of, prepare
from refine.settings.paths import config_dir

OWN = ("data.experiment", "hydra.run.dir", "resume", "overwrite", "check")  # what the batch sets for each fit
HELP = """\
Fit many experiments, each by itself: a crystal and a geometry of its own for every .expt. (Stills that share one
detector belong in one .expt, which nb-refine data.experiment=… fits together.)

  nb-refine batch 'stills/*.expt' data.amplitudes=F.mtz parameters=crystal
  nb-refine batch a.expt b.expt --into trial --jobs 4 crystal.n_cells=[30,30,30]

Every fit has the folder DIR/NAME, called after its file, with all that a single fit leaves, and output.txt, what it
said. DIR/batch.csv and DIR/batch.json are the table of all: how each fit ended and why, spots, rms, reduced
chi-square, and every free parameter with its sigma. They are written anew, whole, as fits end.

A fit that fails is a row with its reason, and costs nothing else. Given again after an interruption of any kind,
even SIGKILL, the same command leaves finished fits as they are, goes on from the checkpoints of those that were broken
off, and tries those that failed once more."""
ENDS = """\
key=value as nb-refine takes them (nb-refine --help), the same for all fits.
Exit code: 0 when at least one fit was done, 1 when none was, 2 for a wrong command line, 130 interrupted."""


def main(arguments: Sequence[str]) -> int:
    """Fit all experiments that ``arguments`` name; the exit code. Raises NbtorchError for what stops the whole."""
    try:
        options, rest = _parser().parse_known_args(list(arguments))
    except SystemExit as error:  # argparse has printed what it wants
        return int(error.code or 0)
    patterns = [argument for argument in rest if not _is_override(argument)]
    overrides = [argument for argument in rest if _is_override(argument)]
    unknown = [argument for argument in patterns if argument.startswith("-")]
    if unknown or not patterns or options.jobs < 1:
        wrong = f"{unknown[0]}: no such option" if unknown else "no experiment" if not patterns else "--jobs is below 1"
        print(f"nb-refine batch: {wrong} (nb-refine batch --help)", file=sys.stderr)
        return EXIT_USAGE
    try:
        settings = _settings(overrides)
    except (HydraException, OmegaConfBaseException) as error:
        print(f"nb-refine: {explain(error)}", file=sys.stderr)
        return EXIT_USAGE
    chosen = members(patterns, options.into)
    with locked(options.into, change="Wait for it, or give another --into"):
        batch = Batch(chosen, options.into, settings, ["batch", *arguments], overwrite=options.overwrite)
        return batch.run([*_for_each(settings, options), *overrides], options.jobs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "nb-refine batch",
        usage="nb-refine batch PATTERN… [--into DIR] [--jobs N] [--overwrite] [key=value …]",
        description=HELP,
        epilog=ENDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = Path("outputs/batch")
    parser.add_argument("--into", type=Path, default=default, metavar="DIR", help=f"the batch's folder ({default})")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="fits at a time (1); processors are shared out"
    )
    parser.add_argument("--overwrite", action="store_true", help="fit everything again, whatever DIR holds")
    return parser


def _is_override(argument: str) -> bool:
    """Whether ``argument`` sets something; a file may have an equals sign in its name."""
    return bool(key_of(argument)) and not Path(argument).is_file()


def _settings(overrides: Sequence[str]) -> dict[str, Any]:
    """The settings of the fits by dotted key. Raises ConfigError for those that a batch does not leave to the user."""
    for argument in overrides:
        if key_of(argument) in OWN or key_of(argument).startswith("hydra."):
            raise ConfigError(argument, "the batch sets that for each fit", "Leave it out; see nb-refine batch --help")
    register_resolvers()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        values = plain(compose(CONFIG_NAME, prepare(["data.experiment=none.expt", *overrides])))
    if values["trainer"]["devices"] * values["trainer"]["num_nodes"] > 1:
        raise ConfigError("trainer=ddp", "a fit of a batch has one process", "Give --jobs N for N fits at a time")
    refuse_other_number(1)
    found = compared(values) | {
        f"trainer.{key}": value for key, value in values["trainer"].items() if key in ("threads", "progress")
    }
    del found["data.experiment"]
    return {**found, "solver.max_iterations": values["solver"]["max_iterations"]}


def _for_each(settings: Mapping[str, Any], options: argparse.Namespace) -> list[str]:
    """What every fit is told besides the user's overrides."""
    given = ["overwrite=true" if options.overwrite else "resume=true"]
    if settings["trainer.progress"] == "auto":
        given.append("trainer.progress=lines")
    if options.jobs > 1 and settings["trainer.threads"] is None:
        given.append(f"trainer.threads={max(1, (os.cpu_count() or 1) // options.jobs)}")
    return given
