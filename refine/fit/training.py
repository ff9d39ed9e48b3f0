"""The Lightning trainer of a fit, and the loop under it."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import CSVLogger, Logger
from pytorch_lightning.plugins.environments import SLURMEnvironment

from nbtorch.errors import ConfigError, DataError
from refine.fit.callbacks import IterationBar, IterationLines, LastCheckpoint, StopWhenAsked, StopWhenConverged
from refine.processes import meet
from refine.records.journal import Journal
from refine.records.run_folder import CHECKPOINT, LOGS, RunFolder
from refine.settings.request import Request, TrainerSettings

# What Lightning says of every run and that tells a crystallographer nothing. Whatever else it has to say is shown.
NOISE = (
    "GPU available:",
    "TPU available:",
    "HPU available:",
    "💡 Tip:",
    "`Trainer.fit` stopped:",
    "Restoring states from the checkpoint path",
    "Restored all states from the checkpoint",
    "Initializing distributed:",
    "-" * 40,
    "distributed_backend=",
)
QUIET_WARNINGS = (
    r".*does not have many workers",  # the data are in memory
    r".*The number of training batches \(\d+\) is smaller than the logging interval",
    r".*`LightningModule.configure_optimizers` returned `None`",  # the solver is not a torch optimizer
    r".*Be aware that when using `ckpt_path`, callbacks used to create the checkpoint",
    r".*GPU available but not used",
    r".*isinstance\(treespec, LeafSpec\)",  # Lightning's own use of torch
)


class _NotNoise(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().lstrip().startswith(NOISE)


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning without NOISE and QUIET_WARNINGS."""
    loggers = [logging.getLogger(f"pytorch_lightning.{name}") for name in ("utilities.rank_zero", "trainer")]
    names = ("lightning.pytorch.utilities.rank_zero", "pytorch_lightning", "lightning_fabric")
    loggers += [logging.getLogger(name) for name in names]
    silence = _NotNoise()
    handlers = [handler for logger in loggers for handler in logger.handlers]
    for target in (*loggers, *handlers):
        target.addFilter(silence)
    try:
        with warnings.catch_warnings():
            for pattern in QUIET_WARNINGS:
                warnings.filterwarnings("ignore", message=pattern)
            yield
    finally:
        for target in (*loggers, *handlers):
            target.removeFilter(silence)


def progress(settings: TrainerSettings, journal: Journal) -> list[Callback]:
    """The progress display that was asked for: a bar on a terminal, lines elsewhere."""
    kind = settings.progress
    if kind == "auto":
        kind = "bar" if sys.stdout.isatty() else "lines"
    displays: dict[str, list[Callback]] = {"bar": [IterationBar()], "lines": [IterationLines(journal)], "none": []}
    return displays[kind]


def logger(settings: TrainerSettings, folder: Path) -> Logger | bool:
    """The logger of metrics. Raises ConfigError where TensorBoard is asked for and not installed."""
    if settings.logger == "tensorboard":
        from pytorch_lightning.loggers import TensorBoardLogger

        try:
            return TensorBoardLogger(folder, name=LOGS)
        except ModuleNotFoundError as error:
            raise ConfigError(
                "trainer.logger=tensorboard", "TensorBoard is not installed", "Install tensorboard, or use csv"
            ) from error
    return CSVLogger(folder, name=LOGS) if settings.logger == "csv" else False


def trainer(request: Request, folder: RunFolder, callbacks: list[Callback]) -> pl.Trainer:
    """A Lightning trainer for one fit. Raises ConfigError where the accelerator is not there."""
    settings = request.trainer
    if settings.accelerator == "cuda" and not torch.cuda.is_available():
        raise ConfigError("trainer.accelerator=cuda", "torch finds no CUDA device", "Use auto or cpu")
    return pl.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        strategy=settings.strategy,
        precision="64-true",
        max_epochs=request.fit.solver.max_iterations,
        logger=logger(settings, folder.path),
        log_every_n_steps=1,
        callbacks=callbacks,
        enable_checkpointing=True,
        enable_progress_bar=any(isinstance(callback, IterationBar) for callback in callbacks),
        enable_model_summary=False,
        default_root_dir=folder.path,
        use_distributed_sampler=False,  # every process iterates; the experiments were dealt out when they were read
        plugins=cluster(),
    )


def cluster() -> SLURMEnvironment | None:
    """SLURM's environment where it runs the fit: without Lightning's requeueing, whose checkpoint is not ours."""
    return SLURMEnvironment(auto_requeue=False) if SLURMEnvironment.detect() else None


def connect(settings: TrainerSettings) -> None:
    """Start the other processes of the fit, where neither SLURM nor torchrun has, and meet them.

    Before anything is read: each is to read its own share.
    """
    with quiet():
        strategy = pl.Trainer(
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.num_nodes,
            strategy=settings.strategy,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            plugins=cluster(),
        ).strategy
        assert strategy.launcher is not None
        strategy.launcher.launch(strategy.setup_environment)
    meet()


def solve(
    module: pl.LightningModule, data: pl.LightningDataModule, request: Request, folder: RunFolder, journal: Journal
) -> str:
    """Iterate until converged, out of iterations, or stopped; the name of the signal that stopped it, else "".

    Raises DataError where the checkpoint of a resumed run is damaged or not this problem's.
    """
    asked = StopWhenAsked(journal)
    kept = LastCheckpoint(folder / CHECKPOINT, journal)
    callbacks = [*progress(request.trainer, journal), StopWhenConverged(), asked, kept]
    if folder.checkpoint is not None:
        refuse_foreign_checkpoint(folder.checkpoint, module)
    with quiet():
        trainer(request, folder, callbacks).fit(module, datamodule=data, ckpt_path=folder.checkpoint, weights_only=True)
    if not getattr(module, "converged"):  # noqa: B009 - see StopWhenConverged
        count = request.fit.solver.max_iterations
        why = f"stopped by {asked.stopped_by}" if asked.stopped_by else f"{count} iterations were not enough"
        setattr(module, "message", why)  # noqa: B010 - as above
    return asked.stopped_by


def refuse_foreign_checkpoint(path: Path, module: pl.LightningModule) -> None:
    """Raises DataError for a checkpoint that is damaged, or whose parameters are not this module's."""
    change = "Give the settings it was made with, or overwrite=true to start again"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except Exception as error:  # torch raises a dozen kinds for a file that is none of its own
        raise DataError(f"checkpoint {path}", f"it cannot be read ({type(error).__name__})", change) from error
    ours = {name: value.shape for name, value in module.state_dict().items()}
    if ours != {name: value.shape for name, value in state.items()}:
        raise DataError(f"checkpoint {path}", "it does not belong to this fit: its parameters are others", change)
