"""The loop around the iterations: when it stops, what it says, what it keeps."""

from __future__ import annotations

import logging
import os
import re
import signal
import warnings
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from nbtorch.errors import ConfigError, DataError
from refine.fit.callbacks import IterationBar, IterationLines, shown_metrics
from refine.fit.training import progress, quiet, solve
from refine.processes import is_first
from refine.records.journal import Journal
from refine.records.run_folder import CHECKPOINT, RunFolder, claim
from refine.settings.fit_settings import DataSettings, FitSettings, SolverSettings
from refine.settings.request import Request, TrainerSettings


class Halving(pl.LightningModule):
    """Halves its value every iteration, until it is small."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.value = torch.nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
        self.converged = False
        self.message = "small"
        self.steps = 0
        self.signal_at: int | None = None
        self.after_signal = signal.SIGTERM

    def configure_optimizers(self) -> None:
        """None."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        with torch.no_grad():
            self.value.mul_(0.5)
        self.steps += 1
        self.log("loss", self.value.item())
        self.log("rms_px", 2 * self.value.item())
        self.converged = self.value.item() < 0.05
        if self.steps == self.signal_at:
            os.kill(os.getpid(), self.after_signal)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["converged"] = self.converged

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.converged = checkpoint["converged"]


class OneBatch(pl.LightningDataModule):
    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(TensorDataset(torch.zeros(1, 1)))


def request(iterations: int = 20, **trainer: Any) -> Request:
    settings = TrainerSettings(**{"accelerator": "cpu", "progress": "lines", "logger": "none", **trainer})
    return Request(FitSettings(data=DataSettings("a.expt"), solver=SolverSettings(max_iterations=iterations)), settings)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    (tmp_path / "checkpoints").mkdir()
    return RunFolder(tmp_path)


def run(module: Halving, folder: RunFolder, asked: Request | None = None) -> tuple[str, list[str]]:
    said: list[str] = []
    return solve(module, OneBatch(), asked or request(), folder, Journal(said.append)), said


def test_it_stops_when_converged_and_says_each_iteration(folder: RunFolder) -> None:
    module = Halving()
    stopped, said = run(module, folder)
    assert stopped == ""
    assert module.steps == 5
    assert said[0].split() == ["iteration", "1", "loss", "0.5", "rms", "1.000", "px"]
    assert len(said) == 5


def test_out_of_iterations_it_says_so(folder: RunFolder) -> None:
    module = Halving()
    run(module, folder, request(2))
    assert (module.steps, module.message) == (2, "2 iterations were not enough")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_iteration_and_the_handlers_come_back(
    folder: RunFolder, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    module = Halving()
    module.signal_at, module.after_signal = 2, number
    stopped, said = run(module, folder)
    assert stopped == number.name
    assert module.steps == 2
    assert module.message == f"stopped by {number.name}"
    assert any("stopping after this iteration" in text for text in said)
    assert signal.getsignal(number) is before


def test_the_checkpoint_of_every_iteration_resumes_where_it_stood(folder: RunFolder) -> None:
    first = Halving()
    run(first, folder, request(2))
    second = Halving()
    run(second, RunFolder(folder.path, folder / CHECKPOINT))
    assert second.steps == 3
    assert second.value.item() == 0.5**5


def test_a_converged_checkpoint_is_not_iterated_further(folder: RunFolder) -> None:
    run(Halving(), folder)
    again = Halving()
    run(again, RunFolder(folder.path, folder / CHECKPOINT))
    assert again.steps == 0
    assert again.value.item() == 0.5**5


def test_a_checkpoint_of_another_fit_is_refused(folder: RunFolder) -> None:
    run(Halving(), folder, request(2))
    other = Halving()
    other.more = torch.nn.Parameter(torch.zeros(3))
    with pytest.raises(DataError, match="it does not belong to this fit"):
        run(other, RunFolder(folder.path, folder / CHECKPOINT))


def test_a_damaged_checkpoint_is_refused(folder: RunFolder) -> None:
    (folder / CHECKPOINT).write_bytes(b"not a checkpoint")
    with pytest.raises(DataError, match="overwrite=true to start again"):
        run(Halving(), RunFolder(folder.path, folder / CHECKPOINT))


def test_a_full_disk_costs_the_checkpoints_alone(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", full)
    module = Halving()
    _, said = run(module, folder)
    assert module.converged
    complaints = [text for text in said if "No space left on device" in text and "the fit goes on" in text]
    assert len(complaints) == 1  # of five


def test_metrics_are_logged_as_csv_when_asked(folder: RunFolder) -> None:
    run(Halving(), folder, request(logger="csv"))
    (path,) = folder.path.glob("logs/version_0/metrics.csv")
    assert len(path.read_text().splitlines()) == 6


def test_an_absent_logger_or_accelerator_is_an_error_that_says_what_to_do(folder: RunFolder) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="Use auto or cpu"):
            run(Halving(), folder, request(accelerator="cuda"))
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match="Install tensorboard"):
            run(Halving(), folder, request(logger="tensorboard"))


def test_lightnings_noise_is_silenced_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    with quiet():
        logger.warning("GPU available: False, used: False")
        logger.warning("something that matters")
        warnings.warn("The 'train_dataloader' does not have many workers which may be a bottleneck", stacklevel=1)
        with pytest.raises(UserWarning, match="that matters"):  # warnings are errors in these tests
            warnings.warn("a warning that matters", stacklevel=1)
    logger.warning("GPU available: shown again outside")
    texts = [record.getMessage() for record in caplog.records]
    assert texts == ["something that matters", "GPU available: shown again outside"]


def test_a_bar_on_a_terminal_lines_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal, kind in ((True, IterationBar), (False, IterationLines)):
        monkeypatch.setattr("sys.stdout.isatty", lambda terminal=terminal: terminal)
        (display,) = progress(TrainerSettings(), Journal())
        assert isinstance(display, kind)
    assert progress(TrainerSettings(progress="none"), Journal()) == []


def test_the_bar_runs_over_iterations_with_loss_and_rms_in_pixels(
    folder: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    run(Halving(), folder, request(progress="bar"))
    printed = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out)  # without colours
    assert " 5/20 " in printed
    assert "rms: 0.062 px" in printed


def test_metrics_are_shown_with_their_units() -> None:
    assert shown_metrics({"loss": 1234.5678, "rms_px": 0.12345, "other": 1.0}) == {
        "loss": "loss 1234.6",
        "rms_px": "rms 0.123 px",
    }


@pytest.mark.parametrize(
    ("variable", "value", "first"), [("LOCAL_RANK", "1", False), ("SLURM_PROCID", "0", True), ("", "", True)]
)
def test_the_first_process_is_known_before_lightning_starts(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, *, first: bool
) -> None:
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, value)
    assert is_first() is first


def test_a_further_process_shares_the_folder_that_the_first_has_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with claim(tmp_path, resume=True):
        monkeypatch.setenv("LOCAL_RANK", "1")
        with claim(tmp_path) as shared:
            assert shared.path == tmp_path
