"""Several processes may share one fit: the first of them talks and writes."""

from __future__ import annotations

import os

# Who sets them: torchrun and Lightning's own launcher; SLURM.
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")


def is_first() -> bool:
    """Whether this process is the one that writes the results, known before Lightning has started."""
    rank = next((os.environ[name] for name in RANKS if name in os.environ), "0")
    return rank == "0"


def silent(text: str) -> None:
    """Say nothing."""
