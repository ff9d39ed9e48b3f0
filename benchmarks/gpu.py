"""What a card does: the kernels against the CPU, and their speed. Self-contained; at most four minutes.

    python benchmarks/gpu.py --json OUT.json

Writes one JSON: card and versions; the worst difference of value and gradient from the CPU; the time of 1024² pixels
with 10 to 1,000 mosaic domains (N = 5, square, one source), forward and with the gradient, in float32 and float64;
and peak memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nbtorch.config import LatticeSettings
from nbtorch.functional.lattice import shape_metric
from nbtorch.functional.rotation import rotation_matrix
from nbtorch.kernels import lattice_sum
from nbtorch.kernels.gpu import serves

DOMAINS = (10, 100, 1000)
SIDE = 1024
CELLS = 5.0
AXIS = 100.0  # Å
REPEATS = 5


def scene(domains: int, side: int, dtype: torch.dtype, device: torch.device) -> list[torch.Tensor]:
    """Rays of side² pixels of 0.1 mm at 100 mm, one source of 1 Å, ``domains`` orientations within 0.5°."""
    generator = torch.Generator().manual_seed(1)
    along = (torch.arange(side, dtype=torch.float64) - side / 2 + 0.5) * 0.1
    rays = torch.cartesian_prod(torch.tensor([100.0], dtype=torch.float64), along, along)
    turns = torch.randn(domains, 3, dtype=torch.float64, generator=generator) * 0.5 * torch.pi / 180
    upright = AXIS * torch.eye(3, dtype=torch.float64)
    n_cells = torch.full((3,), CELLS, dtype=torch.float64)
    tensors = (
        rays / rays.norm(dim=-1, keepdim=True),
        torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64),
        torch.ones(1, dtype=torch.float64),
        upright @ rotation_matrix(turns).transpose(-1, -2),
        n_cells,
        shape_metric("square", n_cells, torch.linalg.inv(upright).transpose(-1, -2), 1.0),
        torch.full((domains,), 1 / domains, dtype=torch.float64),
    )
    return [tensor.to(device=device, dtype=dtype) for tensor in tensors]


def image(tensors: list[torch.Tensor]) -> torch.Tensor:
    """The lattice sum of every pixel, F = 100 everywhere."""
    *geometry, weight = tensors
    return lattice_sum(*geometry, None, weight, LatticeSettings(default_F=100.0))


def seconds(work: Callable[[], Any]) -> float:
    """The median of REPEATS runs, after one that compiles."""
    times = []
    for _ in range(REPEATS + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def agreement(device: torch.device) -> dict[str, float]:
    """The largest difference from the CPU, in units of the largest value: of the image and of each gradient."""
    found = {}
    for dtype in (torch.float64, torch.float32):
        results = []
        for where in (torch.device("cpu"), device):
            leaves = [tensor.requires_grad_() for tensor in scene(3, 256, dtype, where)]
            value = image(leaves)
            moved = torch.autograd.grad(value.sum(), leaves, materialize_grads=True)
            results.append([value.detach().cpu(), *(g.cpu() for g in moved)])
        pairs = zip(*results, strict=True)
        found[_name(dtype)] = max(float((a - b).abs().max() / a.abs().max().clamp_min(1e-300)) for a, b in pairs)
    return found


def speed(domains: int, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Seconds forward and with the gradient, samples a second, and peak memory."""
    torch.cuda.reset_peak_memory_stats()
    leaves = scene(domains, SIDE, dtype, device)
    forward = seconds(lambda: image(leaves))
    leaves = [tensor.requires_grad_() for tensor in leaves]
    whole = seconds(lambda: torch.autograd.grad(image(leaves).sum(), leaves, materialize_grads=True))
    rate = SIDE**2 * domains / forward
    row = {"domains": domains, "dtype": _name(dtype), "forward_s": forward, "with_gradient_s": whole}
    return row | {"samples_per_s": rate, "peak_bytes": torch.cuda.max_memory_allocated()}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def main() -> int:
    """Measure, print, and write the JSON; 1 where there is no card that serves."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write everything there")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("gpu.py: no CUDA device is seen; python -m nbtorch.doctor says why")
        return 1
    device = torch.device("cuda")
    reason = serves.why_not(device)
    if reason:
        print(f"gpu.py: {reason}. {serves.HOW_TO_GET_IT}")
        return 1
    found: dict[str, Any] = {"card": torch.cuda.get_device_name(device), "torch": torch.__version__}
    found |= {"capability": torch.cuda.get_device_capability(device), "cuda": torch.version.cuda}
    found |= {"agreement": agreement(device), "speed": []}
    print(f"{found['card']}: worst difference from the CPU {found['agreement']}")
    for dtype in (torch.float32, torch.float64):
        for domains in DOMAINS:
            row = speed(domains, dtype, device)
            found["speed"].append(row)
            times = f"{1e3 * row['forward_s']:8.2f} ms, with gradient {1e3 * row['with_gradient_s']:8.2f} ms"
            print(f"{row['dtype']} {domains:5d} domains: {times}, {row['samples_per_s'] / 1e9:6.1f}e9 samples/s")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
