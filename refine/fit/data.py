"""The Lightning data module: one item, the whole problem, since every iteration looks at all shoeboxes."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from refine.fit.problem import Problem


class _Experiments(Dataset[torch.Tensor]):
    """One item: the numbers of all experiments. Their shoeboxes stay where they are, in the objective."""

    def __init__(self, count: int) -> None:
        self.numbers = torch.arange(count)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.numbers


class ShoeboxData(pl.LightningDataModule):
    """Deals out the experiments of a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.problem = problem

    def train_dataloader(self) -> DataLoader[torch.Tensor]:
        """One batch an epoch: the numbers [1, experiments] of all experiments."""
        return DataLoader(_Experiments(len(self.problem.evidence)), batch_size=1, num_workers=0)
