"""The Lightning module of a fit: its parameters, and one iteration of the plain loop a training step."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from refine.fit.loop import Loop
from refine.fit.problem import Problem


class FitModule(pl.LightningModule):
    """Lightning's view of a :class:`refine.fit.loop.Loop`: every training step is one iteration over all shoeboxes.

    Optimization is manual: the default solver is Levenberg–Marquardt, which wants the Jacobian and not a gradient. A
    checkpoint holds the values each stage began with, from which its shoeboxes are made again.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.loop = Loop(problem)
        self.parameters_ = problem.parameters

    @property
    def converged(self) -> bool:
        """Whether there is nothing left to do."""
        return self.loop.converged

    @property
    def message(self) -> str:
        """How the fit ended."""
        return self.loop.message

    @message.setter
    def message(self, text: str) -> None:
        self.loop.message = text

    def configure_optimizers(self) -> None:
        """None: the solver is the loop's own."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """One iteration."""
        row = self.loop.iterate()
        assert row.rms_fast_px is not None
        assert row.rms_slow_px is not None
        self.log("loss", row.loss)
        self.log("rms_px", (row.rms_fast_px**2 + row.rms_slow_px**2) ** 0.5, prog_bar=True)
        self.log("damping", row.damping or 0.0)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Plain numbers and tensors only: loadable with weights_only=True."""
        checkpoint["nbtorch"] = self.loop.plain()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on where the checkpoint stood."""
        self.loop.restore(checkpoint["nbtorch"])
