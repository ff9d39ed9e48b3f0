"""What holds for every test: seeded generators, one thread in each worker, no display, an untouched default dtype."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import numpy as np
import pytest

os.environ.setdefault("MPLBACKEND", "Agg")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # workers share the cores; set before torch is imported

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before Triton is imported: the GPU kernels run on CPU tensors

from tests.helpers.c_reference import c_program as c_program

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)

SEED = 20240229


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Each test draws the same numbers, whichever tests ran before it."""
    random.seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002  libraries under test may draw from the global generator
    torch.manual_seed(SEED)


@pytest.fixture(autouse=True)
def _torch_state_is_restored() -> Iterator[None]:
    """A test that changes torch's global state does not change the next one's."""
    dtype, threads, anomaly = torch.get_default_dtype(), torch.get_num_threads(), torch.is_anomaly_enabled()
    yield
    torch.set_default_dtype(dtype)
    torch.set_num_threads(threads)
    torch.autograd.set_detect_anomaly(anomaly)


@pytest.fixture
def float64() -> Iterator[None]:
    """Literals in the test become float64 tensors."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def rng() -> np.random.Generator:
    """A numpy generator, the same in every run."""
    return np.random.default_rng(SEED)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device in turn; CUDA skips where there is none."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)
