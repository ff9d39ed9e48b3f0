"""``python -m nbtorch.doctor``: what works on this machine, what serves which call, and how to get the rest."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from nbtorch import __version__
from nbtorch.kernels.gpu import serves
from nbtorch.kernels.native import library

# Of each package: what it is for, and what brings it.
PACKAGES = {
    "torch": ("everything", "pip install torch"),
    "numpy": ("everything", "pip install numpy"),
    "gemmi": ("cells, symmetry, MTZ and CIF", "pip install gemmi"),
    "fabio": ("frames of most detectors", "pip install fabio"),
    "h5py": ("HDF5 and NXmx frames", "pip install h5py"),
    "hdf5plugin": ("compressed HDF5 frames", "pip install hdf5plugin"),
    "pycbf": ("packed imgCIF frames", "pip install 'nbtorch[cbf]'"),
    "pytorch-lightning": ("nb-refine", "pip install 'nbtorch[refine]'"),
    "hydra-core": ("nb-refine", "pip install 'nbtorch[refine]'"),
    "scipy": ("nb-refine", "pip install 'nbtorch[refine]'"),
}
NEEDED = ("torch", "numpy", "gemmi", "fabio", "h5py", "hdf5plugin")


class Line(NamedTuple):
    """One thing that was looked at: ``ok`` None where it is neither good nor bad; ``remedy`` how to get it."""

    name: str
    ok: bool | None
    found: str
    remedy: str = ""


def examine() -> list[Line]:
    """Everything that is looked at, in the order in which it is printed. Nothing is computed."""
    return [*_machine(), *_packages(), *_kernels(), *_gpu(), *_serving()]


def _machine() -> Iterator[Line]:
    yield Line("nbtorch", None, __version__)
    yield Line("Python", sys.version_info >= (3, 11), platform.python_version(), "Python 3.11 or newer is needed")
    yield Line("machine", None, f"{platform.system()} {platform.machine()}")


def _packages() -> Iterator[Line]:
    for name, (purpose, remedy) in PACKAGES.items():
        try:
            yield Line(name, True, f"{version(name)} ({purpose})")
        except PackageNotFoundError:
            yield Line(name, False if name in NEEDED else None, f"not there ({purpose})", remedy)


def _kernels() -> Iterator[Line]:
    compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    yield Line("C compiler", None, compiler or "none on PATH (only needed to compile the kernels)")
    if not library.AVAILABLE:
        yield Line("C kernels", False, library.WHY_ABSENT, library.HOW_TO_GET_IT)
        return
    sets = library.instruction_sets()
    current = library.require().nbt_current_set().decode()
    others = ", ".join(name for name, runs in sets.items() if not runs)
    yield Line("C kernels", True, f"compiled; {current} is used" + (f" (not run here: {others})" if others else ""))


def _gpu() -> Iterator[Line]:
    import torch

    yield Line("threads", None, f"{torch.get_num_threads()} (torch.set_num_threads, OMP_NUM_THREADS)")
    if not torch.cuda.is_available():
        built = "this PyTorch is built without CUDA" if torch.version.cuda is None else "no GPU is seen by its driver"
        yield Line("CUDA", None, f"none: {built}", "install a CUDA build of PyTorch (pytorch.org) where there is a GPU")
        return
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        memory = torch.cuda.get_device_properties(index).total_memory / 2**30
        name = torch.cuda.get_device_name(index)
        yield Line(f"CUDA {index}", True, f"{name}, compute capability {major}.{minor}, {memory:.0f} GiB")


def _serving() -> Iterator[Line]:
    import torch

    cpu = "the C kernels" if library.AVAILABLE else "the PyTorch reference, slower"
    yield Line("float32, float64 on the CPU", library.AVAILABLE, f"served by {cpu}")
    if torch.cuda.is_available():
        reason = serves.why_not(torch.device("cuda"))
        twin = "the PyTorch reference, slower"
        by = f"{twin}: {reason}" if reason else "the Triton kernels; rays by the PyTorch reference"
        yield Line("lattice sums on the GPU", not reason, f"served by {by}", serves.HOW_TO_GET_IT)
    yield Line("curved detectors, other types and devices", None, "served by the PyTorch reference")


def report(lines: list[Line]) -> str:
    """The lines as a table; a remedy stands under the line that it mends."""
    width = max(len(line.name) for line in lines)
    marks = {True: "ok", False: "!!", None: "  "}
    printed = []
    for line in lines:
        printed.append(f"{marks[line.ok]} {line.name:<{width}}  {line.found}")
        if line.remedy and line.ok is not True:
            printed.append(f"   {'':<{width}}  → {line.remedy}")
    return "\n".join(printed)


def main() -> int:
    """Print the report; 1 where something that every call needs is missing, else 0."""
    lines = examine()
    print(report(lines))
    return int(any(line.ok is False and line.name in (*NEEDED, "Python") for line in lines))


if __name__ == "__main__":
    sys.exit(main())
