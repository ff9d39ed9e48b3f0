"""``python benchmarks/run.py [claim ...] [--smaller N] [--threads N]``: print tables, write JSON to results/."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from benchmarks import (
    against_nanobragg,
    basin,
    closed_form,
    culling,
    kernel_cost,
    many_frames,
    memory,
    scaling,
    threads,
)
from benchmarks.measuring import machine, table, write

CLAIMS: dict[str, Callable[[int], list[dict[str, Any]]]] = {
    "kernel_cost": lambda _: kernel_cost.run(),
    "against_nanobragg": against_nanobragg.run,
    "threads": threads.run,
    "culling": culling.run,
    "closed_form": closed_form.run,
    "scaling": lambda _: scaling.run(),
    "memory": lambda smaller: memory.run((512 // smaller, 1024 // smaller)),
    "many_frames": lambda _: many_frames.run(),
    "basin": lambda smaller: basin.run(100 // smaller),
}


def main() -> None:
    """Run the claims named, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("claims", nargs="*", help=f"of {', '.join(CLAIMS)}; by default all")
    parser.add_argument(
        "--smaller", type=int, default=1, help="divide the side of the detectors, or the number of starts, by this"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of both programs")
    chosen = parser.parse_args()
    if unknown := set(chosen.claims) - set(CLAIMS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; the claims are {', '.join(CLAIMS)}")
    torch.set_num_threads(chosen.threads)
    print(machine())
    for name in chosen.claims or CLAIMS:
        rows = CLAIMS[name](chosen.smaller)
        written = write(f"{name}_{chosen.threads}", rows)
        if name == "scaling":
            print(f"→ {scaling.plot(rows)}")
        print(f"\n{name}\n{table(rows)}\n→ {written}")


if __name__ == "__main__":
    main()
