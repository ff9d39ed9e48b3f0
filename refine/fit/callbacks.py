"""What happens around an iteration: progress, checkpoints, and stopping. One epoch is one iteration."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, Checkpoint, RichProgressBar
from pytorch_lightning.callbacks.progress.rich_progress import RichProgressBarTheme
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeElapsedColumn

from refine.processes import exchange
from refine.records.journal import Journal

SHOWN = {"loss": "loss {:.5g}", "rms_px": "rms {:.3f} px", "damping": "damping {:.1e}"}


def shown_metrics(metrics: Mapping[str, Any]) -> dict[str, str]:
    """What the progress shows of Lightning's logged ``metrics``, formatted."""
    return {name: text.format(float(metrics[name])) for name, text in SHOWN.items() if name in metrics}


class IterationBar(RichProgressBar):
    """Lightning's rich bar over iterations rather than over the one batch that each of them has."""

    def __init__(self) -> None:
        super().__init__(leave=True, theme=RichProgressBarTheme(metrics_text_delimiter="  "))

    @property
    def total_train_batches(self) -> int:
        return int(self.trainer.max_epochs or 0)

    def configure_columns(self, trainer: pl.Trainer) -> list[ProgressColumn]:
        """A short bar, so that loss and rms fit on a line of 80 characters."""
        return [TextColumn("{task.description}"), BarColumn(16), MofNCompleteColumn(), TimeElapsedColumn()]

    def _get_train_description(self, current_epoch: int) -> str:
        return "fitting"

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Loss, rms and damping with their units; the base class would print loss: 3.000 loss."""
        return {
            text.partition(" ")[0]: text.partition(" ")[2] for text in shown_metrics(trainer.callback_metrics).values()
        }

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.is_enabled and self.train_progress_bar_id is None:
            self._initialize_train_progress_bar_id()
            self._update(self.train_progress_bar_id, trainer.current_epoch)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._update(self.train_progress_bar_id, trainer.current_epoch + 1)
        self._update_metrics(trainer, pl_module)
        self.refresh(hard=True)


class IterationLines(Callback):
    """One plain line an iteration, for logs and pipes."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        parts = shown_metrics(trainer.callback_metrics).values()
        self.journal.progress("  ".join([f"iteration {trainer.current_epoch + 1:3d}", *parts]))


class StopWhenConverged(Callback):
    """Ends the loop when the module says that it has converged, also one that was resumed converged."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._look(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._look(trainer, pl_module)

    def _look(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if bool(getattr(pl_module, "converged")):  # noqa: B009 - nn.Module's attributes are Tensor | Module to mypy
            trainer.should_stop = True


class LastCheckpoint(Checkpoint):
    """The state after every iteration, moved into place whole, so that a kill at any moment leaves the last one.

    A disk that is full costs the checkpoints, not the fit.
    """

    def __init__(self, path: Path, journal: Journal) -> None:
        self.path, self.journal = path, journal
        self.failed = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        temporary = self.path.with_name(f".{self.path.name}.part")
        try:
            trainer.save_checkpoint(temporary, weights_only=False)
        except OSError as error:
            trainer.strategy.barrier("Trainer.save_checkpoint")  # where the other processes, which write nothing, wait
            self._tell(error)
            return
        try:
            if trainer.is_global_zero:
                temporary.replace(self.path)
            self.failed = False
        except OSError as error:
            self._tell(error)

    def _tell(self, error: OSError) -> None:
        """Say once, not at every iteration, that nothing was written."""
        if not self.failed:
            said = f"The checkpoint {self.path} was not written ({error.strerror or error}); the fit goes on."
            self.journal.say("checkpoint_not_written", said, "warning", path=str(self.path))
        self.failed = True


class StopWhenAsked(Callback):
    """An interrupt or SIGTERM ends the fit after the iteration that runs, and its results are kept.

    A second interrupt raises KeyboardInterrupt at once.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.stopped_by = ""
        self._before: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # Python lets only the main thread handle signals

        def stop(number: int, frame: FrameType | None) -> None:
            name = signal.Signals(number).name
            if self.stopped_by and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.stopped_by = name
            said = f"{name}: stopping after this iteration; what is fitted so far is kept"
            self.journal.say("stopping", said, signal=name)

        self._before = {number: signal.signal(number, stop) for number in self.SIGNALS}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop all processes where one of them was asked to."""
        self.stopped_by = next((name for name in exchange(self.stopped_by) if name), "")
        trainer.should_stop = trainer.should_stop or bool(self.stopped_by)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restore()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
