"""Several processes may share one fit: each holds some of the experiments, all hold the same values and decide alike.

Everything they tell each other is small (spots, normal equations, sums) and goes through :func:`exchange`. Where there
is one process each function here returns what it was given.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from nbtorch.errors import ConfigError, NbtorchError

if TYPE_CHECKING:
    from torch import Tensor  # which takes seconds to import: a mistyped setting is told before that

T = TypeVar("T")
# Who sets them: torchrun; SLURM. Lightning's own launcher numbers the processes of a node, and the nodes.
RANKS = ("RANK", "SLURM_PROCID")
LOCAL_RANKS = ("LOCAL_RANK", "NODE_RANK")
_GLOO: list[Any] = []  # the group that talks, once the processes have met
# For a process whose frames are slower to read. One that has died is noticed at once, by its closed connection.
_PATIENCE = timedelta(hours=6)


@dataclass(frozen=True)
class _Failure:
    """What a process tells the others in the place of what they wait for."""

    error: NbtorchError


def refuse_other_number(asked: int) -> None:
    """Raises ConfigError where srun or torchrun started another number of processes than the ``asked`` one."""
    started = {"srun": os.environ.get("SLURM_STEP_NUM_TASKS", "1"), "torchrun": "1"}
    if "TORCHELASTIC_RUN_ID" in os.environ:
        started["torchrun"] = os.environ.get("WORLD_SIZE", "1")
    for launcher, number in started.items():
        if number not in ("1", str(asked)):
            raise ConfigError(
                f"{launcher} started {number} processes",
                f"the fit was told of {asked}: each would do the whole of it",
                "Give trainer=ddp, trainer.devices= the processes of a node and trainer.num_nodes= the nodes",
            )


def meet() -> None:
    """Make ready to talk, once torch.distributed has been started: a group for the CPU, whatever the fit runs on."""
    import torch.distributed

    if torch.distributed.is_initialized() and not _GLOO:
        _GLOO.append(torch.distributed.new_group(backend="gloo", timeout=_PATIENCE))


def count() -> int:
    """How many processes share the fit."""
    return _GLOO[0].size() if _GLOO else 1


def rank() -> int:
    """The number of this process among them."""
    return _GLOO[0].rank() if _GLOO else 0


def is_first() -> bool:
    """Whether this process is the one that talks and writes, known before the processes have met."""
    if _GLOO:
        return rank() == 0
    given = next((os.environ[name] for name in RANKS if name in os.environ), None)
    ranks = [given] if given is not None else [os.environ.get(name, "0") for name in LOCAL_RANKS]
    return all(number == "0" for number in ranks)


def silent(text: str) -> None:
    """Say nothing."""


def exchange(mine: T) -> list[T]:
    """What each process gives, in the order of the processes.

    Raises the NbtorchError that one of them met instead: the first process raises it, the others leave (SystemExit).
    """
    if not _GLOO:
        return [mine]
    import torch.distributed

    told: list[Any] = [None] * count()
    torch.distributed.all_gather_object(told, mine, group=_GLOO[0])
    failure = next((item for item in told if isinstance(item, _Failure)), None)
    if failure is not None:
        first = is_first()
        _GLOO.clear()  # they part: nothing more is asked of anybody
        raise failure.error if first else SystemExit(0)
    return told


@contextmanager
def failing_together() -> Iterator[None]:
    """Around all that the processes do together: an NbtorchError of one reaches the first, and ends every one.

    A process that fails tells so when the others next ask it for something; else they would wait for ever.
    """
    try:
        yield
    except NbtorchError as error:
        exchange(_Failure(error))  # raises, where the others have not been told
        raise


def dealt(items: Sequence[T]) -> list[T]:
    """This process's share of ``items``: every nth."""
    return list(items[rank() :: count()])


def gathered(mine: Mapping[int, T]) -> dict[int, T]:
    """What all processes have, by number and in the order of the numbers."""
    if not _GLOO:
        return dict(sorted(mine.items()))
    return dict(sorted(pair for part in exchange(dict(mine)) for pair in part.items()))


def listed(mine: Sequence[T]) -> list[T]:
    """The items of all processes, those of the first process first."""
    return [item for part in exchange(list(mine)) for item in part]


def total(mine: Tensor) -> Tensor:
    """The sum of a tensor over the processes, to the last bit the same in all of them."""
    first, *others = exchange(mine)
    return sum(others, start=first)


def total_number(mine: float) -> float:
    """The sum of a number over the processes."""
    return sum(exchange(mine))


def agreed(mine: T) -> T:
    """What the first process holds: processors round differently, and what is decided must be decided once."""
    return exchange(mine)[0]
