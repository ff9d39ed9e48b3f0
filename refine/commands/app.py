"""One run, from a composed configuration to a folder of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from nbtorch.errors import ConfigError
from nbtorch.io.atomic import write_text
from nbtorch.io.table import read_json, write_json
from refine.processes import agreed, failing_together, is_first, refuse_other_number, silent
from refine.records.journal import Journal
from refine.records.provenance import input_files, provenance
from refine.records.run_folder import CONFIG, RUN, RunFolder, claim
from refine.settings.request import Request, request_from

# What may differ when a run is resumed: how long and where it runs, not what it fits.
FREE_TO_CHANGE = ("resume", "overwrite", "trainer", "debug", "paths", "solver.max_iterations")


def plain(config: DictConfig) -> dict[str, Any]:
    """``config`` as plain data, interpolations resolved. Raises ConfigError naming a value that is still missing."""
    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = str(error.full_key)
        raise ConfigError(f"no {key}", "this configuration cannot do without it", f"Give {key}=…") from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def run(config: DictConfig, folder: Path, arguments: Sequence[str]) -> str:
    """Do what ``config`` asks for, in ``folder``; the level of a fit's verdict, "" for a check.

    Raises NbtorchError for everything that a user can put right.
    """
    values = plain(config)
    request = request_from(values)
    journal = Journal(print if is_first() else silent)
    refuse_other_number(request.trainer.processes)
    if request.check:
        if is_first():
            from refine.commands.check_command import check

            check(request, folder, journal)
        return ""
    if request.trainer.processes > 1:
        from refine.fit.training import connect

        connect(request.trainer)
    if request.trainer.threads is not None:
        from torch import set_num_threads

        set_num_threads(request.trainer.threads)
    with failing_together(), claim(folder, resume=request.resume, overwrite=request.overwrite) as claimed:
        return fit(request, values, claimed, arguments, journal)


def fit(
    request: Request, values: Mapping[str, Any], folder: RunFolder, arguments: Sequence[str], journal: Journal
) -> str:
    """Prepare, solve, and write every result of one fit; the level of its verdict."""
    # Lightning and the core take seconds to import: a mistyped setting is told before that.
    from refine.conclude.conclude import outcome
    from refine.fit.data import ShoeboxData
    from refine.fit.module import FitModule
    from refine.fit.prepare import prepare
    from refine.fit.prepare_positions import prepare_positions, without_frames
    from refine.fit.training import solve
    from refine.report.report import write_report
    from refine.report.result import Finding, read_truth, truth_rows, write_results
    from refine.report.summary import print_summary

    folder = agreed(folder)
    if folder.checkpoint is not None:
        refuse_other_settings(values, folder)
    record = provenance(request, arguments)
    truth = None if request.truth is None else read_truth(request.truth)  # a malformed file costs no fit
    problem = (prepare_positions if without_frames(request.fit) else prepare)(request.fit, journal)
    if is_first():
        begin(folder, values, {"command": record.command, "started": record.started})
    module = FitModule(problem)
    stopped_by = "" if problem.positions_alone else solve(module, ShoeboxData(problem), request, folder, journal)
    module.loop.begin()  # of a fit that had ended when it was taken up again: its pixels are reported
    found = outcome(problem, module.loop)
    if not is_first():
        return found.verdict.level
    files = input_files(request, [frame.path for frame in found.frames])
    finding = Finding(found, record, files, truth_rows(found, truth or {}), stopped_by)
    write_results(finding, problem.scene.document, folder)  # first: a report that fails costs no result
    write_report(finding, folder)
    print_summary(finding, folder)
    return found.verdict.level


def begin(folder: RunFolder, values: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """Mark ``folder`` as this run's: only now, with the data read, does the run before give way."""
    if folder.checkpoint is None:
        folder.clear()
    (folder / "checkpoints").mkdir(exist_ok=True)
    write_text(folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(dict(values))), overwrite=True)
    write_json(folder / RUN, {**record, "settings": compared(values)}, overwrite=True)


def refuse_other_settings(values: Mapping[str, Any], folder: RunFolder) -> None:
    """Raises ConfigError where a resumed run was begun with other settings."""
    if not (folder / RUN).is_file():
        return
    before, now = read_json(folder / RUN).get("settings", {}), compared(values)
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if changed:
        shown = ", ".join(f"{key} was {before.get(key)}" for key in changed[:4])
        raise ConfigError(
            f"resume=true in {folder.path}",
            f"the run there was begun with other settings ({shown})",
            "Give the same ones, or overwrite=true to start again",
        )


def compared(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted key, without those that are free to change."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if name in FREE_TO_CHANGE:
            continue
        flat |= compared(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat
